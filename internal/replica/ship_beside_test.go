package replica

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func TestSightingsAreShippedWhenTheyComeLater(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed(), newShelf(), &testClock{}
	s := newTestShipper(t, f, o, clock)
	sees := func(r *schema.ShippedRecord, observer string, at time.Time) {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sightings = append(f.sightings, schema.ShippedSighting{Chain: 1, Key: r.Key, Observer: observer, ReceivedAt: at})
	}
	old := f.block(1, 1)
	for range 11 { // a backlog
		f.block(2, 1)
	}
	sees(old, "with the backlog", time.Unix(0, 0))
	next := func() {
		clock.advance(time.Minute)
		shipped(t, s)
		f.status(old)
		shipped(t, s)
	}
	next()
	recent := f.block(5, 1)
	shipped(t, s)
	sees(recent, "by a server whose clock is off", time.Unix(0, 0))
	sees(old, "long after", f.now())
	next()
	next()
	var got []string
	for _, segment := range readAll(t, o) {
		for _, g := range segment.Sightings {
			got = append(got, g.Observer)
		}
	}
	want := []string{"with the backlog", "by a server whose clock is off", "long after"}
	if !slices.Equal(got, want) {
		t.Errorf("shipped %q, want %q, each once", got, want)
	}
}

func TestABulkSegmentIsCutWhereItHasManySightings(t *testing.T) {
	t.Parallel()
	f := newDrawnFeed()
	for n := range uint64(600) {
		r := f.block(n, 1)
		f.sightings = append(f.sightings, schema.ShippedSighting{Chain: 1, Key: r.Key, Observer: "other"})
	}
	s := newTestShipper(t, f, newShelf(), &testClock{})
	s.opts.bulkBytes = 300 * sightingSize
	rows, found, err := s.sightingsOf(t.Context(), f.rows)
	if err != nil || len(rows) != 512 || len(found) != 512 {
		t.Errorf("got %d rows, %d sightings and error %v, want 512 of both", len(rows), len(found), err)
	}
}

func (f *drawnFeed) now() time.Time { return drawnTime(uint64(len(f.rows))) }

func TestDigestsAreTrueWhereTheirSegmentEnds(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed(), newShelf(), &testClock{}
	s := newTestShipper(t, f, o, clock)
	records := map[uint64]*schema.ShippedRecord{}
	for n := uint64(990); n < 3300; n += 10 {
		records[n] = f.block(n, 1)
		if n%70 == 0 {
			f.status(records[n-n%3*10]) // sometimes of a range that is summed up
		}
		clock.advance(time.Minute)
		shipped(t, s)
	}
	ranges := map[uint64]int{}
	for _, segment := range readAll(t, o) {
		for _, d := range segment.Digests {
			ranges[d.From]++
			if want := f.digest(schema.HeightRange{Chain: d.Chain, From: d.From, To: d.To}, segment.Last); d != want {
				t.Fatalf("after row %d: digest %+v, want %+v", segment.Last, d, want)
			}
		}
	}
	if ranges[0] < 2 || ranges[1000] < 2 || ranges[2000] < 1 {
		t.Errorf("ranges were summed up so often: %v", ranges)
	}
}

func TestTheSideObjectIsWrittenWhenItChanges(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed(), newShelf()
	s := newTestShipper(t, f, o, &testClock{})
	shipped(t, s)
	side := func() *Side {
		got, err := DecodeSide([]byte(o.held[testNames.Side()]))
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := side(); got.Epoch != 1 || !got.At.Equal(testTime) || got.Clients[0].Count != 0 {
		t.Errorf("got %+v", got)
	}
	ops := 0
	o.fault = func(_ int, _, key string, _ bool) error {
		if key == testNames.Side() {
			ops++
		}
		return nil
	}
	shipped(t, s)
	if ops > 0 {
		t.Error("written though nothing has changed")
	}
	o.fault = nil
	next := newTestShipper(t, f, o, &testClock{})
	f.clients = 7
	shipped(t, next)
	if got := side(); got.Epoch != 2 || got.Clients[0].Count != 7 {
		t.Errorf("got %+v", got)
	}
	f.clients = 8
	if err := s.writeSide(t.Context()); !errors.Is(err, ErrReplaced) {
		t.Errorf("got error %v, want %v", err, ErrReplaced)
	}
}
