package faults

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
)

// Proxy is a TCP relay on a port of its own: it breaks the link between a client and a server that both know only
// addresses. It passes bytes, half-closes and resets on as they are.
type Proxy struct {
	listener net.Listener
	target   string
	wg       sync.WaitGroup

	mu     sync.Mutex
	plan   Plan           // guarded by mu: for connections to come
	down   bool           // guarded by mu
	closed bool           // guarded by mu
	links  map[*link]bool // guarded by mu: the open ones
	flow   chan struct{}  // guarded by mu: closed while bytes flow
}

// link is one client's connection and the one to the target that belongs to it.
type link struct {
	client *Conn
	target net.Conn
}

func (l *link) abort(reset bool) {
	abort(l.client, reset)
	abort(l.target, reset)
}

// NewProxy listens on a free port of 127.0.0.1 and relays to target. The caller closes it.
func NewProxy(target string) (*Proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{listener: l, target: target, links: make(map[*link]bool), flow: make(chan struct{})}
	close(p.flow)
	p.wg.Go(p.serve)
	return p, nil
}

// Addr returns host and port to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Plan sets the faults of the connections to come. Read is from the client, write to it.
func (p *Proxy) Plan(plan Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = plan
}

// Down cuts all connections and, until it is called with false, resets each new one at once, possibly while the client
// still dials: a server that is away.
func (p *Proxy) Down(down bool) {
	p.mu.Lock()
	p.down = down
	p.mu.Unlock()
	if down {
		p.Cut(true)
	}
}

// Block holds back all bytes, ends and resets in both directions, as a partition does: either side sees an open
// connection and silence, new ones included, and its writes succeed until the buffers of the kernel are full.
func (p *Proxy) Block() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
		p.flow = make(chan struct{})
	default:
	}
}

// Unblock lets flow what Block held back.
func (p *Proxy) Unblock() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.flow:
	default:
		close(p.flow)
	}
}

// Cut ends all open connections, by a reset if wanted, and returns how many there were.
func (p *Proxy) Cut(reset bool) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.abort(reset)
	}
	return len(p.links)
}

// Open returns how many connections are open.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Close stops listening, cuts all connections and waits for what the proxy runs.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	err := p.listener.Close()
	p.Cut(false)
	p.Unblock()
	p.wg.Wait()
	return err
}

func (p *Proxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.relay(c) })
	}
}

func (p *Proxy) relay(c net.Conn) {
	l, ok := p.connect(c)
	if !ok {
		abort(c, true)
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, l.target, l.client) })
	pumps.Go(func() { p.pump(l, l.client, l.target) })
	pumps.Wait()
	l.abort(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// connect dials the target on behalf of c, unless the proxy is down or closed.
func (p *Proxy) connect(c net.Conn) (*link, bool) {
	target, err := net.Dial("tcp", p.target)
	if err != nil {
		return nil, false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down || p.closed {
		abort(target, true)
		return nil, false
	}
	l := &link{client: Wrap(c, p.plan), target: target}
	p.links[l] = true
	return l, true
}

// pump passes bytes and their end from one side to the other.
func (p *Proxy) pump(l *link, to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		p.flowing()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				err = werr
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			_ = to.(interface{ CloseWrite() error }).CloseWrite()
			return
		default:
			l.abort(errors.Is(err, syscall.ECONNRESET) || errors.Is(err, ErrInjected) && l.client.plan.Reset)
			return
		}
	}
}

// flowing waits while the proxy is blocked.
func (p *Proxy) flowing() {
	p.mu.Lock()
	flow := p.flow
	p.mu.Unlock()
	<-flow
}
