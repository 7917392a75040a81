package spool

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

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
	Version int    `json:"version"`
	Kind    string `json:"kind"`
	Chain   uint64 `json:"chain,omitempty"` // 0: not begun
	Start   Start  `json:"start"`
	Dropped uint64 `json:"dropped,omitempty"` // dead letters that made room for newer ones
}

var errDamaged = errors.New("record is damaged")

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
		return nil, errDamaged
	}
	return value[4:], nil
}

func checksum(key, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, body)
}

func numberKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func keyNumber(key []byte) (uint64, error) {
	if len(key) != 8 {
		return 0, errDamaged
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
		return Entry{}, errDamaged
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
		return Letter{}, errDamaged
	}
	l := Letter{At: micros(body)}
	n := int(binary.BigEndian.Uint16(body[8:]))
	if len(body) < 10+n {
		return Letter{}, errDamaged
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
		return 0, p, errDamaged
	}
	p.Number = binary.BigEndian.Uint64(body[8:])
	copy(p.Hash[:], body[16:])
	return binary.BigEndian.Uint64(body), p, nil
}

// parseState refuses what this program does not know.
func parseState(body []byte) (state, error) {
	var s state
	if err := json.Unmarshal(body, &s); err != nil {
		return s, fmt.Errorf("%w: %w", errDamaged, err)
	}
	if s.Version != version {
		return s, fmt.Errorf("%w: version %d, this program knows %d", errForeign, s.Version, version)
	}
	return s, nil
}

// errForeign reports a file that is whole but not for this program, so that it must not be touched.
var errForeign = errors.New("not a spool of this program")
