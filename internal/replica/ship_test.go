package replica

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func mustJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestEverythingIsShippedInOrder(t *testing.T) {
	t.Parallel()
	for _, rows := range []int{0, 1, 2, 3, 4, 9, 10, 11, 25, 57} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			t.Parallel()
			f, o, clock := newDrawnFeed().grow(rows), newShelf(), &testClock{}
			s := newTestShipper(t, f, o, clock)
			shipped(t, s)
			holdsAll(t, f, o)
			for range 20 { // as it comes
				f.grow(1 + len(f.rows)%4)
				shipped(t, s)
				holdsAll(t, f, o)
			}
			if got := s.Stats(); got.Seq != uint64(len(f.rows)) || got.End != got.Seq {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

func TestABacklogIsShippedInBulk(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed().grow(47), newShelf()
	shipped(t, newTestShipper(t, f, o, &testClock{}))
	holdsAll(t, f, o)
	if bulk, live := len(o.keys("test/primary/bulk/")), len(o.keys("test/primary/feed/")); bulk != 4 || live != 3 {
		t.Errorf("%d bulk and %d live segments, want 4 and 3", bulk, live)
	}
	f.grow(35) // while it was away
	shipped(t, newTestShipper(t, f, o, &testClock{}))
	holdsAll(t, f, o)
	if bulk, live := len(o.keys("test/primary/bulk/")), len(o.keys("test/primary/feed/")); bulk != 8 || live != 5 {
		t.Errorf("%d bulk and %d live segments, want 8 and 5", bulk, live)
	}
}

func TestLiveSegmentsArePutTogetherAndGoAfterTheGrace(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed(), newShelf(), &testClock{}
	s := newTestShipper(t, f, o, clock)
	for range 25 {
		f.grow(1)
		shipped(t, s)
	}
	holdsAll(t, f, o)
	if bulk, live := len(o.keys("test/primary/bulk/")), len(o.keys("test/primary/feed/")); bulk != 2 || live != 25 {
		t.Errorf("%d bulk and %d live segments, want 2 and 25", bulk, live)
	}
	clock.advance(s.opts.Grace + time.Second)
	shipped(t, s)
	holdsAll(t, f, o)
	if live := o.keys("test/primary/feed/"); len(live) != 5 || live[0] != testNames.Feed(21) {
		t.Errorf("live segments %v, want the last 5", live)
	}
	clock.advance(time.Hour)
	again := newTestShipper(t, f, o, clock) // verifies what it finds
	shipped(t, again)
	holdsAll(t, f, o)
}

// errCut is a crash, or an object store that went away.
var errCut = errors.New("cut")

func TestAWriterThatCrashesAnywhereIsContinued(t *testing.T) {
	t.Parallel()
	whole := newShelf()
	complete := newDrawnFeed().grow(26)
	shipped(t, newTestShipper(t, complete, whole, &testClock{}))
	want := readAll(t, whole)
	link := want[len(want)-1].Link
	for _, after := range []bool{false, true} { // the operation that fails was done, or was not
		for k := 1; ; k++ {
			o, clock := newShelf(), &testClock{}
			feed := newDrawnFeed().grow(11)
			s := newTestShipper(t, feed, o, clock)
			o.fault = func(op int, _, _ string, done bool) error {
				if op > k || op == k && done == after {
					return errCut
				}
				return nil
			}
			err := s.round(t.Context())
			for i := 0; err == nil && i < 12; i++ {
				feed.grow(1)
				clock.advance(4 * time.Minute)
				err = s.round(t.Context())
			}
			if err != nil && !errors.Is(err, errCut) {
				t.Fatalf("cut at operation %d: %v", k, err)
			}
			o.fault = nil
			survived := err == nil
			feed.grow(26 - len(feed.rows)) // as much as there would have been
			clock.advance(time.Hour)
			shipped(t, newTestShipper(t, feed, o, clock))
			holdsAll(t, feed, o)
			got := readAll(t, o)
			if got[len(got)-1].Link != link {
				t.Fatalf("cut at operation %d: rows lead elsewhere", k)
			}
			if survived {
				if _, ok := o.held[testNames.Feed(11)]; ok || k < 50 {
					t.Errorf("%d operations do not reach the deletion of what was put together", k)
				}
				break
			}
		}
	}
}

func TestARunGoesOnAfterTheObjectStoreWasAway(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed().grow(5), newShelf(), &testClock{}
	b, news := &told{}, make(chan struct{}, 1)
	s, err := NewShipper(ShipOptions{Names: testNames, Store: f, Objects: o, Broker: b, News: news, Now: clock.Now, sizes: smallSizes})
	if err != nil {
		t.Fatal(err)
	}
	if s.Ready(t.Context()) == nil {
		t.Error("is ready before it is the writer")
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	reaches := func(seq uint64) {
		t.Helper()
		testenv.Eventually(t, func() error {
			if got := s.Stats().Seq; got != seq {
				return fmt.Errorf("shipped up to %d, want %d", got, seq)
			}
			return s.Ready(ctx)
		})
	}
	reaches(5)
	o.mu.Lock()
	o.fault = func(int, string, string, bool) error { return errCut }
	o.mu.Unlock()
	f.grow(4)
	news <- struct{}{}
	testenv.Eventually(t, func() error {
		clock.advance(time.Second)
		if err := s.Ready(ctx); !errors.Is(err, errCut) {
			return fmt.Errorf("readiness %w", err)
		}
		return nil
	})
	o.mu.Lock()
	o.fault = nil
	o.mu.Unlock()
	reaches(9)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
	holdsAll(t, f, o)
	rows := 0
	for _, p := range b.pointers {
		rows += int(p.Last - p.First + 1)
		if _, ok := o.held[p.Key]; !ok || p.Epoch != 1 {
			t.Errorf("told of %+v", p)
		}
	}
	if rows != 9 {
		t.Errorf("told of %d rows, want 9", rows)
	}
}

func TestAWriterThatWakesFindsItsSuccessor(t *testing.T) {
	t.Parallel()
	for name, wake := range map[string]func(*Shipper, context.Context) error{
		"at its checkpoint": (*Shipper).beat,
		"at a segment": func(s *Shipper, ctx context.Context) error {
			_, err := s.step(ctx)
			return err
		},
		"putting together": func(s *Shipper, ctx context.Context) error {
			s.index.Lock()
			defer s.index.Unlock()
			return s.compact(ctx, true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, o := newDrawnFeed().grow(6), newShelf()
			paused := newTestShipper(t, f, o, &testClock{})
			shipped(t, paused)
			f.grow(2)
			next := newTestShipper(t, f, o, &testClock{})
			shipped(t, next)
			for range 4 {
				f.grow(4)
				shipped(t, next)
			}
			before := maps.Clone(o.held)
			if err := wake(paused, t.Context()); !errors.Is(err, ErrReplaced) {
				t.Errorf("got error %v, want %v", err, ErrReplaced)
			}
			if !maps.Equal(o.held, before) {
				t.Error("it changed something")
			}
			f.grow(3)
			shipped(t, next)
			holdsAll(t, f, o)
		})
	}
}

func TestASegmentOfTheWriterBeforeIsTaken(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed().grow(3), newShelf()
	paused := newTestShipper(t, f, o, &testClock{})
	shipped(t, paused)
	next := newTestShipper(t, f, o, &testClock{})
	if err := next.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.grow(2)
	if _, err := paused.step(t.Context()); err != nil { // it does not know yet
		t.Fatal(err)
	}
	f.grow(2)
	shipped(t, next)
	holdsAll(t, f, o)
	if err := paused.beat(t.Context()); !errors.Is(err, ErrReplaced) {
		t.Errorf("got error %v, want %v", err, ErrReplaced)
	}
	holdsAll(t, f, o)
}

func TestAnotherDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	feed := newDrawnFeed().grow(8)
	for name, other := range map[string]*drawnFeed{
		"of another epoch":                  (&drawnFeed{epoch: "other"}).grow(8),
		"that is empty":                     newDrawnFeed(),
		"restored from a backup":            feed.fork(5),
		"restored, and grown otherwise":     growOtherwise(feed.fork(5)),
		"restored, and grown to other rows": growOtherwise(feed.fork(7)),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newShelf()
			shipped(t, newTestShipper(t, feed, o, &testClock{}))
			before := maps.Clone(o.held)
			err := newTestShipper(t, other, o, &testClock{}).Run(t.Context())
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), "--role") {
				t.Errorf("got error %v, want %v with what to do", err, ErrForeign)
			}
			if !maps.Equal(o.held, before) {
				t.Error("it changed something")
			}
		})
	}
	t.Run("under its feet", func(t *testing.T) {
		t.Parallel()
		o := newShelf()
		s := newTestShipper(t, feed.fork(8), o, &testClock{})
		shipped(t, s)
		s.opts.Store = feed.fork(4)
		if err := s.round(t.Context()); !errors.Is(err, ErrForeign) {
			t.Errorf("got error %v, want %v", err, ErrForeign)
		}
	})
}

func growOtherwise(f *drawnFeed) *drawnFeed {
	for range 6 {
		f.block(9999, 1)
	}
	return f
}

func TestWhatIsDamagedIsMadeAgain(t *testing.T) {
	t.Parallel()
	cut := func(body string) string { return body[:len(body)/2] }
	for name, damage := range map[string]func(o *shelf){
		"the last segment":        func(o *shelf) { o.change(testNames.Feed(14), flip) },
		"half the last segment":   func(o *shelf) { o.change(testNames.Feed(14), cut) },
		"no last segment":         func(o *shelf) { delete(o.held, testNames.Feed(14)) },
		"the index":               func(o *shelf) { o.change(testNames.Index(), cut) },
		"no index":                func(o *shelf) { delete(o.held, testNames.Index()) },
		"a record before bulk":    func(o *shelf) { o.change(o.keys("test/1/primary/block/")[0], flip) },
		"every record":            func(o *shelf) { damageAll(o, "/block/", flip) },
		"half of every record":    func(o *shelf) { damageAll(o, "/block/", cut) },
		"a live segment":          func(o *shelf) { o.change(testNames.Feed(12), flip) },
		"no first live segment":   func(o *shelf) { delete(o.held, testNames.Feed(11)) },
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

func TestTheCheckpointIsASignOfLife(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed().grow(1), newShelf(), &testClock{}
	s := newTestShipper(t, f, o, clock)
	shipped(t, s)
	written := func() time.Time {
		c, err := DecodeCheckpoint([]byte(o.held[testNames.Writer()]))
		if err != nil {
			t.Fatal(err)
		}
		return c.At
	}
	for _, step := range []struct {
		rest  time.Duration
		rows  int
		write bool
	}{
		{500 * time.Millisecond, 1, false}, {600 * time.Millisecond, 0, true},
		{2 * time.Second, 0, false}, {2 * time.Second, 0, true}, {2 * time.Second, 1, true},
	} {
		before := written()
		f.grow(step.rows)
		clock.advance(step.rest)
		if _, err := s.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.beatIfDue(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := written() != before; got != step.write {
			t.Errorf("%s later with %d rows: written %t, want %t", step.rest, step.rows, got, step.write)
		}
	}
}

func TestReadinessNoticesWhatHangs(t *testing.T) {
	t.Parallel()
	f, o, clock := newDrawnFeed().grow(1), newShelf(), &testClock{}
	s := newTestShipper(t, f, o, clock)
	shipped(t, s)
	is := func(want string) {
		t.Helper()
		err := s.Ready(t.Context())
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("ready: %v, want %q", err, want)
		}
	}
	is("")
	clock.advance(patienceBeat + time.Second)
	is("checkpoint")
	if err := s.beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	is("")
	clock.advance(patienceBeat)
	is("no row is shipped")
	if _, err := s.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	is("")
}

func TestShipOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := ShipOptions{Names: testNames, Store: newDrawnFeed(), Objects: newShelf()}
	for name, change := range map[string]func(*ShipOptions){
		"no environment": func(o *ShipOptions) { o.Env = "" },
		"no role":        func(o *ShipOptions) { o.Role = "" },
		"a chain's role": func(o *ShipOptions) { o.Role = "1" },
		"no store":       func(o *ShipOptions) { o.Store = nil },
		"no objects":     func(o *ShipOptions) { o.Objects = nil },
		"a slow poll":    func(o *ShipOptions) { o.Poll = time.Minute },
	} {
		o := good
		change(&o)
		if _, err := NewShipper(o); err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
}

var _ ShipObjects = objects.Store(nil)
