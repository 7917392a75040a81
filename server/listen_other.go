//go:build !linux

package server

import "syscall"

// setUserTimeout does nothing where TCP has no user timeout to set; write deadlines bound the same from above.
func setUserTimeout(_, _ string, _ syscall.RawConn) error { return nil }
