package replica

import (
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/firstseen/firstseen/schema"
)

// Checkpoint is how far a role is shipped, and by whom. It is the fence: it is changed by compare-and-swap only, so a
// writer that was replaced finds out when it writes.
type Checkpoint struct {
	Format int                 `json:"format"`
	Epoch  uint64              `json:"epoch"`           // one more with every writer
	Holder string              `json:"holder"`          // the writer, for people
	Source string              `json:"source"`          // the epoch of the feed; empty while that has no row
	Seq    uint64              `json:"seq"`             // the last row in a segment
	Link   schema.Hash         `json:"link"`            // the link after it
	First  uint64              `json:"first"`           // the first row of the segment that ends with it
	Prev   schema.Hash         `json:"prev"`            // the link before that segment
	At     time.Time           `json:"at"`              // by the writer's clock; at least every 5 s while it lives
	End    uint64              `json:"end"`             // the last row that the writer's feed has
	Chains []schema.ChainState `json:"chains,omitzero"` // as they stand after row End

	// Sighted is up to when, by the store's clock, it is shipped who else saw records.
	Sighted time.Time `json:"sighted,omitzero"`
}

// EncodeCheckpoint returns a checkpoint as it is stored.
func EncodeCheckpoint(c Checkpoint) ([]byte, error) {
	c.Format, c.At, c.Sighted = Format, c.At.UTC(), c.Sighted.UTC()
	text, err := json.Marshal(&c)
	if err != nil {
		return nil, fmt.Errorf("encode checkpoint: %w", err)
	}
	return append(text, '\n'), nil
}

// DecodeCheckpoint is the inverse of EncodeCheckpoint. Anything else is ErrDamaged.
func DecodeCheckpoint(stored []byte) (Checkpoint, error) {
	var c Checkpoint
	if err := strictly(stored, &c); err != nil {
		return c, fmt.Errorf("decode checkpoint: %w: %w", ErrDamaged, err)
	}
	if c.Format != Format || c.Epoch == 0 || c.End < c.Seq || c.First > c.Seq {
		return c, fmt.Errorf("decode checkpoint: %w: format %d, epoch %d, seq %d of %d", ErrDamaged, c.Format, c.Epoch,
			c.Seq, c.End)
	}
	return c, nil
}

// Index lists the bulk segments: all rows from the first on, in order and without a gap, so that a replica that begins
// need not list keys.
type Index struct {
	Format   int            `json:"format"`
	Segments []IndexSegment `json:"segments"`
}

// IndexSegment is one bulk segment.
type IndexSegment struct {
	First uint64 `json:"first"` // seq of its first row
	Last  uint64 `json:"last"`  // of its last
	Rows  uint64 `json:"rows"`
	Bytes uint64 `json:"bytes"` // as stored
}

// End is the seq of the last row in a bulk segment, 0 while there is none.
func (x *Index) End() uint64 {
	if len(x.Segments) == 0 {
		return 0
	}
	return x.Segments[len(x.Segments)-1].Last
}

// Find returns the bulk segment that holds a row.
func (x *Index) Find(seq uint64) (IndexSegment, bool) {
	i, _ := slices.BinarySearchFunc(x.Segments, seq, func(s IndexSegment, seq uint64) int {
		if s.Last < seq {
			return -1
		}
		return 1
	})
	if i == len(x.Segments) || x.Segments[i].First > seq {
		return IndexSegment{}, false
	}
	return x.Segments[i], true
}

// EncodeIndex returns an index as it is stored.
func EncodeIndex(x *Index) ([]byte, error) {
	x.Format = Format
	text, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("encode index: %w", err)
	}
	return append(text, '\n'), nil
}

// DecodeIndex is the inverse of EncodeIndex; an index with a gap or an overlap is ErrDamaged.
func DecodeIndex(stored []byte) (*Index, error) {
	x := &Index{}
	if err := strictly(stored, x); err != nil {
		return nil, fmt.Errorf("decode index: %w: %w", ErrDamaged, err)
	}
	if x.Format != Format {
		return nil, fmt.Errorf("decode index: %w: format %d", ErrDamaged, x.Format)
	}
	next := uint64(1)
	for _, s := range x.Segments {
		if s.First != next || s.Last < s.First || s.Rows != s.Last-s.First+1 {
			return nil, fmt.Errorf("decode index: %w: segment %d to %d where %d belongs", ErrDamaged, s.First, s.Last, next)
		}
		next = s.Last + 1
	}
	return x, nil
}
