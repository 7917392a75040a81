package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// step ships one segment, if there are rows for one, and tells whether there may be more.
func (s *Shipper) step(ctx context.Context) (more bool, err error) {
	st, err := s.snapshot(ctx)
	if err != nil {
		return false, err
	}
	left := st.end.Seq - st.seq
	switch {
	case left == 0:
	case left >= uint64(s.opts.bulkRows):
		err = s.shipMany(ctx, st)
	default:
		err = s.shipLive(ctx, st)
	}
	if err != nil {
		return false, err
	}
	err = s.lookForSightings(ctx)
	s.showSightings()
	return left > 0, err
}

// snapshot looks where the feed ends.
func (s *Shipper) snapshot(ctx context.Context) (shipState, error) {
	end, chains, _, err := s.opts.Store.Digests(ctx)
	if err != nil {
		return shipState{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case end.Seq < s.state.seq:
		return shipState{}, s.foreign("the feed ends with row %d, %d are shipped", end.Seq, s.state.seq)
	case s.state.end.Epoch != "" && s.state.end.Epoch != end.Epoch:
		return shipState{}, s.foreign("the feed was %s, and is %s now", s.state.end.Epoch, end.Epoch)
	}
	s.state.end, s.state.chains = end, chains
	if end.Seq == s.state.seq {
		s.state.moved = s.opts.Now()
	}
	return s.state, nil
}

func (s *Shipper) head(first uint64, prev schema.Hash) Head {
	st := s.look()
	return Head{
		Env: s.opts.Env, Role: s.opts.Role, Epoch: st.epoch, Source: st.end.Epoch, First: first, Prev: prev, At: s.opts.Now(),
	}
}

// read reads the next rows, at least one.
func (s *Shipper) read(ctx context.Context, st shipState, limit, bytes int) ([]schema.ShippedRow, error) {
	rows, err := s.opts.Store.Shipment(ctx, st.seq, int(min(uint64(limit), st.end.Seq-st.seq)), bytes)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 || rows[0].Seq != st.seq+1 {
		return nil, fmt.Errorf("the feed ends with row %d, but none follows %d", st.end.Seq, st.seq)
	}
	s.mu.Lock()
	s.state.behind = rows[0].At
	s.mu.Unlock()
	return rows, nil
}

// shipLive ships a small segment, as soon as there is a row.
func (s *Shipper) shipLive(ctx context.Context, st shipState) error {
	rows, err := s.read(ctx, st, s.opts.liveRows, s.opts.liveBytes)
	if err != nil {
		return err
	}
	built, err := s.putRecords(ctx, rows)
	if err != nil {
		return err
	}
	segment := &Segment{Head: s.head(st.seq+1, st.link), Rows: built.rows(false)}
	last := rows[len(rows)-1].Seq
	s.digests.touch(rows)
	if last == st.end.Seq {
		// Sightings that wait were read before the feed's end was: their records are shipped by now.
		segment.Sightings, segment.Chains, segment.Digests = s.sightings.waiting, st.chains, s.digests.valid(last)
	}
	key := s.opts.Feed(segment.First)
	shipped, rows, err := s.create(ctx, key, segment, rows)
	if err != nil {
		return err
	}
	if shipped == segment && last == st.end.Seq {
		s.sightings.shipped()
	}
	s.sightings.of(rows)
	return s.finish(ctx, key, kindLive, shipped, rows)
}

// shipMany ships a large segment, where so many rows wait that small ones would only be put together later. Everything
// before it must be in bulk segments, too; where that cannot be, small ones must do.
func (s *Shipper) shipMany(ctx context.Context, st shipState) error {
	s.index.Lock()
	defer s.index.Unlock()
	err := s.compact(ctx, true)
	if err == nil && s.index.list.End() != st.seq {
		err = fmt.Errorf("bulk segments end with row %d, rows are shipped up to %d", s.index.list.End(), st.seq)
	}
	if permanent(err) || ctx.Err() != nil {
		return err
	}
	s.note(tryCompact, err)
	if err != nil {
		return s.shipLive(ctx, st)
	}
	return s.shipBulk(ctx, st)
}

// shipBulk ships a segment that carries its records. It needs the lock of the index.
func (s *Shipper) shipBulk(ctx context.Context, st shipState) error {
	rows, err := s.read(ctx, st, s.opts.bulkRows, s.opts.bulkBytes)
	if err != nil {
		return err
	}
	rows, sightings, err := s.sightingsOf(ctx, rows)
	if err != nil {
		return err
	}
	built, err := s.putRecords(ctx, rows)
	if err != nil {
		return err
	}
	segment := &Segment{Head: s.head(st.seq+1, st.link), Rows: built.rows(true), Sightings: sightings}
	s.digests.touch(rows)
	key := s.opts.Bulk(segment.First)
	shipped, rows, err := s.create(ctx, key, segment, rows)
	if err != nil {
		return err
	}
	if err := s.list(ctx, shipped); err != nil {
		return err
	}
	return s.finish(ctx, key, kindBulk, shipped, rows)
}

func recordsOf(rows []schema.ShippedRow) []uint64 {
	var ids []uint64
	for _, r := range rows {
		if r.Kind == schema.FeedBlock {
			ids = append(ids, r.Record.ID)
		}
	}
	return ids
}

// create stores a segment. One that is there already is taken instead if it has our rows, as one has that an earlier
// writer stored before it could say so. It returns what is there, and its rows.
func (s *Shipper) create(
	ctx context.Context, key string, ours *Segment, rows []schema.ShippedRow,
) (*Segment, []schema.ShippedRow, error) {
	stored, err := EncodeSegment(ours)
	if err != nil {
		return nil, nil, err
	}
	err = s.opts.Objects.Create(ctx, key, stored)
	if err == nil {
		s.metrics.bytes.Add(float64(len(stored)))
		ours.size = len(stored)
		return ours, rows, nil
	}
	if !errors.Is(err, objects.ErrExists) {
		return nil, nil, err
	}
	if err := s.fence(ctx); err != nil {
		return nil, nil, err
	}
	return s.adopt(ctx, key, ours, stored, rows)
}

// adopt takes the segment that is there, or replaces it if it is damaged.
func (s *Shipper) adopt(
	ctx context.Context, key string, ours *Segment, stored []byte, rows []schema.ShippedRow,
) (*Segment, []schema.ShippedRow, error) {
	there, tag, err := s.opts.Objects.Get(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	theirs, err := DecodeSegment(there)
	if err != nil {
		s.log.WithError(err).WithField("key", key).Warn("ship: a damaged segment is replaced")
		s.metrics.healed.Inc()
		_, err := s.opts.Objects.Replace(ctx, key, stored, tag)
		ours.size = len(stored)
		return ours, rows, err
	}
	if theirs.First != ours.First || theirs.Prev != ours.Prev {
		return nil, nil, s.foreign("%s begins with row %d behind link %s, not with %d behind %s", key, theirs.First,
			theirs.Prev, ours.First, ours.Prev)
	}
	if rows, err = s.claim(ctx, theirs, rows); err != nil {
		return nil, nil, err
	}
	theirs.size = len(there)
	s.metrics.adopted.Inc()
	s.log.WithFields(logrus.Fields{"key": key, "last": theirs.Last}).Info("ship: a segment is there already, and taken")
	return theirs, rows, nil
}

// claim verifies that a segment has our rows, and that their records are stored. It returns the rows.
func (s *Shipper) claim(ctx context.Context, theirs *Segment, rows []schema.ShippedRow) ([]schema.ShippedRow, error) {
	n := int(theirs.Last - theirs.First + 1)
	if n > len(rows) {
		var err error
		if rows, err = s.rowsOf(ctx, theirs.First, theirs.Last); err != nil {
			return nil, err
		}
	}
	if err := s.sameRows(theirs, rows); err != nil {
		return nil, err
	}
	rows = rows[:n]
	s.digests.touch(rows) // which can be more than we wanted to ship
	built, err := s.putRecords(ctx, rows)
	if err != nil {
		return nil, err
	}
	for i := range built {
		if built[i].Object != theirs.Rows[i].Object {
			return nil, fmt.Errorf("record %s is not the one that the segment from row %d names", rows[i].Key, theirs.First)
		}
	}
	return rows, nil
}

// finish says of a segment that it is there: to readers that think in heights, to our own checkpoint, and to replicas.
func (s *Shipper) finish(ctx context.Context, key, kind string, shipped *Segment, rows []schema.ShippedRow) error {
	if err := s.putHeaders(ctx, rows); err != nil {
		return err
	}
	s.mu.Lock()
	s.state.place = place{seq: shipped.Last, link: shipped.Link, first: shipped.First, prev: shipped.Prev}
	s.state.sighted, s.state.moved = s.sightings.upTo, s.opts.Now()
	if s.state.seq >= s.state.end.Seq {
		s.state.behind = time.Time{}
	}
	epoch := s.state.epoch
	s.mu.Unlock()
	s.metrics.segments.WithLabelValues(kind).Inc()
	s.metrics.rows.Add(float64(len(rows)))
	if s.opts.Broker != nil {
		s.opts.Broker.Tell(ctx, broker.Pointer{First: shipped.First, Last: shipped.Last, Epoch: epoch, Key: key})
	}
	return nil
}
