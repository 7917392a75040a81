package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// start makes this the writer: it takes the checkpoint over from whoever has it, once it is certain that what is shipped
// comes from this database, and goes on behind what is there.
func (s *Shipper) start(ctx context.Context) error {
	if err := s.fence(ctx); err != nil { // where an attempt before this one came so far
		return err
	}
	before, tag, err := s.checkpoint(ctx)
	if err != nil {
		return err
	}
	// Behind the checkpoint: a writer that still ships would else be ahead of the end that we know.
	end, chains, _, err := s.opts.Store.Digests(ctx)
	if err != nil {
		return err
	}
	if err := s.verify(ctx, before, end); err != nil {
		return err
	}
	now := s.opts.Now()
	mine := before
	mine.Epoch, mine.Holder, mine.At, mine.End, mine.Chains = before.Epoch+1, s.opts.Holder, now, end.Seq, chains
	mine.Source = end.Epoch
	if err := s.take(ctx, mine, tag); err != nil {
		return err
	}
	at := place{seq: mine.Seq, link: mine.Link, first: mine.First, prev: mine.Prev}
	s.mu.Lock()
	s.state = shipState{place: at, epoch: mine.Epoch, saved: at, beat: now, moved: now, end: end, chains: chains, sighted: mine.Sighted}
	s.mu.Unlock()
	fields := logrus.Fields{"env": s.opts.Env, "role": s.opts.Role, "epoch": mine.Epoch, "seq": mine.Seq, "end": end.Seq}
	if before.Epoch > 0 && now.Sub(before.At) < takenAlive && before.Holder != s.opts.Holder {
		s.log.WithFields(fields).WithField("holder", before.Holder).Warn("ship: taken over from a writer that lived seconds ago: " +
			"if it still runs, it ends")
	} else {
		s.log.WithFields(fields).Info("ship: is the writer")
	}
	s.sightings.start(before, now)
	return s.adoptBulk(ctx)
}

// takenAlive is how long a writer whose checkpoint is that old may be alive still.
const takenAlive = 15 * time.Second

// checkpoint reads the checkpoint; where there is none it is the zero value, with an empty tag.
func (s *Shipper) checkpoint(ctx context.Context) (Checkpoint, string, error) {
	stored, tag, err := s.opts.Objects.Get(ctx, s.opts.Writer())
	if errors.Is(err, objects.ErrNotFound) {
		return Checkpoint{}, "", nil
	}
	if err != nil {
		return Checkpoint{}, "", err
	}
	c, err := DecodeCheckpoint(stored)
	if err != nil {
		return c, "", fmt.Errorf("%s: %w; put back what it was, or ship under another role", s.opts.Writer(), err)
	}
	return c, tag, nil
}

// take writes a checkpoint in the place of the one with tag.
func (s *Shipper) take(ctx context.Context, c Checkpoint, tag string) error {
	stored, err := EncodeCheckpoint(c)
	if err != nil {
		return err
	}
	s.beating.Lock()
	defer s.beating.Unlock()
	s.tag, err = s.opts.Objects.Replace(ctx, s.opts.Writer(), stored, tag)
	return err // a conflict is another that starts now: the next attempt looks again
}

// foreign says that what is shipped is not ours, and what to do.
func (s *Shipper) foreign(format string, args ...any) error {
	return fmt.Errorf("%s/%s: %w: %s; ship under another role (--role), or, if no replica is to follow the old one any more, "+
		"delete what lies under %s/%s/ in the object store", s.opts.Env, s.opts.Role, ErrForeign, fmt.Sprintf(format, args...),
		s.opts.Env, s.opts.Role)
}

// verify tells whether what is shipped up to a checkpoint is this feed: its last segment must have our rows.
func (s *Shipper) verify(ctx context.Context, c Checkpoint, end schema.FeedEnd) error {
	switch {
	case c.Seq == 0:
		return nil
	case end.Epoch != c.Source:
		return s.foreign("its feed is %s, ours is %q", c.Source, end.Epoch)
	case end.Seq < c.Seq:
		return s.foreign("its feed went on to row %d, ours ends with %d, as after a restored backup", c.Seq, end.Seq)
	}
	shipped, key, err := s.segmentOf(ctx, c)
	if err != nil && !errors.Is(err, ErrDamaged) && !errors.Is(err, objects.ErrNotFound) {
		return err
	}
	if err != nil {
		return s.rebuild(ctx, c, key, err)
	}
	rows, err := s.rowsOf(ctx, shipped.First, shipped.Last)
	if err != nil {
		return err
	}
	return s.sameRows(shipped, rows)
}

// segmentOf reads the segment that ends a checkpoint: a live one, or a bulk one that has taken its place.
func (s *Shipper) segmentOf(ctx context.Context, c Checkpoint) (*Segment, string, error) {
	key := s.opts.Feed(c.First)
	stored, _, err := s.opts.Objects.Get(ctx, key)
	if errors.Is(err, objects.ErrNotFound) {
		x, _, loadErr := s.loadIndex(ctx)
		if loadErr != nil {
			return nil, key, loadErr
		}
		if bulk, ok := x.Find(c.Seq); ok {
			key = s.opts.Bulk(bulk.First)
			stored, _, err = s.opts.Objects.Get(ctx, key)
		}
	}
	if err != nil {
		return nil, key, err
	}
	segment, err := DecodeSegment(stored)
	return segment, key, err
}

// sameRows tells whether a segment has the rows of our feed.
func (s *Shipper) sameRows(shipped *Segment, rows []schema.ShippedRow) error {
	if shipped.Env != s.opts.Env || shipped.Role != s.opts.Role {
		return s.foreign("the segment from row %d is of %s/%s", shipped.First, shipped.Env, shipped.Role)
	}
	for i := range shipped.Rows {
		theirs, err := encodeEvent(&shipped.Rows[i].Event)
		if err != nil {
			return err
		}
		if i >= len(rows) {
			return s.foreign("it has a row %d, our feed ends before", shipped.First+uint64(i))
		}
		ours, err := encodeEvent(&rows[i].FeedEvent)
		if err != nil {
			return err
		}
		if !bytes.Equal(ours, theirs) {
			return s.foreign("row %d is %s there, and %s here", shipped.First+uint64(i), theirs, ours)
		}
	}
	return nil
}

// rowsOf reads rows again; fewer if the feed ends before.
func (s *Shipper) rowsOf(ctx context.Context, first, last uint64) ([]schema.ShippedRow, error) {
	var rows []schema.ShippedRow
	for next := first; next <= last; next = first + uint64(len(rows)) {
		part, err := s.opts.Store.Shipment(ctx, next-1, int(last-next+1), s.opts.bulkBytes)
		if err != nil {
			return nil, err
		}
		if len(part) == 0 {
			break
		}
		rows = append(rows, part...)
	}
	return rows, nil
}

// fence fails with ErrReplaced if another has become the writer. Before we are it, nobody can have replaced us.
func (s *Shipper) fence(ctx context.Context) error {
	if s.look().epoch == 0 {
		return nil
	}
	s.beating.Lock()
	defer s.beating.Unlock()
	_, err := s.fenced(ctx)
	return err
}

// fenced is fence, and returns the tag of the checkpoint, which is ours. It needs beating.
func (s *Shipper) fenced(ctx context.Context) (tag string, err error) {
	c, tag, err := s.checkpoint(ctx)
	if err != nil {
		return "", err
	}
	if epoch := s.look().epoch; c.Epoch != epoch {
		return "", fmt.Errorf("%w: %s, as writer %d of %s/%s; this was writer %d, and ends", ErrReplaced, c.Holder, c.Epoch,
			s.opts.Env, s.opts.Role, epoch)
	}
	return tag, nil
}

// A checkpoint is written at most this often while rows are shipped, and at least that often as a sign of life.
const (
	beatAfter = time.Second
	beatAlive = 4 * time.Second
)

func (s *Shipper) beatIfDue(ctx context.Context) error {
	st := s.look()
	since := s.opts.Now().Sub(st.beat)
	if since < beatAfter || since < beatAlive && st.saved == st.place {
		return nil
	}
	return s.beat(ctx)
}

// beat writes the checkpoint.
func (s *Shipper) beat(ctx context.Context) error {
	s.beating.Lock()
	defer s.beating.Unlock()
	st, now := s.look(), s.opts.Now()
	stored, err := EncodeCheckpoint(Checkpoint{
		Epoch: st.epoch, Holder: s.opts.Holder, Source: st.end.Epoch, Seq: st.seq, Link: st.link, First: st.first, Prev: st.prev,
		At: now, End: max(st.end.Seq, st.seq), Chains: st.chains,
		Sighted: st.sighted,
	})
	if err != nil {
		return err
	}
	tag, err := s.opts.Objects.Replace(ctx, s.opts.Writer(), stored, s.tag)
	if errors.Is(err, objects.ErrConflict) {
		// Ours can have been written by a call whose answer was lost.
		if s.tag, err = s.fenced(ctx); err != nil {
			return err
		}
		tag, err = s.opts.Objects.Replace(ctx, s.opts.Writer(), stored, s.tag)
	}
	if err != nil {
		return err
	}
	s.tag = tag
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.saved, s.state.beat = st.place, now
	return nil
}
