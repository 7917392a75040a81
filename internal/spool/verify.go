package spool

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/firstseen/firstseen/schema"
)

// lockWithin is how long to wait for a lock. A process that ends lets go at once, but one that it was just starting may
// hold the same lock for a moment longer.
const lockWithin = time.Second

// maxFile is the most that the file grows to: frames that suit its pages badly take twice their size, and it grows in
// steps.
func maxFile(frames int64) int64 { return 2*frames + 64<<20 }

// openFile opens the database for writing. It does not keep a list of free pages in the file: after a long outage that
// list alone would be megabytes in every transaction. It is rebuilt from the pages in use instead.
func openFile(path string, create bool) (db *bolt.DB, err error) {
	defer recoverTo(&err)
	_, missing := os.Stat(path)
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWithin, NoFreelistSync: true,
		FreelistType: bolt.FreelistMapType, NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if !create { // one that vanished must not come back empty
				flag &^= os.O_CREATE
			}
			return os.OpenFile(name, flag, mode)
		}})
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrInUse
	}
	if err == nil && missing != nil {
		err = syncDir(filepath.Dir(path))
	}
	return db, err
}

// syncDir makes the name of a new file durable.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, os.ErrInvalid) {
		return err
	}
	return nil
}

// recoverTo turns a panic, which is how bbolt and the memory map tell of a damaged page, into an error.
func recoverTo(err *error) {
	if r := recover(); r != nil { //nolint:revive // it is what callers defer
		*err = fmt.Errorf("%w: %v", errDamaged, r)
	}
}

// verify reads the whole file. The error is errDamaged for a spool that cannot be trusted, errForeign for a file that is
// none. No file at all is well.
func verify(path string) error {
	if err := verifyMagic(path); err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, io.EOF) { // or nothing in it
			return nil
		}
		return err
	}
	db, err := view(path)
	if err != nil {
		return err
	}
	defer db.Close()
	return verifyPages(db)
}

// verifyMagic keeps the hands off files that were never a spool. A page of zeros is what a power failure leaves.
func verifyMagic(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 2*os.Getpagesize())
	n, err := io.ReadFull(f, head)
	if n == 0 {
		return err
	}
	magic := binary.NativeEndian.AppendUint32(nil, 0xED0CDAED) // bbolt's, in both meta pages
	if !bytes.Contains(head[:n], magic) && len(bytes.Trim(head[:n], "\x00")) > 0 {
		return errForeign
	}
	if n < len(head) {
		return fmt.Errorf("%w: only %d bytes are left of the file", errDamaged, n)
	}
	return nil
}

// view opens the file for reading only.
func view(path string) (db *bolt.DB, err error) {
	defer recoverTo(&err)
	db, err = bolt.Open(path, 0o600, &bolt.Options{Timeout: lockWithin, ReadOnly: true, NoStatistics: true})
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return nil, ErrInUse
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch),
		errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("%w: %w", errDamaged, err)
	}
	return db, err
}

// verifyPages visits every page and record. It must not leave this goroutine: a page beyond the end of a file that was
// cut off is a memory fault, which only the goroutine that meets it can survive.
func verifyPages(db *bolt.DB) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer recoverTo(&err)
	return db.View(func(tx *bolt.Tx) error {
		info, err := os.Stat(db.Path())
		if err != nil {
			return err
		}
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: %d bytes of %d are left of the file", errDamaged, info.Size(), tx.Size())
		}
		return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			if !slices.ContainsFunc(buckets, func(known []byte) bool { return bytes.Equal(known, name) }) {
				return fmt.Errorf("%w: it has a bucket named %q", errForeign, name)
			}
			if err := verifyBucket(name, b); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	})
}

func verifyBucket(name []byte, b *bolt.Bucket) error {
	var before []byte
	byBranches := b.Cursor()
	return b.ForEach(func(k, v []byte) error {
		if before != nil && bytes.Compare(before, k) >= 0 {
			return fmt.Errorf("%w: keys out of order", errDamaged)
		}
		if found, _ := byBranches.Seek(k); !bytes.Equal(found, k) {
			return fmt.Errorf("%w: a branch does not lead to its key", errDamaged)
		}
		before = append(before[:0], k...)
		body, err := unseal(k, v)
		if err != nil {
			return err
		}
		return verifyRecord(name, k, body)
	})
}

func verifyRecord(bucket, key, body []byte) (err error) {
	switch string(bucket) {
	case string(entriesBucket):
		_, err = parseEntry(0, body)
	case string(lettersBucket):
		_, err = parseLetter(0, body)
	case string(finishedBucket):
		_, _, err = parseFinished(body)
	case string(gapsBucket):
		var g schema.Gap
		if json.Unmarshal(body, &g) != nil {
			err = errDamaged
		}
	default:
		if bytes.Equal(key, stateKey) {
			_, err = parseState(body)
		}
		return err
	}
	if _, bad := keyNumber(key); bad != nil {
		return bad
	}
	return err
}
