package feed

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// Source is the feed's table.
type Source interface {
	// Feed returns up to limit rows after a seq, in order.
	Feed(ctx context.Context, after uint64, limit int) ([]schema.FeedEntry, error)
	// FeedEnd returns where the feed ends.
	FeedEnd(ctx context.Context) (schema.FeedEnd, error)
	// BlockAddresses returns the addresses that the transactions of blocks name.
	BlockAddresses(ctx context.Context, blocks []schema.Key) (map[schema.Key][]schema.Address, error)
}

// Options configure a feed. Source is required.
type Options struct {
	Source Source
	Hints  *Hints        // nil: the table is only polled
	Poll   time.Duration // between looks at the table without a hint; default and most 1 s

	Recent int // events kept at hand for readers that are a little behind; default 4096
	Buffer int // events of its filter that a reader may be behind before it is cut off; default 1024

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // a clock with a monotonic reading; default time.Now
}

const (
	maxPoll = time.Second
	// patience is how long the table may be unreadable before readiness says so.
	patience = 5 * time.Second
	// breath lies between two looks at the table that hints ask for: a busy store commits more often than it makes sense
	// to look.
	breath = 5 * time.Millisecond
	// readers is how many subscriptions may read history from the store at once; others wait their turn.
	readers = 8
	// tailBatch is how many rows the tailer reads at once.
	tailBatch = 512
)

// Feed follows the store's feed for any number of readers.
type Feed struct {
	opts    Options
	log     logrus.FieldLogger
	hub     *hub
	metrics *metrics

	started chan struct{} // closed by Run when it knows where the feed ends
	ended   chan struct{} // closed by Run when it returns
	history chan struct{} // holds an element for each reader of history

	mu      sync.Mutex // guards what follows
	failing time.Time  // since when the table cannot be read; zero while it can
	failure error
}

// New checks the options. Run makes the feed follow.
func New(o Options) (*Feed, error) {
	if o.Source == nil {
		return nil, errors.New("feed: no source")
	}
	if o.Poll < 0 || o.Poll > maxPoll || o.Recent < 0 || o.Buffer < 0 {
		return nil, fmt.Errorf("feed: poll must be at most %s, and nothing may be negative", maxPoll)
	}
	if o.Poll == 0 {
		o.Poll = maxPoll
	}
	if o.Recent == 0 {
		o.Recent = 4096
	}
	if o.Buffer == 0 {
		o.Buffer = 1024
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Hints == nil {
		o.Hints = NewHints(HintsOptions{})
	}
	f := &Feed{
		opts: o, log: quiet.Log(o.Log), hub: newHub(o.Buffer, o.Recent),
		started: make(chan struct{}), ended: make(chan struct{}), history: make(chan struct{}, readers),
	}
	var err error
	if f.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("feed: register metrics: %w", err)
	}
	return f, nil
}

// Ready tells whether events come through: an error while the table cannot be read, or while hints are sent but do not
// arrive.
func (f *Feed) Ready(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.failing.IsZero() && f.opts.Now().Sub(f.failing) > patience {
		return fmt.Errorf("the feed cannot be read: %w", f.failure)
	}
	select {
	case <-f.started:
	default:
		return errors.New("the feed has not been read yet")
	}
	return f.opts.Hints.ready()
}

// Run follows the table until ctx ends and returns nil. Call it once.
func (f *Feed) Run(ctx context.Context) error {
	defer close(f.ended)
	news := f.opts.Hints.listen()
	defer f.opts.Hints.forget(news)
	tick := time.NewTicker(f.opts.Poll)
	defer tick.Stop()
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		f.note(f.look(ctx))
		rest.Reset(breath)
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-news.wake:
		}
	}
}

// note keeps for Ready how the last look went, and logs changes.
func (f *Feed) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && f.failing.IsZero():
		f.failing = f.opts.Now()
		f.log.WithError(err).Warn("feed: cannot read, will try again")
	case err == nil && !f.failing.IsZero():
		f.log.WithField("since", f.failing.UTC()).Info("feed: reading again")
		f.failing = time.Time{}
	}
	f.failure = err
}

// look reads and hands out everything that is new.
func (f *Feed) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	select {
	case <-f.started:
	default:
		if err := f.start(ctx); err != nil {
			return quietly(ctx, err)
		}
		close(f.started)
	}
	for {
		at := f.hub.cursor()
		if at.Epoch == "" || at.Seq == 0 {
			end, err := f.opts.Source.FeedEnd(ctx)
			if err != nil || end.Seq == 0 {
				return quietly(ctx, err)
			}
			at.Epoch = end.Epoch
		}
		events, err := f.read(ctx, at, tailBatch, f.hub.addressed.Load() > 0)
		if err != nil {
			return quietly(ctx, err)
		}
		if len(events) == 0 {
			return quietly(ctx, f.verify(ctx, at))
		}
		if !f.hub.publish(events) { // who asks for addresses came after these were read
			if err := f.addAddresses(ctx, events); err != nil {
				return quietly(ctx, err)
			}
			f.hub.publish(events)
		}
		f.metrics.published(events)
	}
}

// quietly makes no failure of being told to end.
func quietly(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return nil
	}
	return err
}

// start finds the feed's end and goes back from there by what memory holds, for readers that come back after a restart.
func (f *Feed) start(ctx context.Context) error {
	end, err := f.opts.Source.FeedEnd(ctx)
	if err != nil {
		return err
	}
	at := Cursor{Epoch: end.Epoch}
	if back := uint64(f.opts.Recent); end.Seq > back {
		at.Seq = end.Seq - back
	}
	f.hub.begin(at)
	for at.Seq < end.Seq {
		events, err := f.read(ctx, at, tailBatch, false)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			f.hub.begin(Cursor{Epoch: end.Epoch, Seq: end.Seq})
			return nil
		}
		f.hub.publish(events)
		at = events[len(events)-1].Cursor()
	}
	return nil
}

// renewed is why a log that went on under a new epoch has a mark there.
const renewed = "this replica was taken back, or follows another writer: what comes next undoes what it does not hold any more"

// verify notices that the table is another one than before: readers are told, and get it from its beginning. One that
// goes on under a new epoch is read on from where it is.
func (f *Feed) verify(ctx context.Context, at Cursor) error {
	end, err := f.opts.Source.FeedEnd(ctx)
	if err != nil || end.Epoch == at.Epoch && end.Seq >= at.Seq {
		return err
	}
	m := Missing{Reason: "the database was replaced"}
	next := Cursor{Epoch: end.Epoch}
	switch {
	case end.Was != "" && end.Was == at.Epoch:
		m.Reason, next.Seq = renewed, min(at.Seq, end.Seq) // what was read behind the turn are rows of the new epoch
	case end.Epoch == at.Epoch:
		m = Missing{From: end.Seq + 1, To: at.Seq, Reason: "the database was set back"}
		next.Seq = end.Seq
	}
	level := logrus.ErrorLevel
	if m.Reason == renewed {
		level = logrus.WarnLevel // somebody did that on purpose
	}
	f.log.WithFields(logrus.Fields{"was": at.String(), "is": next.String()}).Log(level, "feed: "+m.Reason)
	f.hub.restart(missing(next, m))
	return nil
}
