package presence

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
)

// ReaderOptions configure a Reader.
type ReaderOptions struct {
	Beat       time.Duration         // the servers' beat; default DefaultBeat
	Poll       time.Duration         // between readings; default a fifth of a beat
	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // a clock with a monotonic reading; default time.Now
}

// Reader follows all servers' beats.
type Reader struct {
	board Board
	opts  ReaderOptions
	log   logrus.FieldLogger

	mu   sync.Mutex // guards view
	view *view
}

// NewReader returns a reader whose snapshots say "unknown" until Run has read board for a beat.
func NewReader(board Board, o ReaderOptions) (*Reader, error) {
	o.Beat = cmp.Or(o.Beat, DefaultBeat)
	o.Poll = cmp.Or(o.Poll, o.Beat/5)
	if o.Now == nil {
		o.Now = time.Now
	}
	switch {
	case board == nil:
		return nil, errors.New("presence: no board")
	case o.Beat < 0 || o.Poll < 0 || 2*o.Poll > o.Beat:
		return nil, fmt.Errorf("presence: poll %s: want at most half a beat of %s", o.Poll, o.Beat)
	}
	r := &Reader{board: board, opts: o, log: quiet.Log(o.Log), view: newView(o.Beat, o.Beat+o.Poll)}
	if o.Registerer != nil {
		if err := o.Registerer.Register(r.gauge()); err != nil {
			return nil, fmt.Errorf("presence: register metrics: %w", err)
		}
	}
	return r, nil
}

// Run reads the board until ctx ends and returns nil.
func (r *Reader) Run(ctx context.Context) error {
	tick := time.NewTicker(r.opts.Poll)
	defer tick.Stop()
	for {
		r.poll(ctx)
		select {
		case <-ctx.Done():
			r.end()
			return nil
		case <-tick.C:
		}
	}
}

func (r *Reader) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view.bad("the reader has stopped")
}

// Snapshot tells what is known now. It never waits for the board.
func (r *Reader) Snapshot() Snapshot {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.view.snapshot(r.opts.Now())
}

// poll gives the board half a beat, so that one lost answer does not outlast a beat.
func (r *Reader) poll(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.opts.Beat/2)
	defer cancel()
	got, err := r.board.read(ctx, r.names())
	r.mu.Lock()
	defer r.mu.Unlock()
	down := r.view.fault != ""
	if err != nil {
		r.view.bad("the presence store cannot be read")
		if !down {
			r.log.WithError(err).Warn("presence: cannot read, connection counts are unknown")
		}
		return
	}
	if down {
		r.log.Info("presence: reading again")
	}
	r.view.good(r.opts.Now(), got)
}

// names are the servers to ask for even if the board's index has forgotten them.
func (r *Reader) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := make([]string, 0, len(r.view.servers))
	for name := range r.view.servers {
		names = append(names, name)
	}
	return names
}

// gauge has no value while the total is unknown: a scrape shows a hole then, not a zero.
func (r *Reader) gauge() prometheus.Collector {
	return &totalCollector{reader: r, desc: prometheus.NewDesc("firstseen_connections",
		"Open connections over all servers; absent while unknown.", nil, nil)}
}

type totalCollector struct {
	reader *Reader
	desc   *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *totalCollector) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *totalCollector) Collect(ch chan<- prometheus.Metric) {
	if s := c.reader.Snapshot(); s.Known {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(s.Total))
	}
}
