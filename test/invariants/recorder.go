package invariants

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// Frame is one that a Recorder is about to pass on.
type Frame struct {
	Observer string
	Type     byte         // as in package wire, 0 for the first of the observer's
	Keys     []schema.Key // the blocks that it offers or settles
	Size     int          // in bytes, its length and comma included
}

// Verdict says how many bytes of a frame pass before its connection is cut, by a reset if the number is odd.
type Verdict int

// Pass lets all of a frame pass and the connection live.
const Pass Verdict = -1

// Recorder is a relay between observers and one server that writes down what passes. It passes frames on once they are
// whole, so whatever cuts frames belongs behind it.
type Recorder struct {
	listener net.Listener
	absent   func(context.Context, []schema.Key) ([]schema.Key, error)
	wg       sync.WaitGroup

	mu        sync.Mutex
	target    string                 // guarded by mu
	gate      func(Frame) Verdict    // guarded by mu; nil lets everything pass
	exchanges []*Exchange            // guarded by mu, and so is what they hold
	open      map[*recorded]struct{} // guarded by mu
	closed    bool                   // guarded by mu
}

// recorded is a connection that is open.
type recorded struct {
	client, server net.Conn
	exchange       *Exchange
}

func (c *recorded) cut() {
	_ = c.client.Close()
	_ = c.server.Close()
}

// NewRecorder listens on a free port of 127.0.0.1 and relays to target. Before it passes an ack on it asks absent which
// of the acked blocks the database does not have: an ack must come after the commit. If absent fails, as it may while
// the database is away, only what is there in the end counts. The caller closes the Recorder.
func NewRecorder(target string, absent func(context.Context, []schema.Key) ([]schema.Key, error)) (*Recorder, error) {
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &Recorder{listener: l, target: target, absent: absent, open: map[*recorded]struct{}{}}
	r.wg.Go(r.serve)
	return r, nil
}

// Addr returns host and port to connect to.
func (r *Recorder) Addr() string { return r.listener.Addr().String() }

// Target names the server for the connections to come, when it has another address than before.
func (r *Recorder) Target(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = addr
}

// Gate has judge asked, on the connection's goroutine, about each further frame. The frame is written down whatever the
// verdict. Judge must not call the Recorder. A nil judge lets everything pass.
func (r *Recorder) Gate(judge func(Frame) Verdict) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gate = judge
}

// Exchanges returns what has passed so far, one entry for each connection, in order.
func (r *Recorder) Exchanges() []Exchange {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Exchange, len(r.exchanges))
	for i, e := range r.exchanges {
		out[i] = e.clone()
	}
	return out
}

// Close stops listening, cuts all connections and waits for what the Recorder runs.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		c.cut()
	}
	r.mu.Unlock()
	err := r.listener.Close()
	r.wg.Wait()
	return err
}

func (r *Recorder) serve() {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.relay(c) })
	}
}

func (r *Recorder) relay(client net.Conn) {
	defer client.Close()
	r.mu.Lock()
	target := r.target
	r.mu.Unlock()
	server, err := net.Dial("tcp", target) //nolint:noctx // on this machine it is answered at once, one way or the other
	if err != nil {
		return
	}
	c := &recorded{client, server, &Exchange{}}
	defer c.cut()
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return
	}
	r.exchanges = append(r.exchanges, c.exchange)
	r.open[c] = struct{}{}
	r.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() {
		c.pump(server, client, func(content []byte, size int) Verdict { return r.offered(c, content, size) })
	})
	pumps.Go(func() {
		c.pump(client, server, func(content []byte, size int) Verdict { return r.settled(c, content, size) })
	})
	pumps.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

// pump passes frames, and the end of the stream, from one side to the other.
func (c *recorded) pump(to, from net.Conn, see func(content []byte, size int) Verdict) {
	in := netstring.NewDecoder(from, wire.MaxFrame)
	for {
		content, err := in.Next()
		if errors.Is(err, io.EOF) {
			_ = to.(*net.TCPConn).CloseWrite()
			return
		}
		if err != nil {
			break
		}
		frame := netstring.Append(nil, content)
		verdict := see(content, len(frame))
		if verdict != Pass {
			c.tear(to, frame[:min(int(verdict), len(frame))])
			break
		}
		if _, err := to.Write(frame); err != nil {
			break
		}
	}
	c.cut()
}

// tear sends what is left of a frame.
func (c *recorded) tear(to net.Conn, rest []byte) {
	_, _ = to.Write(rest)
	if len(rest)%2 == 1 {
		_ = to.(*net.TCPConn).SetLinger(0)
	}
}

func (r *Recorder) offered(c *recorded, content []byte, size int) Verdict {
	r.mu.Lock()
	f := Frame{Type: wire.Type(content), Size: size}
	if c.exchange.Observer == "" {
		f.Type = 0
	}
	f.Keys = c.exchange.sent(content)
	f.Observer = c.exchange.Observer
	gate := r.gate
	r.mu.Unlock()
	return judged(gate, f)
}

func judged(gate func(Frame) Verdict, f Frame) Verdict {
	if gate == nil {
		return Pass
	}
	return gate(f)
}

// patience is how long the database may take to say what it has.
const patience = 2 * time.Second

func (r *Recorder) settled(c *recorded, content []byte, size int) Verdict {
	r.mu.Lock()
	keys, acked := c.exchange.answered(content)
	f := Frame{Observer: c.exchange.Observer, Type: wire.Type(content), Keys: slices.Clone(keys), Size: size}
	gate := r.gate
	r.mu.Unlock()
	if acked {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		absent, err := r.absent(ctx, f.Keys)
		cancel()
		if err == nil {
			r.mu.Lock()
			c.exchange.Early = append(c.exchange.Early, absent...)
			r.mu.Unlock()
		}
	}
	return judged(gate, f)
}
