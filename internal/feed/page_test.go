package feed

import (
	"errors"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

func TestPagesFollowOnEachOther(t *testing.T) {
	t.Parallel()
	source := newTable()
	source.add(blocks(7)...)
	var (
		seqs []uint64
		at   Cursor
	)
	for range 10 {
		events, next, end, err := Page(t.Context(), source, Filter{}, at, 3)
		if err != nil || end.Seq != 7 {
			t.Fatalf("end %v, %v", end, err)
		}
		for _, e := range events {
			seqs = append(seqs, e.Seq)
		}
		at = next
	}
	if len(seqs) != 7 || seqs[6] != 7 || at != (Cursor{Epoch: "e0", Seq: 7}) {
		t.Errorf("seqs %v, at %v", seqs, at)
	}
}

func TestAPageLooksAtSoManyRows(t *testing.T) {
	t.Parallel()
	source := newTable()
	source.add(blocks(pageRows + 10)...)
	rare := Filter{Statuses: []schema.Status{schema.StatusOrphaned}}
	events, next, end, err := Page(t.Context(), source, rare, Cursor{}, 5)
	if err != nil || len(events) != 0 || next.Seq != pageRows || end.Seq != pageRows+10 {
		t.Errorf("%d events, next %v of %v, %v", len(events), next, end, err)
	}
	if _, next, end, err = Page(t.Context(), source, rare, next, 5); err != nil || next != end {
		t.Errorf("next %v of %v, %v", next, end, err)
	}
}

func TestAPageTellsWhatIsGone(t *testing.T) {
	t.Parallel()
	source := newTable()
	if _, next, end, err := Page(t.Context(), source, Filter{}, Cursor{}, 5); err != nil || next != end {
		t.Errorf("empty: next %v of %v, %v", next, end, err)
	}
	source.add(blocks(9)...)
	source.change(func() { source.first = 4 })
	events, _, _, err := Page(t.Context(), source, Filter{}, Cursor{}, 50)
	if err != nil || len(events) != 7 || events[0].Missing == nil || events[0].Missing.To != 3 || events[1].Seq != 4 {
		t.Errorf("%d events, %v", len(events), err)
	}
	for _, at := range []Cursor{{Epoch: "other", Seq: 1}, {Epoch: "e0", Seq: 10}, {Seq: 10}} {
		if _, _, _, err := Page(t.Context(), source, Filter{}, at, 5); !errors.Is(err, ErrOtherFeed) {
			t.Errorf("after %v: %v", at, err)
		}
	}
	source.change(func() { source.err = errors.New("away") })
	if _, _, _, err := Page(t.Context(), source, Filter{}, Cursor{}, 5); err == nil {
		t.Error("a table that cannot be read is no error")
	}
}
