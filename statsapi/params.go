package statsapi

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

const (
	defaultLimit = 20
	maxLimit     = 100
)

// Parameters arrive as text and are read here rather than by huma, whose answer to a bad one is 422 where ours is 400.

// limitParam is how many rows to answer.
type limitParam string

// Schema implements huma.SchemaProvider.
func (limitParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Default: defaultLimit}
}

func (p limitParam) read() (int, error) {
	if p == "" {
		return defaultLimit, nil
	}
	n, ok := decimal(string(p))
	if !ok || n < 1 {
		return 0, badParameter("limit", string(p), "must be a whole number of 1 or more")
	}
	return int(min(n, maxLimit)), nil
}

// pageParam is a page's number, counted from 1.
type pageParam string

// Schema implements huma.SchemaProvider.
func (pageParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0), Default: 1}
}

func (p pageParam) read() (uint64, error) {
	if p == "" {
		return 1, nil
	}
	n, ok := decimal(string(p))
	if !ok || n < 1 {
		return 0, badParameter("page", string(p), "must be a whole number of 1 or more")
	}
	return n, nil
}

// chainParam is a chain id.
type chainParam string

// Schema implements huma.SchemaProvider.
func (chainParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: new(1.0)}
}

// read returns nil if no chain was named.
func (p chainParam) read() (*uint64, error) {
	if p == "" {
		return nil, nil
	}
	n, ok := decimal(string(p))
	if !ok || n < 1 || n > math.MaxInt64 { // what a signed column can hold
		return nil, badParameter("chain", string(p), "must be a chain id: a whole number of 1 or more")
	}
	return &n, nil
}

// decimal reads decimal digits and nothing else. A number too large for 64 bits is the largest.
func decimal(s string) (uint64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}

// The first byte of a cursor: which list it is of, so that what follows can change.
const (
	blockCursor       = 1
	recordCursor      = 3 // 2 is the list of nodes, see nodeCursorVersion
	transactionCursor = 4
)

// sealCursor makes a place opaque: clients must not rely on what it consists of.
func sealCursor(kind byte, place ...uint64) string {
	b := []byte{kind}
	for _, n := range place {
		b = binary.AppendUvarint(b, n)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// openCursor reads a place of the same list into fields.
func openCursor(s string, kind byte, fields ...*uint64) error {
	bad := badParameter("cursor", s, "must be one that an answer of this list gave")
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != kind {
		return bad
	}
	b = b[1:]
	for _, field := range fields {
		v, n := binary.Uvarint(b)
		if n <= 0 || v > math.MaxInt64 {
			return bad
		}
		*field, b = v, b[n:]
	}
	if len(b) > 0 {
		return bad
	}
	return nil
}

func encodeCursor(p schema.BlockPlace) string {
	return sealCursor(blockCursor, p.Number, p.Chain, p.ID)
}

func decodeCursor(s string) (*schema.BlockPlace, error) {
	var p schema.BlockPlace
	return &p, openCursor(s, blockCursor, &p.Number, &p.Chain, &p.ID)
}

func decodeRecordCursor(s string) (*schema.RecordPlace, error) {
	var p schema.RecordPlace
	return &p, openCursor(s, recordCursor, &p.ReceivedAt, &p.ID)
}
