package statsapi

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
)

// exactMax is the largest integer below which a JSON number is exact everywhere (RFC 8259 section 6).
const exactMax = 1 << 53

// Number is a count, height or chain id. In JSON it is a number up to 2^53, above that a string of decimal digits.
type Number uint64

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	digits := strconv.AppendUint(nil, uint64(n), 10)
	if n <= exactMax {
		return digits, nil
	}
	return fmt.Appendf(nil, `"%s"`, digits), nil
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *Number) UnmarshalJSON(text []byte) error {
	if len(text) >= 2 && text[0] == '"' {
		text = text[1 : len(text)-1]
	}
	v, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("not an unsigned integer: %w", err)
	}
	*n = Number(v)
	return nil
}

// Schema implements huma.SchemaProvider.
func (Number) Schema(huma.Registry) *huma.Schema { return numberSchema("integer", "string") }

func numberSchema(types ...string) *huma.Schema {
	return &huma.Schema{
		Description: "An unsigned integer: a JSON number up to 2^53, above that a string of decimal digits.",
		// huma's own field holds a single type.
		Extensions: map[string]any{"type": types, "minimum": 0, "pattern": "^[0-9]+$"},
	}
}

// OptionalNumber is a Number that may be unknown: null in JSON.
type OptionalNumber struct {
	Number Number
	Known  bool
}

func optional(n *uint64) OptionalNumber {
	if n == nil {
		return OptionalNumber{}
	}
	return OptionalNumber{Number: Number(*n), Known: true}
}

// MarshalJSON implements json.Marshaler.
func (n OptionalNumber) MarshalJSON() ([]byte, error) {
	if !n.Known {
		return []byte("null"), nil
	}
	return n.Number.MarshalJSON()
}

// UnmarshalJSON implements json.Unmarshaler.
func (n *OptionalNumber) UnmarshalJSON(text []byte) error {
	if string(text) == "null" {
		*n = OptionalNumber{}
		return nil
	}
	n.Known = true
	return n.Number.UnmarshalJSON(text)
}

// Schema implements huma.SchemaProvider.
func (OptionalNumber) Schema(huma.Registry) *huma.Schema {
	return numberSchema("integer", "string", "null")
}

const timeFormat = "2006-01-02T15:04:05.000000Z"

// Time is a moment in UTC; in JSON it always shows microseconds (RFC 3339).
type Time struct{ time.Time }

// MarshalJSON implements json.Marshaler.
func (t Time) MarshalJSON() ([]byte, error) {
	return json.Marshal(t.UTC().Format(timeFormat))
}

// Schema implements huma.SchemaProvider.
func (Time) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Format: "date-time", Pattern: `^[0-9]{4,}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$`,
		Description: "RFC 3339, UTC, with microseconds.",
	}
}

// OptionalTime is a Time that may be unknown: null in JSON.
type OptionalTime struct{ *Time }

// MarshalJSON implements json.Marshaler.
func (t OptionalTime) MarshalJSON() ([]byte, error) {
	if t.Time == nil {
		return []byte("null"), nil
	}
	return t.Time.MarshalJSON()
}

// UnmarshalJSON implements json.Unmarshaler.
func (t *OptionalTime) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &t.Time) }

// Schema implements huma.SchemaProvider.
func (OptionalTime) Schema(r huma.Registry) *huma.Schema {
	s := Time{}.Schema(r)
	s.Nullable = true
	return s
}
