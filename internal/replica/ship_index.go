package replica

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// index is the list of bulk segments as it is stored. Who changes it holds the lock for as long as that takes.
type index struct {
	sync.Mutex
	list    *Index // nil: to be read again
	tag     string // empty: there is none yet
	retired []retired
}

// retired are live segments that a bulk one has taken the place of.
type retired struct {
	end uint64 // the last row of the last
	due time.Time
}

// loadIndex reads the index. One that is lost or damaged is made again of the bulk segments, whose keys follow from each
// other.
func (s *Shipper) loadIndex(ctx context.Context) (*Index, string, error) {
	stored, tag, err := s.opts.Objects.Get(ctx, s.opts.Index())
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return nil, "", err
	}
	if err == nil {
		x, err := DecodeIndex(stored)
		if err == nil {
			return x, tag, nil
		}
		s.log.WithError(err).Warn("ship: the index is damaged, and made again")
		s.metrics.healed.Inc()
	}
	x := &Index{}
	link := schema.Hash{}
	for {
		bulk, size, err := s.getSegment(ctx, s.opts.Bulk(x.End()+1))
		if errors.Is(err, objects.ErrNotFound) {
			return x, tag, nil
		}
		if err != nil {
			return nil, "", err
		}
		if bulk.Prev != link {
			return nil, "", s.foreign("bulk segments do not follow each other at row %d", bulk.First)
		}
		x.add(bulk, size)
		link = bulk.Link
	}
}

func (x *Index) add(bulk *Segment, size int) {
	x.Segments = append(x.Segments, IndexSegment{
		First: bulk.First, Last: bulk.Last, Rows: bulk.Last - bulk.First + 1, Bytes: uint64(size),
	})
}

func (s *Shipper) getSegment(ctx context.Context, key string) (*Segment, int, error) {
	stored, _, err := s.opts.Objects.Get(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	segment, err := DecodeSegment(stored)
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", key, err)
	}
	return segment, len(stored), nil
}

// load reads the index unless it is known. It needs the lock.
func (s *Shipper) load(ctx context.Context) error {
	if s.index.list != nil {
		return nil
	}
	var err error
	s.index.list, s.index.tag, err = s.loadIndex(ctx)
	return err
}

// list adds a bulk segment to the index, if it is not there yet. It needs the lock.
func (s *Shipper) list(ctx context.Context, bulk *Segment) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	if s.index.list.End() >= bulk.Last {
		return nil
	}
	longer := &Index{Segments: append([]IndexSegment(nil), s.index.list.Segments...)}
	longer.add(bulk, bulk.size)
	stored, err := EncodeIndex(longer)
	if err != nil {
		return err
	}
	if _, err := DecodeIndex(stored); err != nil {
		return fmt.Errorf("bulk segment %d does not continue the index, which ends with %d: %w", bulk.First, s.index.list.End(), err)
	}
	tag, err := s.opts.Objects.Replace(ctx, s.opts.Index(), stored, s.index.tag)
	if err != nil {
		s.index.list = nil // whatever is there: it is read again
		if errors.Is(err, objects.ErrConflict) {
			return errors.Join(err, s.fence(ctx))
		}
		return err
	}
	s.index.list, s.index.tag = longer, tag
	return nil
}

// adoptBulk goes on behind bulk segments that were stored after the checkpoint was.
func (s *Shipper) adoptBulk(ctx context.Context) error {
	s.index.Lock()
	defer s.index.Unlock()
	if err := s.load(ctx); err != nil {
		return err
	}
	now := s.opts.Now()
	s.index.retired = append(s.index.retired[:0], retired{end: s.index.list.End(), due: now.Add(s.opts.Grace)})
	for {
		st := s.look()
		key := s.opts.Bulk(st.seq + 1)
		bulk, size, err := s.getSegment(ctx, key)
		if errors.Is(err, objects.ErrNotFound) {
			return nil
		}
		if errors.Is(err, ErrDamaged) && s.index.list.End() <= st.seq {
			return nil // nobody knows of it yet: it is replaced when its turn comes
		}
		if err != nil {
			return err
		}
		if bulk.Prev != st.link {
			return s.foreign("%s does not follow row %d", key, st.seq)
		}
		rows, err := s.claim(ctx, bulk, nil)
		if err != nil {
			return err
		}
		bulk.size = size
		if err := s.list(ctx, bulk); err != nil {
			return err
		}
		s.metrics.adopted.Inc()
		if err := s.finish(ctx, key, kindBulk, bulk, rows); err != nil {
			return err
		}
	}
}

// compactIfDue puts live segments together once there are rows for a bulk one, and deletes those that have been replaced
// for long enough.
func (s *Shipper) compactIfDue(ctx context.Context) error {
	s.index.Lock()
	defer s.index.Unlock()
	return errors.Join(s.compact(ctx, false), s.retire(ctx))
}

// compact puts the rows of live segments into bulk ones: as many as are full, or all. Only rows that the stored
// checkpoint knows of are taken, so that the index never goes beyond it in the middle of a segment. It needs the lock.
func (s *Shipper) compact(ctx context.Context, all bool) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	if all && s.look().saved != s.look().place {
		if err := s.beat(ctx); err != nil {
			return err
		}
	}
	least := uint64(s.opts.bulkRows)
	if all {
		least = 1
	}
	upTo := s.look().saved.seq // which bulk segments that were shipped since are beyond
	for from := s.index.list.End() + 1; from+least <= upTo+1; from = s.index.list.End() + 1 {
		bulk, err := s.gather(ctx, from, upTo)
		if err != nil {
			return fmt.Errorf("put live segments from row %d together: %w", from, err)
		}
		if err := s.replaceLive(ctx, bulk); err != nil {
			return err
		}
	}
	return nil
}

// replaceLive stores a bulk segment and lists it; the live ones may go after the grace.
func (s *Shipper) replaceLive(ctx context.Context, bulk *Segment) error {
	key := s.opts.Bulk(bulk.First)
	stored, err := EncodeSegment(bulk)
	if err != nil {
		return err
	}
	bulk.size = len(stored)
	err = s.opts.Objects.Create(ctx, key, stored)
	if errors.Is(err, objects.ErrExists) {
		err = s.settle(ctx, key, bulk, stored)
	}
	if err != nil {
		return err
	}
	if err := s.list(ctx, bulk); err != nil {
		return err
	}
	s.metrics.segments.WithLabelValues(kindBulk).Inc()
	s.metrics.bytes.Add(float64(len(stored)))
	s.index.retired = append(s.index.retired, retired{end: bulk.Last, due: s.opts.Now().Add(s.opts.Grace)})
	return nil
}

// settle is for a bulk segment that is there, though the index does not name it: an earlier attempt came so far. One that
// was cut elsewhere, or is damaged, is replaced.
func (s *Shipper) settle(ctx context.Context, key string, bulk *Segment, stored []byte) error {
	there, tag, err := s.opts.Objects.Get(ctx, key)
	if err != nil {
		return err
	}
	if theirs, err := DecodeSegment(there); err == nil && theirs.Last == bulk.Last && theirs.Link == bulk.Link {
		bulk.size = len(there)
		return nil
	}
	if err := s.fence(ctx); err != nil {
		return err
	}
	_, err = s.opts.Objects.Replace(ctx, key, stored, tag)
	return err
}

// gather reads live segments from a row on until they are enough for a bulk one, and the records that they name.
func (s *Shipper) gather(ctx context.Context, from, upTo uint64) (*Segment, error) {
	bulk := &Segment{}
	bytes := 0
	for next := from; next <= upTo && len(bulk.Rows) < s.opts.bulkRows && bytes < s.opts.bulkBytes; {
		part, err := s.liveSegment(ctx, next, bulk)
		if err != nil {
			return nil, err
		}
		if part.First != next || part.Last > upTo || next > from && part.Prev != bulk.Link {
			return nil, fmt.Errorf("%s: %w: it does not follow the one before it", s.opts.Feed(next), ErrDamaged)
		}
		if err := s.getRecords(ctx, part.Rows); err != nil {
			return nil, err
		}
		for i := range part.Rows {
			bytes += len(part.Rows[i].body)
		}
		if next == from {
			bulk.Head = s.head(from, part.Prev)
			bulk.Source = part.Source
		}
		bulk.Link, bulk.Rows = part.Link, append(bulk.Rows, part.Rows...)
		bulk.Sightings = append(bulk.Sightings, part.Sightings...)
		bytes += sightingSize * len(part.Sightings)
		bulk.Digests, bulk.Chains = part.Digests, part.Chains // those of the last row are true of the whole
		next = part.Last + 1
	}
	return bulk, nil
}

// getRecords reads the JSON of the records that rows name, several at once.
func (s *Shipper) getRecords(ctx context.Context, rows []Row) error {
	reads, reading := errgroup.WithContext(ctx)
	reads.SetLimit(max(1, s.opts.Uploads/4)) // rows that are shipped meanwhile come first
	for i := range rows {
		if rows[i].Object.IsZero() {
			continue
		}
		reads.Go(func() (err error) {
			rows[i].body, err = s.recordOf(reading, &rows[i])
			return err
		})
	}
	return reads.Wait()
}

// recordOf reads the JSON of a record; one that is lost or damaged is made again from the database.
func (s *Shipper) recordOf(ctx context.Context, r *Row) ([]byte, error) {
	stored, _, err := s.opts.Objects.Get(ctx, s.opts.Block(r.Event.Chain, r.Event.Key))
	if err != nil && !errors.Is(err, objects.ErrNotFound) {
		return nil, err
	}
	if err == nil {
		if body, err := openRecord(stored, r.Object); err == nil {
			return body, nil
		}
	}
	rows, err := s.rowsOf(ctx, r.Event.Seq, r.Event.Seq)
	if err != nil {
		return nil, err
	}
	built, err := s.putRecords(ctx, rows)
	if err != nil {
		return nil, err
	}
	if len(built) == 0 || built[0].Object != r.Object {
		return nil, fmt.Errorf("record %s: %w, and the database has it no more as it was", r.Event.Key, ErrDamaged)
	}
	return built[0].body, nil
}

// retire deletes live segments that a bulk one has replaced for longer than a reader takes. It needs the lock.
func (s *Shipper) retire(ctx context.Context) error {
	now := s.opts.Now()
	for len(s.index.retired) > 0 && !now.Before(s.index.retired[0].due) {
		if err := s.deleteLive(ctx, s.index.retired[0].end); err != nil {
			return err
		}
		s.index.retired = s.index.retired[1:]
	}
	return nil
}

// deleteLive deletes the live segments that begin with a row up to end.
func (s *Shipper) deleteLive(ctx context.Context, end uint64) error {
	const page = 1000
	for {
		keys, err := s.opts.Objects.List(ctx, s.opts.FeedPrefix(), "", page)
		if err != nil {
			return err
		}
		for _, key := range keys {
			first, err := strconv.ParseUint(strings.TrimPrefix(key, s.opts.FeedPrefix()), 10, 64)
			if err != nil {
				return fmt.Errorf("%s is no segment of ours: %w", key, err)
			}
			if first > end {
				return nil
			}
			if err := s.opts.Objects.Delete(ctx, key); err != nil {
				return err
			}
			s.metrics.deleted.Inc()
		}
		if len(keys) < page {
			return nil
		}
	}
}
