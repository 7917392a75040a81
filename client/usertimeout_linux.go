package client

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/firstseen/firstseen/internal/wire"
)

// userTimeout lets the kernel end a connection whose peer does not confirm what was sent (RFC 5482).
func userTimeout(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// Where the kernel refuses, the silence of the peer is noticed by the reader all the same.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(wire.DeadAfter.Milliseconds()))
	})
}
