package replica

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// Errors that end a Shipper, since trying again would change nothing.
var (
	// ErrReplaced reports another writer of the same role, which came later.
	ErrReplaced = errors.New("another writer has taken over")
	// ErrForeign reports that what is shipped is another database's.
	ErrForeign = errors.New("what is shipped does not come from this database")
)

// Shipper ships a store's feed. Run does all of it; Ready and Stats may be asked meanwhile.
//
// Its parts run beside each other, so that none of them makes a row wait: one ships rows, one writes the checkpoint, one
// puts live segments together into bulk ones, one sums ranges up, one writes the side object.
type Shipper struct {
	opts    ShipOptions
	log     logrus.FieldLogger
	metrics *shipMetrics

	index     index      // of bulk segments
	digests   digests    // that wait for a segment
	sightings sightings  // likewise; only the part that ships rows has it
	side      sideObject // only the part that writes it has it

	beating sync.Mutex // guards the tag of the checkpoint: one writes it at a time
	tag     string

	mu     sync.Mutex // guards what follows
	state  shipState
	trying map[string]failing // what fails now, by what is tried
}

// shipState is what the parts of a Shipper know of each other.
type shipState struct {
	place
	epoch  uint64              // our fencing number, 0 until we are the writer
	saved  place               // of the checkpoint that is stored
	beat   time.Time           // when that was written
	moved  time.Time           // when rows were shipped, or none were found, last
	end    schema.FeedEnd      // of the feed
	chains []schema.ChainState // as they stood at its end
	behind time.Time           // when the oldest row that is not shipped was written; zero if all are

	sighted time.Time // up to when, by the store's clock, it is shipped who else saw records

	waiting []schema.ShippedSighting // that no segment has; never changed, only replaced
}

// place is how far rows are shipped.
type place struct {
	seq   uint64
	link  schema.Hash // after that row
	first uint64      // of the segment that ends with it
	prev  schema.Hash // the link before that segment
}

// failing is something that fails.
type failing struct {
	since time.Time
	err   error
}

// ShipStats is how far a Shipper is.
type ShipStats struct {
	Seq uint64 // the last row that is shipped
	End uint64 // the last row of the feed, as far as it is known
}

// NewShipper checks the options.
func NewShipper(o ShipOptions) (*Shipper, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("ship: %w", err)
	}
	o.setDefaults()
	s := &Shipper{opts: o, log: quiet.Log(o.Log), trying: map[string]failing{}}
	s.sightings.seen, s.digests.touched = seen{}, map[rangeName]uint64{}
	s.metrics = newShipMetrics(s)
	return s, nil
}

// look returns what is known now. Chains must not be changed.
func (s *Shipper) look() shipState {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// Stats returns how far it is.
func (s *Shipper) Stats() ShipStats {
	st := s.look()
	return ShipStats{Seq: st.seq, End: max(st.seq, st.end.Seq)}
}

// What readiness puts up with: something that fails, a checkpoint that is not written, and rows that do not go on, as
// where a call neither succeeds nor fails. A large segment takes its time.
const (
	patience     = 5 * time.Second
	patienceBeat = 15 * time.Second
	patienceRows = 30 * time.Second
)

// Ready is red until this is the writer, and while rows or checkpoints cannot be written.
func (s *Shipper) Ready(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opts.Now()
	for what, t := range s.trying {
		if now.Sub(t.since) > patience && what != tryCompact && what != tryDigest && what != trySide {
			return fmt.Errorf("cannot %s since %s: %w", what, t.since.UTC().Format(time.TimeOnly), t.err)
		}
	}
	st := &s.state
	switch {
	case st.epoch == 0:
		return errors.New("not the writer yet")
	case now.Sub(st.beat) > patienceBeat:
		return fmt.Errorf("the checkpoint was written at %s last", st.beat.UTC().Format(time.TimeOnly))
	case now.Sub(st.moved) > patienceRows:
		return fmt.Errorf("no row is shipped since %s, %d are known to wait", st.moved.UTC().Format(time.TimeOnly),
			st.end.Seq-min(st.seq, st.end.Seq))
	}
	return nil
}

// What is tried again when it fails, as logs and metrics name it.
const (
	tryStart   = "take over"
	tryShip    = "ship rows"
	tryBeat    = "write checkpoint"
	tryCompact = "compact"
	tryDigest  = "sum ranges up"
	trySide    = "write side object"
)

// Run ships until ctx ends, writes the last checkpoint and returns nil. It returns ErrReplaced and ErrForeign as soon as
// it finds out; everything else it tries again for as long as it takes. Call it once.
func (s *Shipper) Run(ctx context.Context) error {
	if err := s.insist(ctx, tryStart, s.start); err != nil {
		return ended(ctx, err)
	}
	parts, live := errgroup.WithContext(ctx)
	parts.Go(func() error { return s.shipAll(live) })
	parts.Go(func() error { return s.every(live, beatTick, tryBeat, s.beatIfDue) })
	parts.Go(func() error { return s.every(live, compactTick, tryCompact, s.compactIfDue) })
	parts.Go(func() error { return s.every(live, digestTick, tryDigest, s.digestIfDue) })
	parts.Go(func() error { return s.every(live, sideEvery, trySide, s.writeSide) })
	err := ended(ctx, parts.Wait())
	if err != nil {
		return err
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	if err := s.beat(last); err != nil {
		s.log.WithError(err).Warn("ship: the last checkpoint is not written; the next start finds out how far this came")
	}
	return nil
}

const (
	beatTick    = 250 * time.Millisecond
	compactTick = 2 * time.Second
	digestTick  = time.Second
	sideEvery   = 5 * time.Second
	lastWords   = 5 * time.Second
)

// ended makes no failure of being told to end.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && !permanent(err) {
		return nil
	}
	return err
}

func permanent(err error) bool { return errors.Is(err, ErrReplaced) || errors.Is(err, ErrForeign) }

// shipAll ships what there is, whenever there is news and every now and then, until ctx ends.
func (s *Shipper) shipAll(ctx context.Context) error {
	tick := time.NewTicker(s.opts.Poll)
	defer tick.Stop()
	for {
		more := true
		for more {
			if err := s.insist(ctx, tryShip, func(ctx context.Context) (err error) {
				more, err = s.step(ctx)
				return err
			}); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		case <-s.opts.News:
		}
	}
}

// every does something again and again.
func (s *Shipper) every(ctx context.Context, rest time.Duration, what string, do func(context.Context) error) error {
	tick := time.NewTicker(rest)
	defer tick.Stop()
	for {
		if err := s.insist(ctx, what, do); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// Between attempts lies a random time below a bound that doubles up to a few seconds.
const (
	firstRest = 100 * time.Millisecond
	mostRest  = 5 * time.Second
)

// insist does something until it succeeds, or fails for good, or ctx ends.
func (s *Shipper) insist(ctx context.Context, what string, do func(context.Context) error) error {
	for rest := firstRest; ; rest = min(2*rest, mostRest) {
		err := do(ctx)
		if ctx.Err() != nil && !permanent(err) {
			return ctx.Err()
		}
		s.note(what, err)
		if err == nil || permanent(err) {
			return err
		}
		pause(ctx, rest/2+rand.N(rest/2+1))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// note keeps for Ready what fails, and logs changes.
func (s *Shipper) note(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, known := s.trying[what]
	switch {
	case err == nil && known:
		delete(s.trying, what)
		s.log.WithFields(logrus.Fields{"what": what, "since": t.since.UTC()}).Info("ship: works again")
	case err != nil:
		if !known {
			t.since = s.opts.Now()
			if !permanent(err) { // else it ends with that error
				s.log.WithError(err).WithField("what", what).Warn("ship: failed, will try again")
			}
		}
		t.err = err
		s.trying[what] = t
		s.metrics.failures.WithLabelValues(what).Inc()
	}
}
