package server

import (
	"bytes"
	"sync"

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
// compared, which costs a hundredth. When the younger half is full it becomes the older one, which is forgotten.
type headers struct {
	mu         sync.Mutex // guards what follows
	young, old map[schema.Hash]header
}

// header is one whose bytes were found to have its hash.
type header struct {
	raw    []byte
	fields schema.Header
}

// decode is chain.DecodeHeader. The hash that the bytes are said to have is where to look for them, nothing more.
func (h *headers) decode(raw []byte, claim schema.Hash) (schema.Header, error) {
	if known, ok := h.find(claim); ok && bytes.Equal(known.raw, raw) {
		return known.fields, nil
	}
	fields, err := chain.DecodeHeader(raw)
	if err == nil && len(raw) <= keepHeader {
		h.add(header{raw, fields})
	}
	return fields, err
}

func (h *headers) find(hash schema.Hash) (header, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known, ok := h.young[hash]; ok {
		return known, true
	}
	known, ok := h.old[hash]
	return known, ok
}

func (h *headers) add(known header) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.young == nil || len(h.young) >= keepHeaders {
		h.old, h.young = h.young, make(map[schema.Hash]header)
	}
	h.young[known.fields.Hash] = known
}
