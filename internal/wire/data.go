package wire

import (
	"bytes"
	"errors"
	"math/big"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// MaxContentType is the greatest length of an observation's content type, as the store keeps it.
const MaxContentType = 128

// maxNumber bounds block numbers and chain ids: a signed 64-bit integer is what every language and database holds.
const maxNumber = 1<<63 - 1

// meta is the JSON of a D frame.
type meta struct {
	schema.Observation
	Raw *uint64 `json:"raw,omitempty"` // bytes of the raw part; nil: there is none
}

// ParseData parses a D frame: the observation and, aliasing content, its raw part and the payload. Its error's code is
// meta: a frame that fails is refused, not fatal, so that one bad observation cannot hold up those behind it. That the
// header belongs to the hash, and the raw part to the header, is for the caller to check.
func ParseData(content []byte) (schema.Observation, []byte, error) {
	text, rest, ok := bytes.Cut(content, []byte("\n"))
	if !ok {
		return schema.Observation{}, nil, errorf(CodeMeta, "no line feed behind the JSON")
	}
	var m meta
	if err := decodeTyped(text, TypeData, &m); err != nil {
		return schema.Observation{}, nil, errorf(CodeMeta, "%v", err)
	}
	o, payload := m.Observation, rest
	if m.Raw != nil {
		if *m.Raw == 0 || *m.Raw > uint64(len(rest)) {
			return schema.Observation{}, nil, errorf(CodeMeta, "raw is %d of the %d bytes behind the JSON", *m.Raw, len(rest))
		}
		cut := len(rest) - int(*m.Raw)
		payload, o.Raw = rest[:cut:cut], rest[cut:]
	}
	if err := checkObservation(&o); err != nil {
		return schema.Observation{}, nil, err
	}
	o.ObservedAt = o.ObservedAt.UTC()
	return o, payload, nil
}

// WithoutRaw returns the frame that AppendData makes of the same observation without its raw part: a D frame as it comes
// where that part is not taken. One that has none is returned as it is.
func WithoutRaw(content []byte) ([]byte, error) {
	text, _, _ := bytes.Cut(content, []byte("\n"))
	if !bytes.Contains(text, []byte(`"raw":`)) { // which no string can hold: its quotes would be escaped
		return content, nil
	}
	o, payload, err := ParseData(content)
	if err != nil || o.Raw == nil {
		return content, err
	}
	o.Raw = nil
	return AppendData(nil, o, payload)
}

// AppendData appends a D frame, with the raw part if the observation has one. It fails if the observation would be
// refused or the frame exceeds MaxFrame.
func AppendData(dst []byte, o schema.Observation, payload []byte) ([]byte, error) {
	if err := checkObservation(&o); err != nil {
		return dst, err
	}
	o.ObservedAt = o.ObservedAt.UTC()
	m := meta{Observation: o}
	if size := uint64(len(o.Raw)); size > 0 {
		m.Raw = &size
	}
	out, err := encode(append(dst, TypeData), m)
	if err != nil {
		return dst, err
	}
	out = append(append(append(out, '\n'), payload...), o.Raw...)
	if size := len(out) - len(dst); size > MaxFrame {
		return dst, errorf(CodeSize, "data frame of %d bytes, at most %d", size, MaxFrame)
	}
	return out, nil
}

func checkObservation(o *schema.Observation) error {
	switch {
	case o.Chain == schema.BareChain || o.Chain > maxNumber:
		return errorf(CodeMeta, "chain is not 1 to 2^63-1")
	case len(o.Header) == 0:
		return errorf(CodeMeta, "header is missing")
	case o.Hash.IsZero():
		return errorf(CodeMeta, "hash is missing")
	case !schema.ValidName(o.Node):
		return errorf(CodeMeta, "node is not 1 to 64 of A-Z a-z 0-9 . _ -")
	case !stampable(o.ObservedAt):
		return errorf(CodeMeta, "observed_at is missing or not of the years 1970 to 9999")
	case !validContentType(o.ContentType):
		return errorf(CodeMeta, "content_type is not 1 to %d visible ASCII characters or spaces", MaxContentType)
	case o.Origin != schema.OriginHead && o.Origin != schema.OriginBackfill:
		return errorf(CodeMeta, "origin is neither head nor backfill")
	}
	return checkTransactions(o.Transactions)
}

func stampable(t time.Time) bool {
	year := t.UTC().Year()
	return 1970 <= year && year <= 9999
}

func validContentType(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= MaxContentType
}

func checkTransactions(txs []schema.Transaction) error {
	for i := range txs {
		t := &txs[i]
		switch {
		case t.Hash.IsZero():
			return errorf(CodeMeta, "transaction %d: hash is missing", i)
		case i > 0 && t.Index <= txs[i-1].Index:
			return errorf(CodeMeta, "transaction %d: indexes do not ascend", i)
		case !wei(t.Value):
			return errorf(CodeMeta, "transaction %d: value is not a decimal of 0 to 2^256-1", i)
		case t.Status != nil && *t.Status > 1:
			return errorf(CodeMeta, "transaction %d: status is neither 0 nor 1", i)
		case t.GasUsed != nil && *t.GasUsed > maxNumber:
			return errorf(CodeMeta, "transaction %d: gas_used exceeds 2^63-1", i)
		}
	}
	return nil
}

// wei tells whether s is a decimal without leading zeros that fits in 256 bits.
func wei(s string) bool {
	if len(s) > 78 || !decimal([]byte(s)) {
		return false
	}
	if len(s) < 78 {
		return true
	}
	v, ok := new(big.Int).SetString(s, 10)
	return ok && v.BitLen() <= 256
}

// decodeTyped decodes the JSON object behind a type byte.
func decodeTyped(content []byte, kind byte, v any) error {
	if Type(content) != kind {
		return errors.New("frame of another type")
	}
	return decode(content[1:], v)
}
