package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
)

// What bbolt 1 writes, in the machine's own byte order. A page begins with id 8, flags 2, count 2, overflow 4; so many
// elements of 16 follow, and what they point to. Two pages in front hold a meta each, and the newer whole one counts.
const (
	pageHead    = 16
	elementSize = 16
	metaSize    = 64

	branchPage = 0x01
	leafPage   = 0x02
	freePage   = 0x10

	bucketElement = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2

	noFreePage = ^uint64(0) // in place of a list of free pages: there is none

	maxDepth = 24 // of branches; a whole file of this size has no more than six
)

var order = binary.NativeEndian

// boltFile reads a bbolt file without trusting a byte of it. bbolt itself believes what it finds: it follows a length or
// a page number out of its memory map, and looks through the branches in a goroutine of its own whose panic nobody can
// catch. So every page that it may ever look at is walked here first.
type boltFile struct {
	f        io.ReaderAt
	pageSize int64
	pages    uint64 // those in use, and those that were, lie below
	txid     uint64
	root     uint64 // the page of the bucket of buckets
	free     uint64 // the page of the list of free pages, or noFreePage
	claimed  []bool // pages by number, once something refers to them
}

// openBolt reads the meta that counts.
func openBolt(f *os.File) (*boltFile, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := &boltFile{f: f}
	for _, at := range metaPlaces(info.Size()) {
		if err := b.tryMeta(at); err != nil {
			return nil, err
		}
	}
	switch {
	case b.pageSize == 0:
		return nil, fmt.Errorf("%w: neither of its two roots is whole", ErrDamaged)
	case b.pages > uint64(info.Size()/b.pageSize):
		return nil, fmt.Errorf("%w: %d bytes of %d are left of the file", ErrDamaged, info.Size(), b.pages*uint64(b.pageSize))
	}
	b.claimed = make([]bool, b.pages)
	return b, b.claim(0, 2)
}

// metaPlaces returns where metas may lie: at the start, and after the first page, whose size is known from a meta only.
func metaPlaces(size int64) (at []int64) {
	at = []int64{0}
	for page := int64(1024); page <= 64<<10 && page+metaSize+pageHead <= size; page *= 2 {
		at = append(at, page)
	}
	return at
}

// tryMeta takes over the meta of the page at this offset, if there is a whole one that is newer.
func (b *boltFile) tryMeta(at int64) error {
	page := make([]byte, pageHead+metaSize)
	if _, err := b.f.ReadAt(page, at); errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	m := page[pageHead:]
	sum := fnv.New64a()
	_, _ = sum.Write(m[:56]) // never fails
	size := int64(order.Uint32(m[8:]))
	if order.Uint32(m) != boltMagic || order.Uint32(m[4:]) != boltVersion || order.Uint64(m[56:]) != sum.Sum64() ||
		at != 0 && size != at || size < 1024 || b.pageSize != 0 && size != b.pageSize {
		return nil
	}
	if txid := order.Uint64(m[48:]); b.pageSize == 0 || txid > b.txid {
		b.pageSize, b.txid = size, txid
		b.root, b.free, b.pages = order.Uint64(m[16:]), order.Uint64(m[32:]), order.Uint64(m[40:])
	}
	return nil
}

// claim notes that pages are used for one thing.
func (b *boltFile) claim(id, n uint64) error {
	if id >= b.pages || n > b.pages-id {
		return fmt.Errorf("%w: page %d lies beyond the end", ErrDamaged, id)
	}
	for i := id; i < id+n; i++ {
		if b.claimed[i] {
			return fmt.Errorf("%w: page %d is used twice", ErrDamaged, i)
		}
		b.claimed[i] = true
	}
	return nil
}

// page reads a page with what overflows from it.
func (b *boltFile) page(id uint64) ([]byte, error) {
	if err := b.claim(id, 1); err != nil {
		return nil, err
	}
	page := make([]byte, b.pageSize)
	if err := b.read(page, id); err != nil {
		return nil, err
	}
	if order.Uint64(page) != id {
		return nil, fmt.Errorf("%w: page %d says that it is %d", ErrDamaged, id, order.Uint64(page))
	}
	more := uint64(order.Uint32(page[12:]))
	if more == 0 {
		return page, nil
	}
	if err := b.claim(id+1, more); err != nil {
		return nil, err
	}
	rest := make([]byte, b.pageSize*int64(1+more))
	copy(rest, page)
	return rest, b.read(rest[b.pageSize:], id+1)
}

func (b *boltFile) read(into []byte, id uint64) error {
	if _, err := b.f.ReadAt(into, int64(id)*b.pageSize); err != nil {
		return fmt.Errorf("read page %d: %w", id, err)
	}
	return nil
}

// element is one of a page: of a leaf a key with its value, of a branch a page with the first key in it.
type element struct {
	bucket bool
	child  uint64
	key    []byte
	value  []byte
}

// elements takes a leaf's or branch's elements out of a page.
func elements(page []byte) (branch bool, out []element, err error) {
	bad := func(what string) (bool, []element, error) {
		return false, nil, fmt.Errorf("%w: page %d: %s", ErrDamaged, order.Uint64(page), what)
	}
	switch order.Uint16(page[8:]) {
	case branchPage:
		branch = true
	case leafPage:
	default:
		return bad("neither leaf nor branch")
	}
	n := int(order.Uint16(page[10:]))
	data := pageHead + n*elementSize
	if data > len(page) || branch && n == 0 {
		return bad("too short for what is in it")
	}
	out = make([]element, n)
	for i := range out {
		at := pageHead + i*elementSize
		raw, e := page[at:], &out[i]
		var from, keyEnd, end int64
		if branch {
			from = int64(at) + int64(order.Uint32(raw))
			keyEnd = from + int64(order.Uint32(raw[4:]))
			end, e.child = keyEnd, order.Uint64(raw[8:])
		} else {
			from = int64(at) + int64(order.Uint32(raw[4:]))
			keyEnd = from + int64(order.Uint32(raw[8:]))
			end = keyEnd + int64(order.Uint32(raw[12:]))
			e.bucket = order.Uint32(raw) == bucketElement
			if flags := order.Uint32(raw); flags&^bucketElement != 0 {
				return bad("unknown flags")
			}
		}
		if from < int64(data) || end > int64(len(page)) || keyEnd == from {
			return bad("points out of itself")
		}
		e.key, e.value = page[from:keyEnd], page[keyEnd:end]
		if i > 0 && bytes.Compare(out[i-1].key, e.key) >= 0 {
			return bad("keys out of order")
		}
	}
	return branch, out, nil
}

// walk visits the elements of all leaves below a page, in order. What it visits is valid until it returns.
func (b *boltFile) walk(root uint64, visit func(element) error) error {
	return b.descend(root, nil, nil, 0, visit)
}

// descend walks the part of a tree whose first key must be least, unless that is nil, and whose others come before limit.
func (b *boltFile) descend(id uint64, least, limit []byte, depth int, visit func(element) error) error {
	page, err := b.page(id)
	if err != nil {
		return err
	}
	branch, list, err := elements(page)
	if err != nil {
		return err
	}
	if n := len(list); depth > maxDepth || n == 0 && depth > 0 ||
		n > 0 && (least != nil && !bytes.Equal(list[0].key, least) || limit != nil && bytes.Compare(list[n-1].key, limit) >= 0) {
		return fmt.Errorf("%w: page %d does not belong where it is", ErrDamaged, id)
	}
	for i, e := range list {
		if !branch {
			err = visit(e)
		} else {
			end := limit
			if i+1 < len(list) {
				end = list[i+1].key
			}
			err = b.descend(e.child, e.key, end, depth+1, visit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// walkBucket visits a bucket's records, given the value that stands for it among the buckets.
func (b *boltFile) walkBucket(value []byte, visit func(element) error) (sequence uint64, err error) {
	if len(value) < 16 {
		return 0, fmt.Errorf("%w: a bucket is cut off", ErrDamaged)
	}
	root, sequence := order.Uint64(value), order.Uint64(value[8:])
	flat := func(e element) error {
		if e.bucket {
			return fmt.Errorf("%w: a bucket where a record belongs", ErrDamaged)
		}
		return visit(e)
	}
	if root != 0 {
		if len(value) != 16 {
			return 0, fmt.Errorf("%w: a bucket is too long", ErrDamaged)
		}
		return sequence, b.walk(root, flat)
	}
	inline := value[16:] // a small bucket's only page
	if len(inline) < pageHead {
		return 0, fmt.Errorf("%w: a bucket is cut off", ErrDamaged)
	}
	branch, list, err := elements(inline)
	if branch {
		err = fmt.Errorf("%w: a branch within a bucket's value", ErrDamaged)
	}
	for _, e := range list {
		if err == nil {
			err = flat(e)
		}
	}
	return sequence, err
}

// verifyFree checks the list of free pages. Only a file that was made and never used has one.
func (b *boltFile) verifyFree() error {
	if b.free == noFreePage {
		return nil
	}
	page, err := b.page(b.free)
	if err != nil {
		return err
	}
	n := uint64(order.Uint16(page[10:]))
	list := page[pageHead:]
	if order.Uint16(page[8:]) != freePage {
		return fmt.Errorf("%w: page %d is no list of free pages", ErrDamaged, b.free)
	}
	if n == 0xFFFF { // too many for the field
		n, list = order.Uint64(list), list[8:]
	}
	if n > uint64(len(list)/8) {
		return fmt.Errorf("%w: the list of free pages is cut off", ErrDamaged)
	}
	for i := range n {
		if err := b.claim(order.Uint64(list[8*i:]), 1); err != nil {
			return err
		}
	}
	return nil
}
