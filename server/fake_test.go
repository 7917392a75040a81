package server

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/firstseen/firstseen/schema"
)

// fakeStore is a store in memory whose faults a test controls. It settles each offer from a goroutine of its own, as
// the real one does, one after the other; what is held is settled by the test.
type fakeStore struct {
	mu        sync.Mutex
	offers    []*schema.Offer // in the order they came
	seen      map[schema.Key]bool
	held      []pending
	hold      bool          // keep offers until release
	full      chan struct{} // when not nil, Offer blocks until it is closed or the context ends
	answer    func(i int, o *schema.Offer) (schema.Settlement, bool)
	offerErr  error
	reports   []schema.Report
	reportErr error
	positions []schema.Position
	posErr    error
	follow    bool // the position is the block stored last

	queue chan pending
	idle  sync.WaitGroup
}

type pending struct {
	o    *schema.Offer
	s    schema.Settlement
	done func(schema.Settlement)
}

// newFake starts the settling goroutine; close ends it.
func newFake() *fakeStore {
	f := &fakeStore{seen: map[schema.Key]bool{}, queue: make(chan pending, 4096)}
	f.idle.Go(func() {
		for p := range f.queue {
			p.done(p.s)
		}
	})
	return f
}

func (f *fakeStore) close() {
	close(f.queue)
	f.idle.Wait()
}

func (f *fakeStore) Offer(ctx context.Context, o *schema.Offer, done func(schema.Settlement)) error {
	f.mu.Lock()
	full := f.full
	f.mu.Unlock()
	if full != nil {
		select {
		case <-full:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.offerErr != nil {
		return f.offerErr
	}
	i := len(f.offers)
	f.offers = append(f.offers, o)
	p := pending{o, f.settle(i, o), done}
	if f.hold {
		f.held = append(f.held, p)
		return nil
	}
	f.queue <- p
	return nil
}

func (f *fakeStore) settle(i int, o *schema.Offer) schema.Settlement {
	if f.answer != nil {
		if s, ok := f.answer(i, o); ok {
			return s
		}
	}
	if f.seen[o.Key] {
		return schema.Settlement{Outcome: schema.Duplicate}
	}
	f.seen[o.Key] = true
	if f.follow && o.Header != nil {
		point := schema.Point{Number: o.Header.Number, Hash: o.Header.Hash}
		f.positions = []schema.Position{{Chain: o.Chain, Point: point}}
	}
	return schema.Settlement{Outcome: schema.First}
}

// release settles the held offers in the given order of their indexes, all of them in order when none is given.
func (f *fakeStore) release(order ...int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if order == nil {
		for _, p := range f.held {
			f.queue <- p
		}
		f.held = nil
		return
	}
	for _, i := range order {
		f.queue <- f.held[i]
	}
}

func (f *fakeStore) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.offers)
}

func (f *fakeStore) all() []*schema.Offer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.offers)
}

func (f *fakeStore) Report(_ context.Context, _ string, r schema.Report) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, r)
	return f.reportErr
}

func (f *fakeStore) Positions(_ context.Context, chains []uint64) ([]schema.Position, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schema.Position
	for _, p := range f.positions {
		if slices.Contains(chains, p.Chain) {
			out = append(out, p)
		}
	}
	return out, f.posErr
}

var errFake = errors.New("the fake store says no")

// counter is a presence that keeps every count it is told.
type counter struct {
	mu     sync.Mutex
	counts []int
}

func (c *counter) Set(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.counts = append(c.counts, n)
}

func (c *counter) told() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.counts)
}
