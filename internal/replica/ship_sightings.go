package replica

import (
	"context"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// sightings are who else saw records that are shipped. Most come moments after the record: those of the last records are
// asked for by record, whatever clocks say. Others come hours later, from an observer that begins with old blocks: those
// are asked for by when a server received them. All of them wait for the next segment that ends where the feed ends.
type sightings struct {
	waiting []schema.ShippedSighting // to be shipped; at most mostWaiting and a page
	recent  []uint64                 // the last records, by id
	seen    seen                     // that were found: whatever is forgotten is shipped once more, without harm

	looked time.Time // when records were asked for last
	swept  time.Time // when everything that was received was
	since  time.Time // up to when, by the store's clock, everything received is found
	upTo   time.Time // likewise, and shipped
}

const (
	lookEvery   = time.Second
	sweepEvery  = 10 * time.Second
	sweepBefore = 30 * time.Second // how late what was received may be committed, and how far servers' clocks may differ
	sweepPage   = 4096
	mostRecent  = 256
	mostWaiting = 16384
)

// start goes on where an earlier writer was.
func (g *sightings) start(before Checkpoint, now time.Time) {
	switch {
	case !before.Sighted.IsZero():
		g.since = before.Sighted
	case !before.At.IsZero():
		g.since = before.At
	default:
		g.since = now
	}
	g.upTo = before.Sighted
}

// of remembers rows whose records others may be about to see.
func (g *sightings) of(rows []schema.ShippedRow) {
	g.recent = append(g.recent, recordsOf(rows)...)
	if extra := len(g.recent) - mostRecent; extra > 0 {
		g.recent = append(g.recent[:0], g.recent[extra:]...)
	}
}

// inSide is how many of those that wait are in the side object at most.
const inSide = 4096

// showSightings hands those that wait to whoever writes the side object.
func (s *Shipper) showSightings() {
	waiting := s.sightings.waiting
	waiting = waiting[:min(len(waiting), inSide)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.waiting = waiting
}

// sightingSize is how many bytes a sighting takes in JSON, about.
const sightingSize = 256

// sightingsOf reads who else saw the records of rows, of which it returns as many as have about what a bulk segment holds.
func (s *Shipper) sightingsOf(
	ctx context.Context, rows []schema.ShippedRow,
) (taken []schema.ShippedRow, found []schema.ShippedSighting, err error) {
	const atOnce = 256
	for len(taken) < len(rows) && sightingSize*len(found) < s.opts.bulkBytes {
		next := rows[len(taken):min(len(taken)+atOnce, len(rows))]
		more, err := s.opts.Store.SightingsOf(ctx, recordsOf(next))
		if err != nil {
			return nil, nil, err
		}
		found, taken = append(found, more...), rows[:len(taken)+len(next)]
	}
	return taken, found, nil
}

// shipped says that what waited waits no more.
func (g *sightings) shipped() { g.waiting, g.upTo = nil, g.since }

// add lets those wait that are new.
func (g *sightings) add(found []schema.ShippedSighting) {
	for _, f := range found {
		if g.seen.add(sightingName{f.Chain, f.Key, f.Observer}) {
			g.waiting = append(g.waiting, f)
		}
	}
}

// lookForSightings reads what is new, now and then.
func (s *Shipper) lookForSightings(ctx context.Context) error {
	g, now := &s.sightings, s.opts.Now()
	if now.Sub(g.looked) < lookEvery || len(g.waiting) >= mostWaiting {
		return nil
	}
	g.looked = now
	found, err := s.opts.Store.SightingsOf(ctx, g.recent)
	if err != nil {
		return err
	}
	g.add(found)
	if now.Sub(g.swept) < sweepEvery {
		return nil
	}
	g.swept = now
	return s.sweepSightings(ctx)
}

// sweepSightings reads what servers received since the last time, page by page.
func (s *Shipper) sweepSightings(ctx context.Context) error {
	g := &s.sightings
	var began time.Time
	for from := g.since.Add(-sweepBefore); ; {
		page, now, err := s.opts.Store.SightingsSince(ctx, from, sweepPage)
		if err != nil {
			return err
		}
		if began.IsZero() {
			began = now
		}
		g.add(page)
		if len(page) < sweepPage {
			g.since = began
			if len(g.waiting) == 0 {
				g.upTo = began
			}
			return nil
		}
		if len(g.waiting) >= mostWaiting {
			return nil // the next look comes back to it
		}
		last := page[len(page)-1].ReceivedAt
		if last.Equal(page[0].ReceivedAt) {
			last = last.Add(time.Microsecond)
		}
		from = last
	}
}

type sightingName struct {
	chain    uint64
	key      schema.Key
	observer string
}

// seen is a set that forgets what it was told first, once it has become large.
type seen struct{ young, old map[sightingName]struct{} }

// mostSeen elements, and as many older ones, are kept.
const mostSeen = 1 << 16

// add tells whether the name is new.
func (n *seen) add(name sightingName) bool {
	if _, ok := n.young[name]; ok {
		return false
	}
	_, known := n.old[name]
	if n.young == nil || len(n.young) >= mostSeen {
		n.old, n.young = n.young, map[sightingName]struct{}{}
	}
	n.young[name] = struct{}{}
	return !known
}
