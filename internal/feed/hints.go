package feed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
)

// HintsOptions configure hints. Their zero value makes hints that stay within the process.
type HintsOptions struct {
	Redis     redis.UniversalClient // carries hints between processes; nil: within this one only. The caller closes it
	Namespace string                // for deployments that share a Redis; default "firstseen"
	TellOnly  bool                  // this process has nobody to tell: it does not subscribe
	Canary    time.Duration         // between messages that a subscriber sends to itself; default 5 s

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // a clock with a monotonic reading; default time.Now
}

// Hints spread the word that the feed has grown. They may be lost, late or doubled without harm.
type Hints struct {
	opts    HintsOptions
	log     logrus.FieldLogger
	channel string
	self    string        // names this process's canary
	unsent  chan struct{} // one element: latest is to be published
	drop    func() bool   // for tests: loses what it says of what Redis delivers

	mu         sync.Mutex // guards what follows
	latest     uint64
	listeners  map[*listener]struct{}
	unanswered time.Time // when the first canary was sent that has not come back; zero if none is missing
	answered   uint64    // how many came back
	away       bool      // Redis does not take messages
	cut        func()    // ends the present subscription, so that a new one is made

	received, lost prometheus.Counter
	up             prometheus.Gauge
}

// listener is a tailer that wants to know.
type listener struct {
	wake chan struct{} // one element: look at the table
}

// NewHints returns hints; with Redis, Run carries them.
func NewHints(o HintsOptions) *Hints {
	if o.Namespace == "" {
		o.Namespace = "firstseen"
	}
	if o.Canary == 0 {
		o.Canary = 5 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &Hints{
		opts: o, log: quiet.Log(o.Log), channel: "{" + o.Namespace + "}:feed", self: rand.Text(),
		unsent: make(chan struct{}, 1), listeners: map[*listener]struct{}{},
		received: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_feed_hints_received_total", Help: "Hints that other processes sent over Redis.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_feed_hint_failures_total", Help: "Subscriptions to hints that broke, and hints that Redis did not take.",
		}),
		up: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firstseen_feed_hints_up", Help: "1 while this process hears its own messages over Redis, else 0.",
		}),
	}
	if o.Registerer != nil && o.Redis != nil {
		o.Registerer.MustRegister(h.received, h.lost, h.up)
	}
	return h
}

// Tell says that the feed has grown up to seq. It never blocks: what is not sent yet is replaced by what is newer.
func (h *Hints) Tell(seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.latest = max(h.latest, seq)
	h.wakeAll()
	if h.opts.Redis == nil {
		return
	}
	select {
	case h.unsent <- struct{}{}:
	default: // the publisher has yet to take what is there, and will take this
	}
}

// wakeAll needs mu.
func (h *Hints) wakeAll() {
	for l := range h.listeners {
		select {
		case l.wake <- struct{}{}:
		default: // it has yet to look
		}
	}
}

func (h *Hints) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wakeAll()
}

// Listen is for who reads the table without a Feed: news has an element whenever there may be rows that are new since it
// was taken last. Call end when nobody reads it any more.
func (h *Hints) Listen() (news <-chan struct{}, end func()) {
	l := h.listen()
	return l.wake, func() { h.forget(l) }
}

func (h *Hints) listen() *listener {
	l := &listener{wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[l] = struct{}{}
	return l
}

func (h *Hints) forget(l *listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.listeners, l)
}

// Run carries hints over Redis until ctx ends, then returns nil. Redis being away is no failure: hints come again with
// it.
func (h *Hints) Run(ctx context.Context) error {
	if h.opts.Redis == nil {
		<-ctx.Done()
		return nil
	}
	var parts sync.WaitGroup
	parts.Go(func() { h.publish(ctx) })
	if !h.opts.TellOnly {
		parts.Go(func() { h.subscribe(ctx) })
		parts.Go(func() { h.sing(ctx) })
	}
	parts.Wait()
	return nil
}

// sendTimeout bounds one message.
const sendTimeout = 2 * time.Second

func (h *Hints) send(ctx context.Context, text string) error {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return h.opts.Redis.Publish(ctx, h.channel, text).Err()
}

// publish sends the latest seq whenever there is one. One that Redis does not take is dropped: readers look anyway.
func (h *Hints) publish(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.unsent:
		}
		h.mu.Lock()
		seq := h.latest
		h.mu.Unlock()
		h.sent(h.send(ctx, strconv.FormatUint(seq, 10)))
	}
}

// sent logs when Redis stops or begins to take messages.
func (h *Hints) sent(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		h.lost.Inc()
	}
	switch {
	case err != nil && !h.away && !errors.Is(err, context.Canceled):
		h.away = true
		h.log.WithError(err).Warn("feed: Redis takes no hints, the feed is polled")
	case err == nil && h.away:
		h.away = false
		h.log.Info("feed: Redis takes hints again")
	}
}

// sing sends canaries: messages to ourselves whose absence shows that a subscription only looks alive.
func (h *Hints) sing(ctx context.Context) {
	tick := time.NewTicker(h.opts.Canary)
	defer tick.Stop()
	for {
		h.mu.Lock()
		answered := h.answered
		h.mu.Unlock()
		err := h.send(ctx, "?"+h.self)
		h.sent(err)
		h.expect(answered, err == nil)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// expect notes a canary that was sent when so many had come back: it may have done so before Redis said that it took it.
// While Redis takes none, their absence says nothing. After two in vain the subscription is made anew.
func (h *Hints) expect(answered uint64, sent bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !sent:
		h.unanswered = time.Time{}
		h.up.Set(0)
	case h.answered > answered:
	case h.unanswered.IsZero():
		h.unanswered = h.opts.Now()
	case h.opts.Now().Sub(h.unanswered) >= h.opts.Canary:
		h.up.Set(0)
		if h.cut != nil {
			h.cut()
		}
	}
}

// ready is red when Redis takes messages and this process does not hear them. That Redis is away is no reason: every
// process would be sent away at once, and each of them still reads the feed every second.
func (h *Hints) ready() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.unanswered.IsZero() {
		return nil
	}
	if deaf := h.opts.Now().Sub(h.unanswered); deaf > 2*h.opts.Canary {
		return fmt.Errorf("hints do not arrive: Redis takes messages, none has come back for %s; the feed is polled",
			deaf.Round(time.Second))
	}
	return nil
}

// subscribe keeps a subscription open. Each is made from nothing: a client that repairs one by itself may believe that
// it did.
func (h *Hints) subscribe(ctx context.Context) {
	const most = 2 * time.Second
	wait := most / 32
	for ctx.Err() == nil {
		heard := h.hear(ctx)
		if heard {
			wait = most / 32
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, most)
	}
}

// hear listens until the subscription breaks, and tells whether it ever stood.
func (h *Hints) hear(ctx context.Context) (heard bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sub := h.opts.Redis.Subscribe(ctx)
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() }) // a read that waits does not look at ctx
	defer func() {
		if stop() {
			_ = sub.Close()
		}
	}()
	if err := sub.Subscribe(ctx, h.channel); err != nil {
		h.lost.Inc()
		return false
	}
	h.mu.Lock()
	h.cut = cancel
	h.mu.Unlock()
	for {
		message, err := sub.ReceiveTimeout(ctx, 3*h.opts.Canary)
		if err != nil {
			h.lost.Inc()
			return heard
		}
		heard = true
		switch m := message.(type) {
		case *redis.Subscription:
			h.wake() // for what was said before
		case *redis.Message:
			h.take(m.Payload)
		}
	}
}

func (h *Hints) take(text string) {
	if h.drop != nil && h.drop() {
		return
	}
	if name, ok := strings.CutPrefix(text, "?"); ok {
		if name == h.self {
			h.mu.Lock()
			h.unanswered = time.Time{}
			h.answered++
			h.mu.Unlock()
			h.up.Set(1)
		}
		return
	}
	h.received.Inc()
	h.wake()
}
