package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// Server takes frames from observers. It is made by New and run once by Run.
type Server struct {
	opt     Options
	doors   []door
	pace    *rate.Limiter // of connections accepted; nil: none
	metrics *metrics
	print   *printer
	state   atomic.Int32  // one of the states below
	relays  atomic.Int64  // connections in relay mode
	slots   chan struct{} // one element per open connection; while it is full, the kernel queues further ones

	sessions, strangers *places // for large frames, of relay connections and of all others
	headers             headers
	raws                *raws
	refused             refusals

	mu    sync.Mutex // guards conns and ends, and orders calls of Presence.Set
	conns map[*conn]struct{}
	ends  *ends          // nil until draining
	wg    sync.WaitGroup // connections
}

// The states of a server, in order.
const (
	stateBound int32 = iota
	stateServing
	stateDraining
)

// ends is until when connections may live on while the server drains.
type ends struct{ now, relay, bare time.Time }

// Why a server is not ready.
var (
	ErrNotServing = errors.New("server: not serving yet")
	ErrDraining   = errors.New("server: shutting down")
)

// New checks the options and listens. Nothing is accepted before Run.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	doors, err := openDoors(o)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Registerer, o.Name)
	if err != nil {
		closeDoors(doors)
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s := newServer(o, m)
	s.doors = doors
	return s, nil
}

func newServer(o Options, m *metrics) *Server {
	s := &Server{
		opt: o, metrics: m, print: &printer{w: o.Print, log: o.Log},
		slots:    make(chan struct{}, o.MaxConns+o.MaxConns/8+o.doors()),
		sessions: newPlaces(sessionPlaces), strangers: newPlaces(strangerPlaces),
		conns: map[*conn]struct{}{}, raws: newRaws(),
	}
	if o.AcceptRate > 0 {
		s.pace = rate.NewLimiter(rate.Limit(o.AcceptRate), max(1, int(o.AcceptRate)))
	}
	return s
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.doors[0].ln.Addr() }

// PlainAddr returns the address of the further port without TLS, nil if there is none.
func (s *Server) PlainAddr() net.Addr {
	if len(s.doors) == 1 {
		return nil
	}
	return s.doors[1].ln.Addr()
}

// Ready tells whether the server accepts connections: nil, ErrNotServing or ErrDraining.
func (s *Server) Ready(context.Context) error {
	switch s.state.Load() {
	case stateBound:
		return ErrNotServing
	case stateDraining:
		return ErrDraining
	}
	return nil
}

// Run serves until ctx ends, and then drains: it stops being ready and accepting, tells relay clients to leave, reads
// bare connections to their end, and returns when all connections are closed, after Drain, BareDrain and some seconds
// at the latest. It returns nil then, or why it could not accept any more. The store must outlive Run.
func (s *Server) Run(ctx context.Context) error {
	work := context.WithoutCancel(ctx)
	relayCtx, endRelay := context.WithCancel(work)
	defer endRelay()
	bareCtx, endBare := context.WithCancel(work)
	defer endBare()

	guarding, endGuard := context.WithCancel(work)
	defer endGuard()
	var guard sync.WaitGroup
	guard.Go(func() { s.guard(guarding) })

	s.state.Store(stateServing)
	served := &limits{relayCtx, bareCtx}
	err := s.acceptAll(ctx, func(c *conn) { c.serve(served) })
	s.drain(endRelay, endBare)
	endGuard()
	guard.Wait()
	s.opt.Log.Info("server stopped")
	return err
}

// acceptAll takes connections at every door until ctx ends or one of them fails.
func (s *Server) acceptAll(ctx context.Context, serve func(*conn)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	unhook := context.AfterFunc(ctx, func() { closeDoors(s.doors) })
	defer unhook()
	ended := make(chan error, len(s.doors))
	for _, d := range s.doors {
		go func() { ended <- s.accept(ctx, d, serve) }()
	}
	var errs []error
	for range s.doors {
		errs = append(errs, <-ended)
		stop()
	}
	return errors.Join(errs...)
}

// accept takes connections until ctx ends, which closes the listener. Errors that pass, such as too many open files,
// are waited out.
func (s *Server) accept(ctx context.Context, d door, serve func(*conn)) error {
	var pause time.Duration
	for {
		s.hold(ctx)
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		nc, err := d.ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept connection: %w", err)
		case err != nil:
			if pause == 0 {
				s.opt.Log.WithError(err).Error("cannot accept connections")
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			<-s.slots
			wait(ctx, pause)
			continue
		}
		pause = 0
		s.handle(newConn(s, nc, d.tls), serve)
	}
}

// hold waits while connections come faster than Options.AcceptRate; the kernel's queue keeps them. Nobody is turned away,
// and those who are in have the machine.
func (s *Server) hold(ctx context.Context) {
	if s.pace == nil {
		return
	}
	if d := s.pace.Reserve().Delay(); d > 0 {
		s.metrics.held.Add(d.Seconds())
		wait(ctx, d)
	}
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// handle serves one connection, which holds a slot, on goroutines of its own until it is removed. Drain waits for that.
func (s *Server) handle(c *conn, serve func(*conn)) {
	s.add(c)
	s.wg.Add(1)
	go serve(c)
}

func (s *Server) add(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
	s.metrics.connections.Inc()
	s.opt.Presence.Set(len(s.conns))
	if s.ends != nil {
		c.drain(*s.ends)
	}
}

// remove is the last that a connection's goroutine does.
func (s *Server) remove(c *conn) {
	defer s.wg.Done()
	defer func() { <-s.slots }()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.metrics.connections.Dec()
	s.opt.Presence.Set(len(s.conns))
}

// firstFrame is how long a new connection may take until its first frame begins.
func (s *Server) firstFrame() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.conns) > s.opt.MaxConns {
		return min(s.opt.FirstFrame, crowdedFirst)
	}
	return s.opt.FirstFrame
}
