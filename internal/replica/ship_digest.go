package replica

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
)

const (
	// digestHeights is how many heights a digest sums up.
	digestHeights = 1000
	// digestDepth is how far below the head a block hardly ever changes.
	digestDepth = 128
	// digestQueue is how many digests may wait for a segment. While so many do, none is made.
	digestQueue = 16
	// mostTouched bounds what is remembered of ranges that changed. Beyond it, digests that wait are dropped.
	mostTouched = 4096
)

// rangeName is a range of heights: that from number*digestHeights on.
type rangeName struct{ chain, number uint64 }

func (r rangeName) heights() schema.HeightRange {
	return schema.HeightRange{Chain: r.chain, From: r.number * digestHeights, To: r.number*digestHeights + digestHeights - 1}
}

// digests are sums of ranges that replicas compare with their own. Making one takes longer than a row should wait, so it
// is true of an earlier row than the last of the segment that it goes with; it is true of that one as well unless the
// rows between them changed the range.
type digests struct {
	mu      sync.Mutex // guards what follows
	ready   []schema.RangeDigest
	touched map[rangeName]uint64 // the last row that changed a range, of the rows since one
	since   uint64               // which is that

	// Only the part that makes digests has these.
	fresh map[uint64]uint64 // by chain: the first range that was not complete when last looked at
	again map[uint64]uint64 // by chain: the range that was summed up once more last
	chain uint64            // whose that was
	done  time.Time         // when
}

// touch notes which ranges rows change.
func (d *digests) touch(rows []schema.ShippedRow) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.touched) > mostTouched {
		clear(d.touched)
		d.since = rows[0].Seq
	}
	for _, r := range rows {
		if r.Number != nil && (r.Kind == schema.FeedBlock || r.Kind == schema.FeedStatus) {
			d.touched[rangeName{r.Chain, *r.Number / digestHeights}] = r.Seq
		}
	}
}

// valid takes the digests that are true after the last row that is shipped, and drops those that are not any more.
func (d *digests) valid(last uint64) []schema.RangeDigest {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out, later []schema.RangeDigest
	for _, r := range d.ready {
		switch {
		case r.Seq > last:
			later = append(later, r)
		case d.touched[rangeName{r.Chain, r.From / digestHeights}] <= r.Seq && d.since <= r.Seq+1:
			r.Seq = last
			out = append(out, r)
		}
	}
	d.ready = later
	return out
}

// add lets a digest wait for the next segment.
func (d *digests) add(r schema.RangeDigest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ready) < digestQueue {
		d.ready = append(d.ready, r)
	}
}

func (d *digests) full() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.ready) >= digestQueue
}

// digestIfDue sums up one range: one that has become complete, or now and then one that was before, so that replicas
// that come later have something to compare, and damage at rest is found.
func (s *Shipper) digestIfDue(ctx context.Context) error {
	st := s.look()
	if s.digests.full() || st.end.Seq-min(st.seq, st.end.Seq) >= uint64(s.opts.bulkRows) {
		return nil
	}
	name, ok := s.digests.next(st.chains, s.opts.Now(), s.opts.Digest)
	if !ok {
		return nil
	}
	_, _, found, err := s.opts.Store.Digests(ctx, name.heights())
	if err != nil {
		return err
	}
	for _, d := range found {
		if d.Blocks > 0 {
			s.digests.add(d)
		}
	}
	return nil
}

// next picks the range to sum up.
func (d *digests) next(chains []schema.ChainState, now time.Time, every time.Duration) (rangeName, bool) {
	if d.fresh == nil {
		d.fresh, d.again = map[uint64]uint64{}, map[uint64]uint64{}
	}
	for _, c := range chains {
		complete := completeRanges(c)
		fresh, known := d.fresh[c.Chain]
		if !known {
			d.fresh[c.Chain] = complete
		} else if fresh < complete {
			d.fresh[c.Chain] = fresh + 1
			return rangeName{c.Chain, fresh}, true
		}
	}
	if now.Sub(d.done) < every || len(chains) == 0 {
		return rangeName{}, false
	}
	d.done = now
	return d.oneMore(chains)
}

// oneMore goes round the chains, and on each from the newest complete range to the oldest and round again.
func (d *digests) oneMore(chains []schema.ChainState) (rangeName, bool) {
	byChain := func(c schema.ChainState, chain uint64) int { return cmp.Compare(c.Chain, chain) }
	i, _ := slices.BinarySearchFunc(chains, d.chain+1, byChain)
	for range chains {
		c := chains[i%len(chains)]
		i++
		oldest, complete := c.Root.Number/digestHeights, completeRanges(c)
		if complete <= oldest {
			continue
		}
		last, ok := d.again[c.Chain]
		if !ok || last <= oldest || last > complete {
			last = complete
		}
		d.chain, d.again[c.Chain] = c.Chain, last-1
		return rangeName{c.Chain, last - 1}, true
	}
	return rangeName{}, false
}

// completeRanges is the number of the first range of a chain that is not complete yet.
func completeRanges(c schema.ChainState) uint64 {
	quiet := c.Head.Number - min(c.Head.Number, digestDepth)
	if c.Finalized != nil {
		quiet = max(quiet, *c.Finalized)
	}
	return (quiet + 1) / digestHeights
}
