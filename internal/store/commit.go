package store

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/firstseen/firstseen/schema"
)

const (
	// drain is how long a commit that is under way may go on once Run's context has ended.
	drain = 5 * time.Second
	// patience is how long a transaction keeps its rows locked while it waits for its turn. The database cannot see that
	// wait: if the flight before it waits for one of those rows, neither would ever go on.
	patience = 100 * time.Millisecond
)

// errNotYet ends a transaction that must not wait for its turn with the rows that it holds.
var errNotYet = errors.New("not this batch's turn yet")

// committer writes flights into the database, any number at once.
type committer struct {
	store *Store
	stmts *statements
}

// fly settles every offer of a flight.
func (c *committer) fly(ctx context.Context, f *flight) {
	var good []*pending
	for _, p := range f.batch {
		if p.bad != nil {
			p.answer = schema.Settlement{Outcome: schema.Refused, Reason: p.bad.Error()}
			continue
		}
		good = append(good, p)
	}
	c.answer(ctx, f, good)
	<-f.before // whoever waits for us waits for those before us, too
	close(f.ended)
}

// answer commits a batch. One that the database refuses for what is in it is halved until the poison offers stand
// alone: exactly they are refused, after some 2·log₂ n transactions each, and none is refused or acknowledged for having
// been folded onto one.
func (c *committer) answer(ctx context.Context, f *flight, batch []*pending) {
	if len(batch) == 0 {
		return
	}
	entries := fold(batch)
	err := c.persist(ctx, f, entries)
	if err != nil && blamesRows(err) && len(batch) > 1 {
		c.store.metrics.splits.Inc()
		half := len(batch) / 2
		c.answer(ctx, f, batch[:half])
		c.answer(ctx, f, batch[half:])
		return
	}
	for _, e := range entries {
		for _, p := range e.all {
			p.id, p.answer = e.id, e.settlement(p, err)
		}
	}
}

func (e *entry) settlement(p *pending, err error) schema.Settlement {
	switch {
	case err != nil && blamesRows(err):
		return schema.Settlement{Outcome: schema.Refused, Reason: err.Error()}
	case err != nil:
		return schema.Settlement{Outcome: schema.Unsettled, Reason: err.Error()}
	case e.first && p == e.lead:
		return schema.Settlement{Outcome: schema.First}
	default:
		return schema.Settlement{Outcome: schema.Duplicate}
	}
}

// persist commits the entries, however long the database takes to let it, unless the error blames the rows or ctx
// ends. Every attempt uses the same tokens. Only the first may run ahead of the flight's turn.
func (c *committer) persist(ctx context.Context, f *flight, entries []*entry) error {
	s := c.store
	wait := newBackOff()
	lost := false // a COMMIT whose answer was lost: it may hold
	for {
		start := time.Now()
		err := c.attempt(ctx, f, entries, lost)
		if err == nil {
			s.metrics.commit.Observe(time.Since(start).Seconds())
			s.recovered()
			return nil
		}
		if blamesRows(err) {
			return err
		}
		if errors.Is(err, errNotYet) {
			f.yielded = true
			s.metrics.yields.Inc()
			<-f.before // which ends within drain of ctx
			continue
		}
		var unanswered *commitError
		lost = lost || errors.As(err, &unanswered)
		s.stalled(err)
		if pause(ctx, wait.NextBackOff()) != nil {
			return err
		}
		<-f.before
	}
}

// takeTurn waits until the flight before has ended. Clean means that this transaction holds no rows but its own new
// ones, which hardly anybody can be waiting for.
func (f *flight) takeTurn(ctx context.Context, clean bool) error {
	select {
	case <-f.before:
		return nil
	default:
	}
	if !clean {
		return errNotYet
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-f.before:
		return nil
	case <-timer.C:
		return errNotYet
	case <-ctx.Done():
		return ctx.Err()
	}
}

// commitError is a COMMIT that failed: whether it held is unknown.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 5*time.Millisecond, 2*time.Second
	return b
}

// pause waits, or tells that ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
