package store

import (
	"bytes"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

func TestHeadersAreThoseThatWereOffered(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		with, without := blockOffer("drawer", 1, "a1", "a0"), blockOffer("drawer", 2, "a2", "a1")
		with.HeaderRLP = []byte{0xc3, 0xff, 0x00, 0x27}
		offerAll(t, d.s, with, without, bareOffer("x"))
		got, err := d.s.Headers(t.Context(), testChain, []schema.Key{with.Key, without.Key, bareOffer("x").Key})
		if err != nil || len(got) != 1 || !bytes.Equal(got[with.Key], with.HeaderRLP) {
			t.Errorf("headers %v, %v", got, err)
		}
	})
}
