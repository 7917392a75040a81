package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/firstseen/firstseen/internal/callers"
	"github.com/firstseen/firstseen/internal/certs"
	"github.com/firstseen/firstseen/internal/quiet"
)

// maxCallers is how many callers' sessions and budgets are remembered: see callers.Generations.
const maxCallers = 1 << 16

// Gateway serves JSON-RPC over HTTP, HTTPS and WebSocket from a pool of nodes.
type Gateway struct {
	opts      Options
	log       logrus.FieldLogger
	allowed   map[string]*method
	roster    *roster
	transport *http.Transport
	sessions  *callers.Generations[session]
	limits    *callers.Generations[limiter]
	keys      atomic.Pointer[keyring] // nil without a file of keys
	cert      *certs.Files            // nil without TLS
	places    chan struct{}           // for requests with large answers
	metrics   *metrics

	fronts   []*front
	sockets  sync.WaitGroup // of WebSocket connections
	closing  chan struct{}  // closed when WebSocket connections must end
	draining atomic.Bool
}

// front is one port.
type front struct {
	name     string
	listener net.Listener
	server   *http.Server
}

// New checks the options, reads the files they name and binds the addresses.
func New(ctx context.Context, o Options) (*Gateway, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		opts: o, log: o.Log, closing: make(chan struct{}), places: make(chan struct{}, o.MaxLarge),
		roster:    &roster{pool: o.Pool, now: o.Now, nodes: map[string]*node{}},
		transport: newTransport(),
		sessions:  callers.NewGenerations[session](maxCallers, o.Session, o.Now),
		limits:    callers.NewGenerations[limiter](maxCallers, time.Minute, o.Now),
	}
	if g.allowed, err = methods(o.Allow); err != nil {
		return nil, err
	}
	if g.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("gateway: register metrics: %w", err)
	}
	if err := g.loadKeys(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if err := g.bind(ctx); err != nil {
		for _, f := range g.fronts {
			_ = f.listener.Close()
		}
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// newTransport keeps enough connections that a busy gateway does not open new ones all the time.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSHandshakeTimeout:    5 * time.Second,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
		MaxIdleConnsPerHost:    512,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
		DisableCompression:     true,
	}
}

func (g *Gateway) bind(ctx context.Context) error {
	o := g.opts
	if err := g.listen(ctx, "http", o.Listen, nil, http.HandlerFunc(g.serveHTTP)); err != nil {
		return err
	}
	if err := g.listen(ctx, "websocket", o.WSListen, nil, http.HandlerFunc(g.serveSocket)); err != nil {
		return err
	}
	if o.TLSListen == "" {
		return nil
	}
	if err := g.openCertificate(); err != nil {
		return err
	}
	return g.listen(ctx, "https", o.TLSListen, g.cert.Server("h2", "http/1.1"), http.HandlerFunc(g.serveEither))
}

// serveEither is for a port where a request says by itself whether it wants to be a WebSocket.
func (g *Gateway) serveEither(w http.ResponseWriter, r *http.Request) {
	if strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		g.serveSocket(w, r)
		return
	}
	g.serveHTTP(w, r)
}

func (g *Gateway) listen(ctx context.Context, name, addr string, config *tls.Config, handler http.Handler) error {
	if addr == "" {
		return nil
	}
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen for %s: %w", name, err)
	}
	f := &front{name: name, listener: netutil.LimitListener(listener, g.opts.MaxConns)}
	f.server = &http.Server{
		Handler:           handler,
		TLSConfig:         config,
		ReadHeaderTimeout: min(5*time.Second, g.opts.ReadTimeout),
		ReadTimeout:       g.opts.ReadTimeout,
		WriteTimeout:      g.opts.Timeout + g.opts.HeightWait + 30*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	quiet.Server(f.server, g.log)
	g.fronts = append(g.fronts, f)
	return nil
}

// Addr returns the address of the plain HTTP port, or else of the first other one.
func (g *Gateway) Addr() net.Addr {
	return g.fronts[0].listener.Addr()
}

// AddrOf returns the address of the port "http", "https" or "websocket", nil if there is none.
func (g *Gateway) AddrOf(name string) net.Addr {
	for _, f := range g.fronts {
		if f.name == name {
			return f.listener.Addr()
		}
	}
	return nil
}

// Ready tells why requests would not be answered now, nil if they would.
func (g *Gateway) Ready(context.Context) error {
	if g.draining.Load() {
		return errors.New("shutting down")
	}
	if _, ok := g.opts.Pool.Tip(); !ok {
		return errors.New("no node has told its height yet")
	}
	if len(g.opts.Pool.Upstreams()) == 0 {
		return errors.New("no node can be used now")
	}
	return nil
}

// Run serves until ctx ends, fails Ready from then on, lets requests in flight end and returns.
func (g *Gateway) Run(ctx context.Context) error {
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { g.reload(watching) })
	defer watch.Wait()
	defer stop()
	defer g.transport.CloseIdleConnections()
	served := make(chan error, len(g.fronts))
	for _, f := range g.fronts {
		go func() { served <- f.serve() }()
	}
	var errs []error
	left := len(g.fronts)
	select {
	case err := <-served:
		left--
		errs = append(errs, err)
	case <-ctx.Done():
	}
	g.draining.Store(true)
	if len(errs) == 0 {
		delay := time.NewTimer(g.opts.DrainDelay)
		<-delay.C
	}
	errs = append(errs, g.shutdown(ctx))
	for range left {
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (f *front) serve() error {
	var err error
	if f.server.TLSConfig != nil {
		err = f.server.ServeTLS(f.listener, "", "")
	} else {
		err = f.server.Serve(f.listener)
	}
	return fmt.Errorf("gateway: serve %s: %w", f.name, err)
}

// shutdown closes the ports and waits for what is in flight.
func (g *Gateway) shutdown(ctx context.Context) error {
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.opts.ShutdownTimeout)
	defer cancel()
	close(g.closing)
	errs := make([]error, len(g.fronts))
	var wg sync.WaitGroup
	for i, f := range g.fronts {
		wg.Go(func() {
			if err := f.server.Shutdown(end); err != nil {
				_ = f.server.Close()
				errs[i] = fmt.Errorf("gateway: requests still ran %s after the end: %w", g.opts.ShutdownTimeout, err)
			}
		})
	}
	wg.Wait()
	g.sockets.Wait() // each ends within its own write deadline
	return errors.Join(errs...)
}

func (g *Gateway) newAllowance() *allowance {
	return &allowance{places: g.places, max: g.opts.MaxAnswer}
}
