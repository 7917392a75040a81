package server

import (
	"slices"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// What is remembered helps only who brings the same bytes: a claim alone proves nothing.
func TestRememberedHeadersAreNotBelieved(t *testing.T) {
	t.Parallel()
	var h headers
	raw, hash := headerAt(1)
	other, otherHash := headerAt(2)
	for _, c := range []struct {
		name  string
		raw   []byte
		claim schema.Hash
		want  schema.Hash
	}{
		{"first", raw, hash, hash},
		{"again", slices.Clone(raw), hash, hash},
		{"other bytes under a remembered hash", other, hash, otherHash},
		{"remembered bytes under another hash", raw, otherHash, hash},
	} {
		got, err := h.decode(c.raw, c.claim)
		if err != nil || got.Hash != c.want {
			t.Errorf("%s: %v, %v", c.name, got.Hash, err)
		}
	}
	if _, err := h.decode([]byte{0xc0}, hash); err == nil {
		t.Error("bytes that are no header were taken for one that is remembered")
	}
}

func TestHeadersAreForgottenInTime(t *testing.T) {
	t.Parallel()
	var h headers
	for i := range int64(3*keepHeaders + 1) {
		raw, hash := headerAt(i)
		if _, err := h.decode(raw, hash); err != nil {
			t.Fatal(err)
		}
	}
	if len(h.known.young)+len(h.known.old) > 2*keepHeaders {
		t.Errorf("%d headers remembered", len(h.known.young)+len(h.known.old))
	}
	_, oldest := headerAt(0)
	if _, ok := h.known.find(oldest); ok {
		t.Error("the oldest is still remembered")
	}
	_, newest := headerAt(3 * keepHeaders)
	if _, ok := h.known.find(newest); !ok {
		t.Error("the newest is not remembered")
	}
}
