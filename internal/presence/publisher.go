package presence

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// PublisherOptions configure a Publisher. Server is required.
type PublisherOptions struct {
	Server     string                // the server's name, see schema.ValidName
	Boot       string                // identifies this start; default random
	Beat       time.Duration         // between beats; default DefaultBeat
	TTL        time.Duration         // how long the board keeps a beat; default DefaultTTL, at least 3 beats
	Debounce   time.Duration         // least time between beats when the count changes fast; default 200 ms
	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // default time.Now
}

// Publisher posts one server's beats.
type Publisher struct {
	board   Board
	address string // set before Run, as is ask
	ask     string
	opts    PublisherOptions
	log     logrus.FieldLogger
	count   atomic.Int64
	changed chan struct{} // one slot: a change during a pending change adds nothing, the beat reads the latest count
	beats   *prometheus.CounterVec

	// Only Run's goroutine touches these.
	seq    uint64
	last   time.Time // of the last beat, posted or tried
	failed bool
}

// NewPublisher returns a publisher that posts on board once Run is called.
func NewPublisher(board Board, o PublisherOptions) (*Publisher, error) {
	o.Beat = cmp.Or(o.Beat, DefaultBeat)
	o.TTL = cmp.Or(o.TTL, max(DefaultTTL, deadBeats*o.Beat))
	o.Debounce = cmp.Or(o.Debounce, 200*time.Millisecond)
	o.Boot = cmp.Or(o.Boot, rand.Text())
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case board == nil:
		return nil, errors.New("presence: no board")
	case !schema.ValidName(o.Server):
		return nil, fmt.Errorf("presence: server name %q: want 1 to 64 of A-Z a-z 0-9 . _ -", o.Server)
	case o.Beat < 0 || o.Debounce < 0:
		return nil, errors.New("presence: beat and debounce must not be negative")
	case o.TTL < deadBeats*o.Beat:
		return nil, fmt.Errorf("presence: TTL %s is shorter than %d beats of %s", o.TTL, deadBeats, o.Beat)
	}
	p := &Publisher{board: board, opts: o, log: quiet.Log(o.Log), changed: make(chan struct{}, 1)}
	p.beats = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "firstseen_presence_beats_total",
		Help: "Presence beats by outcome.",
	}, []string{"outcome"})
	if o.Registerer != nil {
		if err := o.Registerer.Register(p.beats); err != nil {
			return nil, fmt.Errorf("presence: register metrics: %w", err)
		}
	}
	return p, nil
}

// Listens tells where the server listens, for readers to show. It is called before Run, if at all: a server that is given
// its publisher at birth has no address yet.
func (p *Publisher) Listens(address string) { p.address = address }

// Asked tells at which host:port the server can be asked for its Census. It is called before Run, if at all.
func (p *Publisher) Asked(address string) { p.ask = address }

// Boot returns what identifies this start of the server.
func (p *Publisher) Boot() string { return p.opts.Boot }

// Set tells the number of open connections. It never blocks and never fails: the beat follows by itself.
func (p *Publisher) Set(count int) {
	if p.count.Swap(int64(count)) == int64(count) {
		return
	}
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Run posts the first beat at once and goes on until ctx ends, then posts a farewell and returns nil. A board that
// cannot be reached is retried five times a beat.
func (p *Publisher) Run(ctx context.Context) error {
	defer p.leave(ctx)
	due := p.opts.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.changed:
			early := p.last.Add(p.opts.Debounce)
			if !early.Before(due) {
				continue
			}
			due = early
		case <-timer.C:
			due = p.opts.Now().Add(p.beat(ctx))
		}
		timer.Reset(due.Sub(p.opts.Now()))
	}
}

// beat posts one beat and returns how long to wait for the next.
func (p *Publisher) beat(ctx context.Context) time.Duration {
	p.last = p.opts.Now()
	err := p.post(ctx, p.opts.Beat/2, false)
	if err != nil && ctx.Err() == nil {
		p.report(err)
		return p.opts.Beat / 5
	}
	p.report(nil)
	return p.opts.Beat
}

// post never takes longer than timeout, so that beats keep their rhythm while the board hangs.
func (p *Publisher) post(ctx context.Context, timeout time.Duration, left bool) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	p.seq++
	b := Beat{
		Server: p.opts.Server, Boot: p.opts.Boot, Seq: p.seq,
		Count: int(p.count.Load()), Address: p.address, Ask: p.ask, Left: left,
	}
	if left {
		b.Count = 0
	}
	return p.board.post(ctx, b, p.opts.TTL)
}

func (p *Publisher) report(err error) {
	outcome := "posted"
	if err != nil {
		outcome = "failed"
	}
	p.beats.WithLabelValues(outcome).Inc()
	if failed := err != nil; failed != p.failed {
		p.failed = failed
		if failed {
			p.log.WithError(err).Warn("presence: beats do not arrive, readers will say unknown")
		} else {
			p.log.Info("presence: beats arrive again")
		}
	}
}

// leave is bounded by one second: the end of a server must not wait for a board that is down.
func (p *Publisher) leave(ctx context.Context) {
	if err := p.post(context.WithoutCancel(ctx), min(time.Second, p.opts.Beat/2), true); err != nil {
		p.log.WithError(err).Warn("presence: no farewell, readers will notice after three beats")
	}
}
