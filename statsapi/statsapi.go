// Package statsapi answers over HTTP what happened: which blocks were seen, who saw them first, where they stand in
// their chain and how many connections are open. It only reads.
//
// The native API lives under /v1 and describes itself at /openapi.json; errors are RFC 9457 problems. The text pages
// under /_cat are those of the demo that firstseen replaces. /livez, /readyz and /metrics are for operations.
package statsapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/firstseen/firstseen/internal/ethrpc"
	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/quiet"
)

// Presence tells how many connections are open.
type Presence interface {
	Snapshot() presence.Snapshot
}

// Options configure an API. Store is required.
type Options struct {
	Addr     string         // host:port to listen on; default 127.0.0.1:8080, port 0 chooses a free one
	Store    Store          // what to answer from
	Presence Presence       // nil: connection counts are unknown
	Asker    presence.Asker // asks servers who is connected; nil: they cannot be asked
	Checks   []health.Check // what /readyz asks
	Replica  Replica        // nil: this process is no replica
	Version  string         // of the program, for the OpenAPI document; default "dev"
	Access   Access         // who may read, and how much

	Origins    []string      // of pages that may read answers by CORS, "*" for all; none by default
	HeightWait time.Duration // how long X-Min-Height waits for a chain; default 1 s
	Live       LiveOptions   // WebSocket, server-sent events and JSON-RPC subscriptions
	RPC        RPCOptions    // JSON-RPC

	MaxConns        int           // open connections at once, further ones wait to be accepted; default 10240
	RequestTimeout  time.Duration // after which a request to the store is given up; default 10 s
	DrainDelay      time.Duration // between failing /readyz and closing the port, for balancers to notice; default none
	ShutdownTimeout time.Duration // for requests in flight at the end; default 8 s

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // where to register own metrics; nil: none
	Gatherer   prometheus.Gatherer   // what /metrics shows; nil: /metrics shows nothing
	Now        func() time.Time      // default time.Now
}

// API serves statistics over HTTP.
type API struct {
	opts     Options
	log      logrus.FieldLogger
	listener net.Listener
	server   *http.Server
	huma     huma.API
	counter  *counter
	heights  *heights
	races    *rested[Observers]
	rates    *rested[rates]
	access   *access
	metrics  *metrics
	live     *live // nil: no live routes
	rpc      *ethrpc.Service
	draining atomic.Bool
	unready  atomic.Pointer[string] // the last answer of /readyz, so that only changes are logged
}

// New checks the options and binds the address.
func New(ctx context.Context, o Options) (*API, error) {
	if o.Store == nil {
		return nil, errors.New("statsapi: no store")
	}
	if o.MaxConns < 0 || o.RequestTimeout < 0 || o.HeightWait < 0 || o.DrainDelay < 0 || o.ShutdownTimeout < 0 {
		return nil, errors.New("statsapi: limits and times must not be negative")
	}
	if err := o.Access.check(); err != nil {
		return nil, err
	}
	a := &API{opts: withDefaults(o), counter: newCounter(o.Store), heights: &heights{store: o.Store}}
	a.races, a.rates = newRested[Observers](), newRested[rates]()
	a.log = a.opts.Log
	var err error
	if a.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("statsapi: register metrics: %w", err)
	}
	if a.rpc, err = newRPC(a.opts); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", a.opts.Addr)
	if err != nil {
		return nil, fmt.Errorf("statsapi: listen: %w", err)
	}
	a.access = newAccess(a.opts, a.metrics, listener.Addr())
	if o.Live.Feed != nil {
		if a.live, err = newLive(a, o.Registerer); err != nil {
			_ = listener.Close()
			return nil, err
		}
	}
	handler, err := a.handler()
	if err != nil {
		_ = listener.Close()
		return nil, err
	}
	a.listener = netutil.LimitListener(listener, a.opts.MaxConns)
	a.server = &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      a.opts.RequestTimeout + 20*time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	quiet.Server(a.server, a.log)
	return a, nil
}

func withDefaults(o Options) Options {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:8080"
	}
	if o.Presence == nil {
		o.Presence = noPresence{}
	}
	if o.Asker == nil {
		o.Asker = noAsker{}
	}
	if o.Version == "" {
		o.Version = "dev"
	}
	if o.HeightWait == 0 {
		o.HeightWait = time.Second
	}
	if o.MaxConns == 0 {
		o.MaxConns = 10_240
	}
	if o.RequestTimeout == 0 {
		o.RequestTimeout = 10 * time.Second
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = 8 * time.Second
	}
	if o.Gatherer == nil {
		o.Gatherer = prometheus.NewRegistry()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = quiet.Log(o.Log)
	return o
}

// Addr returns the address that is bound.
func (a *API) Addr() net.Addr { return a.listener.Addr() }

// Run serves until ctx ends, fails /readyz from then on, lets requests in flight end and returns.
func (a *API) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- a.server.Serve(a.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("statsapi: serve: %w", err)
	case <-ctx.Done():
	}
	a.draining.Store(true)
	delay := time.NewTimer(a.opts.DrainDelay)
	defer delay.Stop()
	<-delay.C
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.opts.ShutdownTimeout)
	defer cancel()
	if a.live != nil {
		a.live.drain(end)
	}
	err := a.server.Shutdown(end)
	if err != nil {
		_ = a.server.Close()
		err = fmt.Errorf("statsapi: requests still ran %s after the end: %w", a.opts.ShutdownTimeout, err)
	}
	if a.live != nil {
		a.live.all.Wait()
	}
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("statsapi: serve: %w", serveErr))
	}
	return err
}

// noPresence stands in where nobody counts.
type noPresence struct{}

func (noPresence) Snapshot() presence.Snapshot {
	return presence.Snapshot{Reason: "this process does not follow the servers' beats"}
}
