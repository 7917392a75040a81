//go:build !linux

package client

import "syscall"

// userTimeout does nothing: this system has no TCP_USER_TIMEOUT. The silence of the peer is noticed by the reader.
func userTimeout(_, _ string, _ syscall.RawConn) error { return nil }
