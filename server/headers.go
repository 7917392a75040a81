package server

import (
	"bytes"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

const (
	// keepHeaders is how many headers each half of the memory holds: some hours of a chain, and how far observers that
	// catch up side by side may be apart.
	keepHeaders = 4096
	// keepHeader is the longest header that is remembered, in bytes; those of today have some 600.
	keepHeader = 1 << 10
)

// headers remembers headers that were read and hashed, because every observer brings the same ones: the bytes are
// compared, which costs a hundredth.
type headers struct{ known recent[schema.Hash, header] }

// header is one whose bytes were found to have its hash.
type header struct {
	raw    []byte
	fields schema.Header
}

// decode is chain.DecodeHeader. The hash that the bytes are said to have is where to look for them, nothing more.
func (h *headers) decode(raw []byte, claim schema.Hash) (schema.Header, error) {
	if known, ok := h.known.find(claim); ok && bytes.Equal(known.raw, raw) {
		return known.fields, nil
	}
	fields, err := chain.DecodeHeader(raw)
	if err == nil && len(raw) <= keepHeader {
		h.known.add(fields.Hash, header{raw, fields})
	}
	return fields, err
}
