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

// recoverTo turns a panic into an error: how bbolt tells of a page that went bad since it was verified, and the memory
// map of one that the disk does not give.
func recoverTo(err *error) {
	if r := recover(); r != nil { //nolint:revive // it is what callers defer
		*err = fmt.Errorf("%w: %v", ErrDamaged, r)
	}
}

// verify reads the whole file. The error is ErrDamaged for a spool that cannot be trusted, errForeign for a file that is
// none. No file at all is well.
func verify(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	err = verifyMagic(f)
	switch {
	case errors.Is(err, io.EOF): // there is nothing in it
		return nil
	case err == nil:
		err = verifyAll(f)
	}
	return err
}

// verifyMagic keeps the hands off files that were never a spool. A page of zeros is what a power failure leaves.
func verifyMagic(f *os.File) error {
	head := make([]byte, 2*os.Getpagesize())
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	magic := binary.NativeEndian.AppendUint32(nil, 0xED0CDAED) // bbolt's, in both meta pages
	if !bytes.Contains(head[:n], magic) && len(bytes.Trim(head[:n], "\x00")) > 0 {
		return errForeign
	}
	if n < len(head) {
		return fmt.Errorf("%w: only %d bytes are left of the file", ErrDamaged, n)
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
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return db, err
}

// verifyAll visits every page and record that bbolt may ever look at.
func verifyAll(f *os.File) error {
	b, err := openBolt(f)
	if err != nil {
		return err
	}
	found := map[string]bool{}
	var got inventory
	var want state
	err = b.walk(b.root, func(e element) error {
		name := string(e.key)
		found[name] = true
		if !e.bucket {
			return fmt.Errorf("%w: a record among the buckets", ErrDamaged)
		}
		sequence, err := b.walkBucket(e.value, func(e element) error {
			body, err := unseal(e.key, e.value)
			if err != nil {
				return err
			}
			if name == string(stateBucket) && bytes.Equal(e.key, stateKey) {
				if want, err = parseState(body); err != nil {
					return err
				}
			}
			got.count(name, e.key, e.value)
			return verifyRecord(name, e.key, body)
		})
		got.sequence(name, sequence)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err == nil {
		err = b.verifyFree()
	}
	if err == nil {
		err = verifyBuckets(found, b.txid)
	}
	got.Tx = b.txid
	if err == nil && want.Stock.Tx != 0 && want.Stock != got {
		err = fmt.Errorf("%w: it holds %+v where %+v was written", ErrDamaged, got, want.Stock)
	}
	return err
}

// unused is the highest transaction of a file that was made, but in which nothing was written.
const unused = 1

// verifyBuckets tells a spool from files of something else, and one that lost a bucket from one that was never used.
func verifyBuckets(found map[string]bool, txid uint64) error {
	var known int
	for _, name := range buckets {
		if found[string(name)] {
			known++
		}
	}
	switch {
	case known == len(buckets) && len(found) == known, len(found) == 0 && txid <= unused:
		return nil
	case known <= 1 && len(found) > known:
		return fmt.Errorf("%w: it has other buckets", errForeign)
	}
	return fmt.Errorf("%w: of its %d buckets %d are there", ErrDamaged, len(buckets), known)
}

func verifyRecord(bucket string, key, body []byte) (err error) {
	switch bucket {
	case string(entriesBucket):
		_, err = parseEntry(0, body)
	case string(lettersBucket):
		_, err = parseLetter(0, body)
	case string(finishedBucket):
		_, _, err = parseFinished(body)
	case string(gapsBucket):
		var g schema.Gap
		if json.Unmarshal(body, &g) != nil {
			err = ErrDamaged
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
