package server

import "golang.org/x/sys/unix"

func userTimeoutOf(fd int) int {
	ms, err := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
	if err != nil {
		return -1
	}
	return ms
}
