package replica

import (
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/firstseen/firstseen/schema"
)

// Side is the object beside the segments: what the writer's store has that no row tells. Whoever has an older one misses
// nothing but its news.
type Side struct {
	Format      int    `json:"format"`
	Epoch       uint64 `json:"epoch"` // the fencing number of the writer that made it
	schema.Side `json:",inline"`

	// Sightings are those that wait for a segment, so that they come soon where no row does. They are of records in the
	// rows up to Seq.
	Sightings []schema.ShippedSighting `json:"sightings,omitempty"`
	Seq       uint64                   `json:"seq,omitempty"`
}

// EncodeSide returns a side object as it is stored.
func EncodeSide(s Side) ([]byte, error) {
	s.Format, s.At = Format, s.At.UTC()
	text, err := json.Marshal(&s)
	if err != nil {
		return nil, fmt.Errorf("encode side: %w", err)
	}
	return compress(text)
}

// DecodeSide is the inverse of EncodeSide. Anything else is ErrDamaged.
func DecodeSide(stored []byte) (*Side, error) {
	text, err := decompress(stored, MaxRecord)
	if err != nil {
		return nil, fmt.Errorf("decode side: %w", err)
	}
	s := &Side{}
	if err := strictly(text, s); err != nil {
		return nil, fmt.Errorf("decode side: %w: %w", ErrDamaged, err)
	}
	if s.Format != Format {
		return nil, fmt.Errorf("decode side: %w: format %d", ErrDamaged, s.Format)
	}
	return s, nil
}
