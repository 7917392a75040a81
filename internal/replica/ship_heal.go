package replica

import (
	"context"
	"errors"
	"fmt"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// rebuild makes the segment that ends a checkpoint once more where it is lost or damaged.
func (s *Shipper) rebuild(ctx context.Context, c Checkpoint, key string, cause error) error {
	head := s.head(c.First, c.Prev)
	head.Source, head.Epoch = c.Source, c.Epoch
	return s.remake(ctx, key, head, c.Seq, c.Link, cause)
}

// remake makes a segment that ended with a row and link once more from the database. The link tells whether the rows are
// those that were shipped.
func (s *Shipper) remake(ctx context.Context, key string, head Head, last uint64, link schema.Hash, cause error) error {
	rows, err := s.rowsOf(ctx, head.First, last)
	if err != nil {
		return err
	}
	built, err := s.putRecords(ctx, rows)
	if err != nil {
		return err
	}
	segment := &Segment{Head: head, Rows: built.rows(key != s.opts.Feed(head.First))}
	stored, err := EncodeSegment(segment)
	if err != nil {
		return err
	}
	if segment.Link != link {
		return s.foreign("segment %s cannot be read (%v), and our rows %d to %d lead elsewhere", key, cause, head.First, last)
	}
	s.log.WithError(cause).WithField("key", key).Warn("ship: a segment is lost or damaged, and made once more")
	s.metrics.healed.Inc()
	return s.put(ctx, key, stored)
}

// put stores an object whatever is there.
func (s *Shipper) put(ctx context.Context, key string, stored []byte) error {
	_, tag, err := s.opts.Objects.Get(ctx, key)
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return err
	}
	_, err = s.opts.Objects.Replace(ctx, key, stored, tag)
	return err
}

// liveSegment reads a live segment for gather, which knows the link before it unless it is the first that it reads. One
// that is lost or damaged is made once more: it goes up to where the next one begins, or to the checkpoint.
func (s *Shipper) liveSegment(ctx context.Context, first uint64, before *Segment) (*Segment, error) {
	key := s.opts.Feed(first)
	segment, _, err := s.getSegment(ctx, key)
	if err == nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, objects.ErrNotFound) {
		return segment, err
	}
	if fenced := s.fence(ctx); fenced != nil {
		return nil, fenced
	}
	what, lost := s.whereabouts(ctx, first, before)
	if lost != nil {
		return nil, errors.Join(err, lost)
	}
	if failed := s.remake(ctx, key, s.head(first, what.prev), what.seq, what.link, err); failed != nil {
		return nil, fmt.Errorf("%w, and %s", err, failed.Error()) // not for good: rows go on meanwhile
	}
	segment, _, err = s.getSegment(ctx, key)
	return segment, err
}

// whereabouts finds out from its neighbours what rows a live segment had, and between which links.
func (s *Shipper) whereabouts(ctx context.Context, first uint64, before *Segment) (place, error) {
	what := place{first: first}
	switch {
	case len(before.Rows) > 0:
		what.prev = before.Link
	case first > 1:
		last := s.index.list.Segments[len(s.index.list.Segments)-1]
		bulk, _, err := s.getSegment(ctx, s.opts.Bulk(last.First))
		if err != nil {
			return what, err
		}
		what.prev = bulk.Link
	}
	keys, err := s.opts.Objects.List(ctx, s.opts.FeedPrefix(), s.opts.Feed(first), 1)
	if err != nil {
		return what, err
	}
	saved := s.look().saved
	if len(keys) == 0 || keys[0] > s.opts.Feed(saved.seq) {
		what.seq, what.link = saved.seq, saved.link
		return what, nil
	}
	next, _, err := s.getSegment(ctx, keys[0])
	if err != nil {
		return what, err
	}
	what.seq, what.link = next.First-1, next.Prev
	return what, nil
}
