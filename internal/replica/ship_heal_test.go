package replica

import (
	"errors"
	"strings"
	"testing"
)

func TestWhatIsDamagedIsMadeAgain(t *testing.T) {
	t.Parallel()
	cut := func(body string) string { return body[:len(body)/2] }
	for name, damage := range map[string]func(o *shelf){
		"the last segment":      func(o *shelf) { o.change(testNames.Feed(14), flip) },
		"half the last segment": func(o *shelf) { o.change(testNames.Feed(14), cut) },
		"no last segment":       func(o *shelf) { delete(o.held, testNames.Feed(14)) },
		"the index":             func(o *shelf) { o.change(testNames.Index(), cut) },
		"no index":              func(o *shelf) { delete(o.held, testNames.Index()) },
		"a record before bulk":  func(o *shelf) { o.change(o.keys("test/1/primary/block/")[0], flip) },
		"every record":          func(o *shelf) { damageAll(o, "/block/", flip) },
		"half of every record":  func(o *shelf) { damageAll(o, "/block/", cut) },
		"a live segment":        func(o *shelf) { o.change(testNames.Feed(12), flip) },
		"no first live segment": func(o *shelf) { delete(o.held, testNames.Feed(11)) },
		"the last segment, and its record": func(o *shelf) {
			o.change(testNames.Feed(14), flip)
			damageAll(o, "/block/", flip)
		},
		"the segment to be taken": func(o *shelf) { o.held[testNames.Feed(15)] = "half" },
		"the bulk to be made":     func(o *shelf) { o.held[testNames.Bulk(11)] = "half" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, o := newDrawnFeed().grow(10), newShelf()
			s := newTestShipper(t, f, o, &testClock{})
			shipped(t, s)
			for range 4 {
				f.grow(1)
				shipped(t, s)
			}
			damage(o)
			again := newTestShipper(t, f, o, &testClock{})
			shipped(t, again)
			for range 12 {
				f.grow(1)
				shipped(t, again)
			}
			// What lies before the checkpoint and in a bulk segment is nobody's but a reader's of that one object.
			for _, row := range f.rows[:14] {
				if row.Record != nil {
					again.putRecord(t.Context(), row.Record)
				}
			}
			holdsAll(t, f, o)
		})
	}
}

func TestRowsGoOnThoughSegmentsCannotBePutTogether(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed().grow(2), newShelf()
	s := newTestShipper(t, f, o, &testClock{})
	shipped(t, s)
	f.grow(2)
	shipped(t, s)
	good := []string{o.held[testNames.Feed(1)], o.held[testNames.Feed(3)]}
	for i, first := range []uint64{1, 3} { // with its neighbour nothing tells any more what a segment was
		o.held[testNames.Feed(first)] = flip(good[i])
	}
	f.grow(30)
	for more := true; more; {
		var err error
		if more, err = s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if s.Stats().Seq != 34 || len(o.keys("test/primary/bulk/")) > 0 {
		t.Errorf("shipped up to %d, bulk segments %v", s.Stats().Seq, o.keys("test/primary/bulk/"))
	}
	for i, first := range []uint64{1, 3} {
		o.held[testNames.Feed(first)] = good[i]
	}
	shipped(t, s)
	holdsAll(t, f, o)
	if len(o.keys("test/primary/bulk/")) == 0 {
		t.Error("nothing is put together once it can be")
	}
}

func damageAll(o *shelf, part string, change func(string) string) {
	for _, key := range o.keys("") {
		if strings.Contains(key, part) {
			o.change(key, change)
		}
	}
}

func TestWhatRetentionTookIsShippedAsItWas(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed(), newShelf()
	f.block(1, 10)
	s := newTestShipper(t, f, o, &testClock{})
	o.fault = func(_ int, verb, key string, _ bool) error {
		if verb == "create" && strings.Contains(key, "/feed/") {
			return errCut
		}
		return nil
	}
	if err := s.round(t.Context()); !errors.Is(err, errCut) {
		t.Fatal(err)
	}
	o.fault = nil
	before := *f.rows[0].Record
	at := testTime
	f.rows[0].Record.Payload, f.rows[0].Record.PrunedAt = nil, &at
	shipped(t, newTestShipper(t, f, o, &testClock{}))
	f.rows[0].Record = &before
	holdsAll(t, f, o)
}
