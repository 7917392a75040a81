package feed

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/firstseen/firstseen/schema"
)

// ErrEnded reports that the feed's Run has ended.
var ErrEnded = errors.New("the feed has ended")

// SlowError reports a reader that fell too far behind to be served from memory. It may come back with its cursor.
type SlowError struct {
	Cursor Cursor // everything up to here was handed out
}

// Error implements error.
func (e *SlowError) Error() string {
	return "the reader is too slow, its place is " + e.Cursor.String()
}

const (
	batchEvents  = 256 // handed out at once
	historyBatch = 512 // rows read at once for a reader that is behind
)

// Subscription is one reader's place in the feed. One goroutine at a time may use it; Poke and Close are for any.
type Subscription struct {
	feed   *Feed
	filter Filter
	wake   chan struct{} // one element: there may be something to hand out
	poked  atomic.Bool
	closed atomic.Bool

	turn    *Event   // how the feed had last been cut off when this one began
	after   Cursor   // everything up to here has been handed out, or did not match
	pending []*Event // to hand out before anything else
	group   *group   // nil while reading history
	pos     uint64   // in the group: how many events came before the next one
	backlog []*Event // from memory, before pos
	batch   []*Event // what Next returned last
}

// Place says where a subscription begins.
type Place struct {
	Cursor Cursor // zero is the beginning of the feed
	Latest bool   // only what comes from now on
}

// Subscribe opens a reader at a place. It waits until the feed knows where it ends. A cursor that does not belong to the
// feed is no error: what is missing comes as the first event.
func (f *Feed) Subscribe(ctx context.Context, filter Filter, from Place) (*Subscription, error) {
	select {
	case <-f.started:
	case <-f.ended:
		return nil, ErrEnded
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s := &Subscription{feed: f, filter: filter, wake: make(chan struct{}, 1)}
	if err := f.place(ctx, s, from); err != nil {
		return nil, err
	}
	f.metrics.subscriptions.Inc()
	if len(filter.Addresses) > 0 {
		f.hub.addressed.Add(1)
	}
	if from.Latest {
		f.hub.join(s)
	}
	return s, nil
}

// place finds out where a reader really begins.
func (f *Feed) place(ctx context.Context, s *Subscription, from Place) error {
	now, turn := f.hub.now()
	s.after, s.turn = from.Cursor, turn
	switch {
	case from.Latest:
		s.after = now
		return nil
	case from.Cursor.Seq == 0:
		s.after.Epoch = now.Epoch
		return nil
	case from.Cursor.Epoch == now.Epoch && from.Cursor.Seq <= now.Seq:
		return nil
	}
	end, err := f.opts.Source.FeedEnd(ctx) // this process may be behind the one that gave the cursor
	switch {
	case err != nil:
		return fmt.Errorf("subscribe: %w", err)
	case end.Was != "" && end.Was == from.Cursor.Epoch:
		s.after = Cursor{Epoch: end.Epoch, Seq: min(from.Cursor.Seq, end.Since)}
		if from.Cursor.Seq > end.Since { // it has seen what another copy of this log has
			s.pending = []*Event{missing(s.after, Missing{Reason: renewed})}
		}
	case end.Epoch != from.Cursor.Epoch:
		s.pending = []*Event{missing(Cursor{Epoch: end.Epoch}, Missing{Reason: "the cursor belongs to another database"})}
	case end.Seq < from.Cursor.Seq:
		s.pending = []*Event{missing(Cursor{Epoch: end.Epoch, Seq: end.Seq}, Missing{
			From: end.Seq + 1, To: from.Cursor.Seq, Reason: "the feed ends before the cursor",
		})}
	}
	return nil
}

// Cursor is the place up to which everything was handed out or did not match.
func (s *Subscription) Cursor() Cursor { return s.after }

// Poke makes a Next that waits return with nothing, so that its caller can look at Cursor.
func (s *Subscription) Poke() {
	s.poked.Store(true)
	s.poke()
}

func (s *Subscription) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake already and has yet to look
	}
}

// Close ends the subscription. A Next that waits is not ended by it but by its context.
func (s *Subscription) Close() {
	if s.closed.Swap(true) {
		return
	}
	s.feed.hub.leave(s)
	s.feed.metrics.subscriptions.Dec()
	if len(s.filter.Addresses) > 0 {
		s.feed.hub.addressed.Add(-1)
	}
}

// Next waits for events and returns some, in order; after a Poke it may return none. They are valid until the next call.
// A reader that is too slow gets a SlowError.
func (s *Subscription) Next(ctx context.Context) ([]*Event, error) {
	for {
		events, err := s.ready(ctx)
		if err != nil || len(events) > 0 {
			return events, err
		}
		if s.poked.Swap(false) {
			return nil, nil
		}
		if s.group == nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			continue // history holds more, which the filter may let through
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.feed.ended:
			return nil, ErrEnded
		}
	}
}

// ready returns what can be handed out without waiting for news.
func (s *Subscription) ready(ctx context.Context) ([]*Event, error) {
	if len(s.pending) > 0 {
		events := s.pending
		s.pending = nil
		s.after = events[len(events)-1].Cursor()
		return events, nil
	}
	if s.group == nil && !s.feed.hub.join(s) {
		if len(s.pending) > 0 {
			return nil, nil
		}
		return s.history(ctx)
	}
	if len(s.backlog) > 0 {
		n := min(len(s.backlog), batchEvents)
		events := s.backlog[:n]
		s.backlog = s.backlog[n:]
		s.after = events[n-1].Cursor()
		return events, nil
	}
	return s.live()
}

// live returns what the group holds for this reader.
func (s *Subscription) live() ([]*Event, error) {
	g := s.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if s.pos < g.base {
		s.feed.metrics.slow.Inc()
		return nil, &SlowError{Cursor: s.after}
	}
	rest := g.events[s.pos-g.base:]
	n := min(len(rest), batchEvents)
	s.batch = s.batch[:0]
	for _, e := range rest[:n] {
		// A reader that came from an instance that was ahead has seen the first ones.
		if e.Seq > s.after.Seq || e.Missing != nil {
			s.batch = append(s.batch, e)
			s.after = e.Cursor()
		}
	}
	s.pos += uint64(n)
	if n == len(rest) && g.through.Seq > s.after.Seq {
		s.after = g.through
	}
	return s.batch, nil
}

// history reads from the store. Only so many readers do at once.
func (s *Subscription) history(ctx context.Context) ([]*Event, error) {
	f := s.feed
	select {
	case f.history <- struct{}{}:
		defer func() { <-f.history }()
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.ended:
		return nil, ErrEnded
	}
	if s.after.Epoch == "" { // the feed was empty when this reader came
		s.after.Epoch = f.hub.cursor().Epoch
	}
	events, err := f.read(ctx, s.after, historyBatch, len(s.filter.Addresses) > 0)
	if err != nil {
		return nil, err
	}
	if len(events) == 0 { // the rows up to where the tailer is are gone
		at := f.hub.cursor()
		m := missing(at, Missing{From: s.after.Seq + 1, To: at.Seq, Reason: pruned})
		s.after = at
		return []*Event{m}, nil
	}
	s.after = events[len(events)-1].Cursor()
	matching := events[:0]
	for _, e := range events {
		if s.filter.match(e) {
			matching = append(matching, e)
		}
	}
	return matching, nil
}

const pruned = "these rows of the feed are no longer kept"

// read returns the events after a cursor, behind a mark if there are some that can no longer be read. Addresses are
// looked up if somebody asks for them.
func (f *Feed) read(ctx context.Context, after Cursor, limit int, addresses bool) ([]*Event, error) {
	rows, err := f.opts.Source.Feed(ctx, after.Seq, limit)
	if err != nil {
		return nil, fmt.Errorf("read feed: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	events := make([]*Event, 0, len(rows)+1)
	if first := rows[0].Seq; first > after.Seq+1 {
		events = append(events, missing(Cursor{Epoch: after.Epoch, Seq: first - 1}, Missing{
			From: after.Seq + 1, To: first - 1, Reason: pruned,
		}))
	}
	for i, row := range rows {
		if i > 0 && row.Seq != rows[i-1].Seq+1 {
			break // a reader of the table that saw a hole would never come back to it; the next read tells what it is
		}
		events = append(events, newEvent(after.Epoch, row))
	}
	if addresses {
		return events, f.addAddresses(ctx, events)
	}
	return events, nil
}

func (f *Feed) addAddresses(ctx context.Context, events []*Event) error {
	var blocks []schema.Key
	for _, e := range events {
		if e.Kind == schema.FeedBlock || e.Kind == schema.FeedStatus {
			blocks = append(blocks, e.Key)
		}
	}
	found, err := f.opts.Source.BlockAddresses(ctx, blocks)
	if err != nil {
		return err
	}
	for _, e := range events {
		e.addresses, e.addressed = found[e.Key], true
	}
	return nil
}
