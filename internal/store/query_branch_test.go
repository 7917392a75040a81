package store

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func TestBranchIsPassedOnInOrderWithHeaders(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		first := blockOffer("drawer", 1, "a1", "a0")
		first.HeaderRLP = []byte{0xc3, 0xff, 0x00, 0x27}
		offerAll(t, d.s, first)
		d.grow("a", 2, 6, "a1")
		d.grow("b", 4, 7, "a3")
		for range 2 {
			d.see("drawer", 7, "b7")
		}
		var got []string
		err := d.s.Branch(t.Context(), testChain, 1, 6, func(h schema.BranchHeader) error {
			got = append(got, fmt.Sprintf("%d %s %x", h.Number, h.Key[:8], h.RLP))
			return nil
		})
		var want []string
		for i, name := range []string{"a1", "a2", "a3", "b4", "b5", "b6"} {
			want = append(want, fmt.Sprintf("%d %s ", i+1, named(name).Key()[:8]))
		}
		want[0] += "c3ff0027"
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v %s", err, diff)
		}
		for number, name := range map[uint64]string{3: "a3", 5: "b5", 7: "b7"} {
			if key, err := d.s.BranchKey(t.Context(), testChain, number); key != named(name).Key() || err != nil {
				t.Errorf("block %d on the branch: %s %v", number, key, err)
			}
		}
		for _, number := range []uint64{0, 8} {
			if key, err := d.s.BranchKey(t.Context(), testChain, number); key != "" || err != nil {
				t.Errorf("block %d on the branch: %s %v", number, key, err)
			}
		}
		stop := errors.New("stop")
		if err := d.s.Branch(t.Context(), testChain, 1, 6, func(schema.BranchHeader) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
	})
}
