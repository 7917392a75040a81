package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/firstseen/firstseen/schema"
)

// The buckets, and the keys of the first. Entries and letters are kept under their number, eight bytes big-endian.
var (
	stateBucket    = []byte("state")
	entriesBucket  = []byte("entries")
	lettersBucket  = []byte("letters")
	finishedBucket = []byte("finished") // a ring of Window slots
	gapsBucket     = []byte("gaps")

	stateKey = []byte("state")
	probeKey = []byte("probe")
)

var buckets = [][]byte{stateBucket, entriesBucket, lettersBucket, finishedBucket, gapsBucket}

// version of the layout. A file of a later one is refused, not put aside.
const version = 1

// state is what there is one of.
type state struct {
	Version int         `json:"version"`
	Kind    string      `json:"kind"`
	Chain   uint64      `json:"chain,omitempty"` // 0: not begun
	Start   Start       `json:"start"`
	Dropped uint64      `json:"dropped,omitempty"` // dead letters that made room for newer ones
	Halted  *schema.Gap `json:"halted,omitempty"`  // why the observer stopped for good

	Stock inventory `json:"stock,omitzero"`
}

// inventory is what a file holds, as the last transaction left it. A bit that flips in a page's number may lead to an
// older page that is whole in itself, with records that were right once: this tells.
type inventory struct {
	Tx          uint64 `json:"tx"` // number of that transaction; 0: the file is older than inventories
	First       uint64 `json:"first,omitempty"`
	Last        uint64 `json:"last,omitempty"`
	Entries     int    `json:"entries,omitempty"` // from First to Last
	EntriesEver uint64 `json:"entries_ever,omitempty"`
	GapsEver    uint64 `json:"gaps_ever,omitempty"`
	Finished    uint32 `json:"finished,omitempty"` // checksums of the other records
	Gaps        uint32 `json:"gaps,omitempty"`
	Letters     uint32 `json:"letters,omitempty"`
}

// count adds a record.
func (i *inventory) count(bucket string, key, value []byte) {
	sum := func(of *uint32) {
		*of = crc32.Update(crc32.Update(*of, castagnoli, key), castagnoli, value[:4])
	}
	switch bucket {
	case string(entriesBucket):
		n, _ := keyNumber(key) // a bad one is found out when the record is read
		if i.Entries == 0 {
			i.First = n
		}
		i.Last = n
		i.Entries++
	case string(finishedBucket):
		sum(&i.Finished)
	case string(gapsBucket):
		sum(&i.Gaps)
	case string(lettersBucket):
		sum(&i.Letters)
	}
}

// sequence takes a bucket's counter over.
func (i *inventory) sequence(bucket string, n uint64) {
	switch bucket {
	case string(entriesBucket):
		i.EntriesEver = n
	case string(gapsBucket):
		i.GapsEver = n
	}
}

// takeStock draws up what a transaction leaves. How many entries there are it is told: to count them takes too long.
func takeStock(tx *bolt.Tx, entries int) (inventory, error) {
	i := inventory{Tx: uint64(tx.ID())}
	for _, name := range [][]byte{finishedBucket, gapsBucket, lettersBucket} {
		err := tx.Bucket(name).ForEach(func(k, v []byte) error {
			if len(v) < 4 {
				return ErrDamaged
			}
			i.count(string(name), k, v)
			return nil
		})
		if err != nil {
			return i, err
		}
	}
	i.Entries, i.EntriesEver, i.GapsEver = entries, tx.Bucket(entriesBucket).Sequence(), tx.Bucket(gapsBucket).Sequence()
	if entries > 0 {
		c := tx.Bucket(entriesBucket).Cursor()
		first, _ := c.First()
		last, _ := c.Last()
		var err1, err2 error
		i.First, err1 = keyNumber(first)
		i.Last, err2 = keyNumber(last)
		return i, errors.Join(err1, err2)
	}
	return i, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal puts a checksum over key and body in front of body.
func seal(key, body []byte) []byte {
	out := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(out, checksum(key, body))
	return append(out, body...)
}

// unseal returns the body, which shares value's memory.
func unseal(key, value []byte) ([]byte, error) {
	if len(value) < 4 || binary.BigEndian.Uint32(value) != checksum(key, value[4:]) {
		return nil, ErrDamaged
	}
	return value[4:], nil
}

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func keyNumber(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, ErrDamaged
	}
	return binary.BigEndian.Uint64(key), nil
}

// An entry's body: height, hash, when it was appended in microseconds, frame.
const entryHead = 8 + 32 + 8

func appendEntry(dst []byte, e Entry) []byte {
	dst = binary.BigEndian.AppendUint64(dst, e.Point.Number)
	dst = append(dst, e.Point.Hash[:]...)
	dst = binary.BigEndian.AppendUint64(dst, uint64(schema.Micros(e.Since)))
	return append(dst, e.Frame...)
}

// parseEntry returns an entry whose frame shares body's memory.
func parseEntry(seq uint64, body []byte) (Entry, error) {
	if len(body) < entryHead {
		return Entry{}, ErrDamaged
	}
	e := Entry{Seq: seq, Since: micros(body[40:]), Frame: body[entryHead:], Size: len(body) - entryHead}
	e.Point.Number = binary.BigEndian.Uint64(body)
	copy(e.Point.Hash[:], body[8:])
	return e, nil
}

func micros(b []byte) time.Time { return schema.FromMicros(int64(binary.BigEndian.Uint64(b))) }

// maxReason bounds what is kept of why an entry failed, in bytes.
const maxReason = 1000

// A letter's body: when it failed, length of the reason, reason, the entry's body.
func appendLetter(dst []byte, l Letter) []byte {
	reason := l.Reason[:min(len(l.Reason), maxReason)]
	dst = binary.BigEndian.AppendUint64(dst, uint64(schema.Micros(l.At)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(reason)))
	dst = append(dst, reason...)
	return appendEntry(dst, l.Entry)
}

func parseLetter(seq uint64, body []byte) (Letter, error) {
	if len(body) < 10 {
		return Letter{}, ErrDamaged
	}
	l := Letter{At: micros(body)}
	n := int(binary.BigEndian.Uint16(body[8:]))
	if len(body) < 10+n {
		return Letter{}, ErrDamaged
	}
	l.Reason = string(body[10 : 10+n])
	var err error
	l.Entry, err = parseEntry(seq, body[10+n:])
	return l, err
}

// A finished block's body: its place in the order of all that were finished, height, hash.
func appendFinished(dst []byte, nth uint64, p schema.Point) []byte {
	dst = binary.BigEndian.AppendUint64(dst, nth)
	dst = binary.BigEndian.AppendUint64(dst, p.Number)
	return append(dst, p.Hash[:]...)
}

func parseFinished(body []byte) (nth uint64, p schema.Point, err error) {
	if len(body) != 8+8+32 {
		return 0, p, ErrDamaged
	}
	p.Number = binary.BigEndian.Uint64(body[8:])
	copy(p.Hash[:], body[16:])
	return binary.BigEndian.Uint64(body), p, nil
}

// parseState refuses what this program does not know.
func parseState(body []byte) (state, error) {
	var s state
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if s.Version != version {
		return s, fmt.Errorf("%w: version %d, this program knows %d", errForeign, s.Version, version)
	}
	return s, nil
}

// errForeign reports a file that is whole but not for this program, so that it must not be touched.
var errForeign = errors.New("not a spool of this program")
