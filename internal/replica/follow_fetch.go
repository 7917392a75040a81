package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// job is a segment on its way from the object store to the applier.
type job struct {
	key  string
	kind string
	done chan struct{} // closed once seg is set; it is nil if the session ended first
	seg  *Segment
}

// fetch hands over segments in the order of the feed, the next ones while one is applied. Where the index has a bulk
// segment with the next row, it takes that; else it asks for the live segment whose name it knows. It waits for whatever
// is missing until ctx ends.
func (s *session) fetch(ctx context.Context, jobs chan<- *job) {
	next := s.place.Seq + 1
	index, missed := s.readIndex(ctx), ""
	for ctx.Err() == nil {
		if bulk, ok := index.Find(next); ok {
			s.state.settle(s.names.Feed(next)) // whatever was wrong with it
			j := &job{key: s.names.Bulk(bulk.First), kind: kindBulk, done: make(chan struct{})}
			if !send(ctx, jobs, j) {
				return
			}
			s.parts.Go(func() { s.fill(ctx, j, bulk) })
			next = bulk.Last + 1
			continue
		}
		j := &job{key: s.names.Feed(next), kind: kindLive, done: make(chan struct{})}
		seg, err := s.open(ctx, j.key, next)
		switch {
		case errors.Is(err, objects.ErrNotFound) && !s.state.shipped(next):
			s.state.settle(j.key)
			s.await(ctx) // the end of what is shipped
			continue
		case errors.Is(err, objects.ErrNotFound) && missed != j.key:
			missed = j.key // it came just now, or a bulk segment has taken its place
			index = s.readIndex(ctx)
			continue
		case err != nil:
			missed = ""
			s.again(ctx, j.key, err)
			continue
		}
		s.state.settle(j.key)
		s.state.settle(s.names.Index()) // not needed any more
		j.seg = seg
		close(j.done)
		if !send(ctx, jobs, j) {
			return
		}
		next = seg.Last + 1
	}
}

func send(ctx context.Context, jobs chan<- *job, j *job) bool {
	select {
	case jobs <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// fill fetches a job's segment, which the index lists, however long that takes.
func (s *session) fill(ctx context.Context, j *job, listed IndexSegment) {
	defer close(j.done)
	for ctx.Err() == nil {
		seg, err := s.open(ctx, j.key, listed.First)
		if err == nil && seg.Last != listed.Last {
			err = fmt.Errorf("%w: it ends with row %d, in the index with %d", ErrDamaged, seg.Last, listed.Last)
		}
		if err == nil {
			s.state.settle(j.key)
			j.seg = seg
			return
		}
		s.again(ctx, j.key, err)
	}
}

// again notes what is wrong with an object and waits until it is time to look again.
func (s *session) again(ctx context.Context, key string, err error) {
	if ctx.Err() != nil {
		return
	}
	t := &obstacle{what: whyStore, key: key, err: err}
	switch {
	case errors.Is(err, objects.ErrNotFound):
		t.what, t.err = whyMissing, errors.New("the writer shipped it, and it is not there")
	case errors.Is(err, errNamed):
		t.what = whyMissing
	case errors.Is(err, ErrDamaged), errors.Is(err, objects.ErrTooLarge):
		t.what = whyDamaged
	}
	s.state.trouble(t)
	s.metrics.waits.WithLabelValues(string(t.what)).Inc()
	s.await(ctx)
}

// await waits for a hint or for the next look.
func (s *session) await(ctx context.Context) {
	timer := time.NewTimer(s.opts.Poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-s.wake:
	}
}

// readIndex returns the list of bulk segments; an empty one if there is none, or none that can be read, which is tried
// again once the next row is not found elsewhere.
func (s *session) readIndex(ctx context.Context) *Index {
	key := s.names.Index()
	body, _, err := s.opts.Objects.Get(ctx, key)
	if errors.Is(err, objects.ErrNotFound) {
		s.state.settle(key)
		return &Index{}
	}
	index := &Index{}
	if err == nil {
		index, err = DecodeIndex(body)
	}
	if err != nil {
		s.again(ctx, key, err)
		return &Index{}
	}
	s.state.settle(key)
	return index
}

// errNamed reports a record that a segment names and that is not there.
var errNamed = errors.New("a segment names it, and it is not there")

// open fetches the segment that begins with a row, with all of its records.
func (s *session) open(ctx context.Context, key string, first uint64) (*Segment, error) {
	body, _, err := s.opts.Objects.Get(ctx, key)
	if err != nil {
		return nil, err
	}
	seg, err := DecodeSegment(body)
	if err != nil {
		return nil, err
	}
	if seg.Env != s.names.Env || seg.Role != s.names.Role || seg.First != first {
		return nil, fmt.Errorf("%w: it is the one of %s/%s from row %d on", ErrDamaged, seg.Env, seg.Role, seg.First)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(s.opts.Fetches)
	for i := range seg.Rows {
		if r := &seg.Rows[i]; r.Record == nil && HasObject(r.Event.Kind) {
			group.Go(func() (err error) {
				r.Record, err = s.record(ctx, r)
				return err
			})
		}
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	return seg, nil
}

// record fetches the record of a row that does not carry it.
func (s *session) record(ctx context.Context, r *Row) (*schema.ShippedRecord, error) {
	key := s.names.Block(r.Event.Chain, r.Event.Key)
	body, _, err := s.opts.Objects.Get(ctx, key)
	if errors.Is(err, objects.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", key, errNamed)
	}
	if err != nil {
		return nil, err
	}
	record, err := DecodeRecord(body, r.Object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	if record.Chain != r.Event.Chain || record.Key != r.Event.Key {
		return nil, fmt.Errorf("%s: %w: it is of chain %d key %s", key, ErrDamaged, record.Chain, record.Key)
	}
	return record, nil
}
