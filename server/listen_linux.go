package server

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// setUserTimeout bounds how long written data may stay unacknowledged before the kernel gives the connection up (RFC
// 5482). Sockets inherit it from the listener that accepts them.
func setUserTimeout(_, _ string, raw syscall.RawConn) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(userTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
