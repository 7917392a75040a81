//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package spool

import "os"

// lock does nothing here: bbolt's own lock on the file keeps a second process out, save in the moment in which a
// damaged file is put aside.
func lock(path string) (*os.File, error) {
	return os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600)
}
