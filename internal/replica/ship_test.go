package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/testenv"
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

func TestCompactingWaitsForTheCheckpointOfABacklog(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed().grow(25), newShelf()
	s := newTestShipper(t, f, o, &testClock{})
	if err := s.start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.step(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.compactIfDue(t.Context()); err != nil { // the checkpoint is still at 0, bulk segments are at 10
		t.Error(err)
	}
	shipped(t, s)
	holdsAll(t, f, o)
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
