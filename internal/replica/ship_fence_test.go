package replica

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

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

// busyFeed is a feed that grows, and is shipped further, right behind every look at its end.
type busyFeed struct {
	*drawnFeed
	then func()
}

func (f *busyFeed) Digests(ctx context.Context, ranges ...schema.HeightRange) (
	schema.FeedEnd, []schema.ChainState, []schema.RangeDigest, error,
) {
	end, chains, digests, err := f.drawnFeed.Digests(ctx, ranges...)
	f.then()
	return end, chains, digests, err
}

func TestAWriterThatStillShipsIsTakenOverFrom(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed().grow(3), newShelf()
	before := newTestShipper(t, f, o, &testClock{})
	shipped(t, before)
	busy := &busyFeed{drawnFeed: f, then: func() {
		f.grow(1)
		shipped(t, before)
	}}
	next := newTestShipper(t, busy, o, &testClock{})
	if err := next.start(t.Context()); permanent(err) {
		t.Fatalf("got error %v, which ends it", err)
	}
	busy.then = func() {}
	shipped(t, next)
	holdsAll(t, f, o)
}

func TestWhoIsReplacedWhileItStartsEnds(t *testing.T) {
	t.Parallel()
	f, o := newDrawnFeed().grow(3), newShelf()
	first := newTestShipper(t, f, o, &testClock{})
	o.fault = func(_ int, _, key string, _ bool) error {
		if key == testNames.Index() { // which it reads once it is the writer
			return errCut
		}
		return nil
	}
	if err := first.start(t.Context()); !errors.Is(err, errCut) {
		t.Fatalf("got error %v, want %v", err, errCut)
	}
	o.fault = nil
	last := newTestShipper(t, f, o, &testClock{})
	shipped(t, last)
	if err := first.start(t.Context()); !errors.Is(err, ErrReplaced) {
		t.Errorf("got error %v, want %v", err, ErrReplaced)
	}
	f.grow(2)
	shipped(t, last)
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
