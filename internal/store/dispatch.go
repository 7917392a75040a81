package store

import (
	"context"
	"maps"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

const (
	// mysqlLanes is how many transactions a store has under way at once where the database can use it: one takes its
	// rows in while another waits for the disk.
	mysqlLanes = 3
	// aloneAfterYield is how many batches go one by one after one had to let go of its rows while it waited for its
	// turn: whoever it was in the way of is probably still there.
	aloneAfterYield = 64
	// maxGuesses bounds the chains whose heads are guessed.
	maxGuesses = 1024
)

// flight is a batch on its way into the database. Several are under way at once, but each takes the feed's lock only
// after the one before has ended, so that records enter chain and feed in the order in which they were offered.
type flight struct {
	batch   []*pending
	parked  []*pending      // offers of keys that are on this flight: they wait for its COMMIT
	before  <-chan struct{} // closed when the flight before has ended
	ended   chan struct{}   // closed by fly
	yielded bool            // it had to let go of its rows while it waited for its turn

	misled bool                 // a status was not as guessed
	chains map[uint64]*chainRow // where the chains that it has touched stand after it
}

// dispatcher forms flights of what is queued and answers what they carried. Run's goroutine owns all of it.
type dispatcher struct {
	store  *Store
	lanes  int
	commit *committer
	cache  *cache

	landed   chan *flight // room for every lane
	flying   int
	last     chan struct{}         // ended of the newest flight
	inFlight map[recordKey]*flight // which flight carries a key
	released []*pending            // was parked; goes before what is queued
	alone    int                   // flights that are to go one by one
	guesses  map[uint64]*chainRow  // where each chain will stand after all flights
}

func newDispatcher(s *Store) *dispatcher {
	lanes := 1
	if s.dialect == dialectMySQL {
		lanes = mysqlLanes
	}
	last := make(chan struct{})
	close(last)
	return &dispatcher{
		store: s, lanes: lanes, commit: &committer{store: s, stmts: newStatements(s.dialect)}, cache: newCache(s.cacheKeys),
		landed: make(chan *flight, lanes), last: last,
		inFlight: map[recordKey]*flight{}, guesses: map[uint64]*chainRow{},
	}
}

// run returns when ctx has ended and every flight has landed.
func (d *dispatcher) run(ctx context.Context) {
	defer d.commit.stmts.close()
	_ = d.commit.stmts.prepare(ctx, d.store.ingest) // else the first offers wait for it; what fails is done again with them
	for ctx.Err() == nil {
		d.launch(ctx)
		select {
		case <-ctx.Done():
		case <-d.store.queue.ready:
		case f := <-d.landed:
			d.land(f)
			d.launch(ctx) // first, so that the database works while answers go out
			d.answer(f)
		}
	}
	left := d.store.queue.close() // first, or the places that flights give up would be taken
	for d.flying > 0 {
		f := <-d.landed
		d.land(f)
		d.answer(f)
	}
	for _, p := range append(d.released, left...) {
		d.store.settle(p, schema.Settlement{Outcome: schema.Unsettled, Reason: ErrStopped.Error()})
	}
}

// launch sends off what is queued: anything when nothing is under way, else only whole batches, because offers that
// wait for a COMMIT gather into a bigger one.
func (d *dispatcher) launch(ctx context.Context) {
	for d.flying == 0 || d.flying < d.lanes && d.alone == 0 && d.store.queue.deep() {
		f := d.load()
		if len(f.batch) == 0 {
			return
		}
		d.alone = max(0, d.alone-1)
		f.before, d.last = d.last, f.ended
		d.flying++
		d.guess(f)
		go func() {
			d.commit.fly(ctx, f)
			d.landed <- f
		}()
	}
}

// load takes the next batch. Offers of keys that are in flight stay behind with that flight.
func (d *dispatcher) load() *flight {
	f := &flight{ended: make(chan struct{}), chains: map[uint64]*chainRow{}}
	rows, size := 0, int64(0)
	fits := func(p *pending) bool {
		if p.bad != nil {
			f.batch = append(f.batch, p)
			return true
		}
		other := d.inFlight[p.key]
		if other != nil && other != f {
			other.parked = append(other.parked, p)
			return true
		}
		p.id, p.known = d.cache.find(p.key)
		fresh := !p.known && other == nil
		if len(f.batch) >= batchOffers || fresh && (rows >= batchRows || rows > 0 && size+p.size > batchBytes) {
			return false
		}
		if fresh {
			rows++
			size += p.size
		}
		d.inFlight[p.key] = f
		f.batch = append(f.batch, p)
		return true
	}
	for len(d.released) > 0 && fits(d.released[0]) {
		d.released = d.released[1:]
	}
	if len(d.released) == 0 {
		d.store.queue.take(fits)
	}
	return f
}

// guess foretells the statuses of a flight's new blocks, from where the chains will stand after the flights before it.
// A block that is inserted with the right status need not be touched again.
func (d *dispatcher) guess(f *flight) {
	if len(d.guesses) > maxGuesses {
		clear(d.guesses)
	}
	blocks := make([]*pending, 0, len(f.batch))
	for _, p := range f.batch {
		if p.bad == nil && !p.known && p.offer.Header != nil {
			blocks = append(blocks, p)
		}
	}
	slices.SortStableFunc(blocks, compareHeights)
	for _, p := range blocks {
		d.guesses[p.key.chain], p.guess = d.guesses[p.key.chain].ingest(p.offer)
	}
}

// land notes what a flight has committed and lets those go that waited for it.
func (d *dispatcher) land(f *flight) {
	d.flying--
	if f.yielded {
		d.alone = aloneAfterYield
	}
	if f.misled {
		d.alone = max(d.alone, 1) // the flights behind it were guessed from the same mistake
	}
	if d.flying == 0 {
		maps.Copy(d.guesses, f.chains)
	}
	for _, p := range f.batch {
		if p.bad != nil {
			continue
		}
		delete(d.inFlight, p.key)
		if stored := p.answer.Outcome == schema.First || p.answer.Outcome == schema.Duplicate; stored && !p.known {
			d.cache.add(p.key, p.id)
		}
		if p.known {
			d.store.metrics.known.Inc()
		}
	}
	d.released = append(d.released, f.parked...)
}

func (d *dispatcher) answer(f *flight) {
	for _, p := range f.batch {
		d.store.settle(p, p.answer)
	}
}
