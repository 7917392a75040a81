package statsapi

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/feed"
)

// Feed is what live routes follow.
type Feed interface {
	// Subscribe opens a reader at a place.
	Subscribe(ctx context.Context, filter feed.Filter, from feed.Place) (*feed.Subscription, error)
}

// LiveOptions configure the live routes: WebSocket, server-sent events and JSON-RPC subscriptions.
type LiveOptions struct {
	Feed          Feed          // nil: there are no live routes
	Connections   int           // live connections at once, more are answered 503; default 8192
	Subscriptions int           // of one connection; default 32
	Ping          time.Duration // between signs of life asked of a client; silent for three, it is cut off; default 15 s
}

// maxAddresses bounds one filter: every event is held against each.
const maxAddresses = 100

// live is the part of the API that follows the feed.
type live struct {
	api  *API
	opts LiveOptions
	log  logrus.FieldLogger

	ctx   context.Context // ends when the API drains; not of a request, whose own ends with its handler
	stop  context.CancelFunc
	slots chan struct{}  // an element for each live connection
	begin sync.Mutex     // between them, so that none begins once drain waits for all
	all   sync.WaitGroup // connections that have left their handler

	followers   atomic.Int64 // subscriptions of WebSocket connections
	connections *prometheus.GaugeVec
	delivered   *prometheus.CounterVec
}

func newLive(a *API, r prometheus.Registerer) (*live, error) {
	o := a.opts.Live
	if o.Connections < 0 || o.Subscriptions < 0 || o.Ping < 0 {
		return nil, errors.New("statsapi: limits and times must not be negative")
	}
	for _, pattern := range a.opts.Origins {
		if _, err := path.Match(pattern, ""); err != nil {
			return nil, fmt.Errorf("statsapi: origin %q: %w", pattern, err)
		}
	}
	if o.Connections == 0 {
		o.Connections = 8192
	}
	if o.Subscriptions == 0 {
		o.Subscriptions = 32
	}
	if o.Ping == 0 {
		o.Ping = 15 * time.Second
	}
	l := &live{api: a, opts: o, log: a.log, slots: make(chan struct{}, o.Connections),
		connections: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "firstseen_live_connections", Help: "Open live connections by route.",
		}, []string{"route"}),
		delivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_live_delivered_total", Help: "Events written to live connections by route.",
		}, []string{"route"}),
	}
	l.ctx, l.stop = context.WithCancel(context.Background())
	if r == nil {
		return l, nil
	}
	return l, errors.Join(r.Register(l.connections), r.Register(l.delivered))
}

// route mounts the live routes, which must not have a deadline.
func (l *live) route(r chi.Router) {
	r.Get("/v1/ws", l.guard("ws", l.serveSocket))
	r.Get("/v1/rpc", l.guard("rpc", l.serveRPC))
	r.With(l.api.access.whileWelcome).Get("/v1/stream", l.guard("stream", l.serveStream))
}

// guard refuses what must not become a live connection. A browser sends pages of any origin here, with whatever it holds
// for ours, and lets them read what comes back over a WebSocket: so the origin is ours to check.
func (l *live) guard(route string, serve func(http.ResponseWriter, *http.Request, *slot)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !l.welcome(r) {
			writeProblem(w, http.StatusForbidden, "pages of this origin may not connect")
			return
		}
		if route != "stream" && !upgrades(r) {
			w.Header().Set("Connection", "Upgrade")
			w.Header().Set("Upgrade", "websocket")
			writeProblem(w, http.StatusUpgradeRequired, "this route speaks WebSocket")
			return
		}
		if wrong := misfit(r); route != "stream" && wrong != "" {
			w.Header().Set("Sec-WebSocket-Version", "13")
			writeProblem(w, http.StatusBadRequest, wrong)
			return
		}
		s := l.claim(route)
		if s == nil {
			w.Header().Set("Retry-After", strconv.Itoa(5))
			writeProblem(w, http.StatusServiceUnavailable, "too many live connections, or this server is ending")
			return
		}
		serve(w, r, s)
	}
}

// welcome tells whether the request comes from a page that may connect, or from no page at all.
func (l *live) welcome(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return false // null is what a sandboxed page or a file sends: anybody's
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	for _, pattern := range l.api.opts.Origins {
		target := u.Host
		if strings.Contains(pattern, "://") {
			target = u.Scheme + "://" + u.Host
		}
		if ok, err := path.Match(strings.ToLower(pattern), strings.ToLower(target)); ok && err == nil {
			return true
		}
	}
	return false
}

func upgrades(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") &&
		strings.Contains(strings.ToLower(r.Header.Get("Connection")), "upgrade")
}

// misfit tells what else is wrong with a handshake (RFC 6455, section 4.2.1), which the library would say without a
// problem.
func misfit(r *http.Request) string {
	if r.Header.Get("Sec-WebSocket-Version") != "13" {
		return "only version 13 of WebSocket is spoken here"
	}
	keys := r.Header.Values("Sec-WebSocket-Key")
	if len(keys) == 1 {
		if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(keys[0])); err == nil && len(key) == 16 {
			return ""
		}
	}
	return "Sec-WebSocket-Key must be there once: 16 bytes in base64"
}

// slot is the right to be one live connection.
type slot struct {
	live  *live
	route string
	once  sync.Once
}

// claim returns nil when there is no room, or no time left.
func (l *live) claim(route string) *slot {
	l.begin.Lock()
	defer l.begin.Unlock()
	if l.ctx.Err() != nil {
		return nil
	}
	select {
	case l.slots <- struct{}{}:
	default:
		return nil
	}
	l.connections.WithLabelValues(route).Inc()
	l.all.Add(1)
	return &slot{live: l, route: route}
}

func (s *slot) release() {
	s.once.Do(func() {
		<-s.live.slots
		s.live.connections.WithLabelValues(s.route).Dec()
		s.live.all.Done()
	})
}

// drain ends all live connections, each with a word of goodbye, and waits for them until ctx ends.
func (l *live) drain(ctx context.Context) {
	l.begin.Lock()
	l.stop()
	l.begin.Unlock()
	done := make(chan struct{})
	go func() { l.all.Wait(); close(done) }()
	select {
	case <-done:
	case <-ctx.Done(): // a stream whose client does not read ends when the server closes its connection
	}
}

// chunkBytes is how much is written at once: events that wait are joined up to here. It also bounds what a client that
// does not read holds here besides what it shares with all others.
const chunkBytes = 16 << 10

// chunks holds buffers of chunkBytes. It is a pool for the process, like the heap it spares.
//
//nolint:gochecknoglobals // see above
var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunkBytes+1<<10); return &b }}

// liveness renews a deadline for writing now and then: one that is renewed for each write would cost as much as the write.
type liveness struct {
	conn     interface{ SetWriteDeadline(time.Time) error }
	ping     time.Duration
	deadline time.Time
}

// renew makes sure that a write has at least one ping's time, and at most two.
func (d *liveness) renew(now time.Time) {
	if d.deadline.Sub(now) >= d.ping {
		return
	}
	d.deadline = now.Add(2 * d.ping)
	_ = d.conn.SetWriteDeadline(d.deadline)
}
