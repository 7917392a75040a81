package statsapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/firstseen/firstseen/internal/feed"
)

const (
	messageBytes   = 64 << 10         // of one message from a client
	messageTimeout = 10 * time.Second // from a message's first frame to its last
	goodbye        = 2 * time.Second  // for the client to say it, too
	messageRate    = 20               // messages a second from a client, on average
	messageBurst   = 100
)

// closeSlow is the close code of a connection whose client does not keep up. It may come back with its cursor.
const closeSlow websocket.StatusCode = 4008

// pingFrame is a ping without content (RFC 6455, section 5.5.2).
var pingFrame = []byte{0x89, 0x00}

// socket is one WebSocket connection. The library shakes hands, reads, answers pings and closes. Messages to the client
// go past it, straight to the connection, because they are made once for all clients and joined into one write. Each
// write holds whole frames, and a connection takes one write after the other, so that the library's own, which are
// control frames, come between two messages and never into one.
type socket struct {
	live      *live
	slot      *slot
	ws        *websocket.Conn
	raw       net.Conn
	delivered prometheus.Counter

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	wg     sync.WaitGroup // writers of subscriptions
	budget *rate.Limiter  // of messages from the client
	heard  atomic.Int64   // when the client was last heard, Unix nanoseconds
	once   sync.Once      // end
	pulse  *time.Timer    // calls beat

	mu    sync.Mutex // guards what follows, and held while writing
	alive liveness
	over  bool // nothing more may be written
	torn  bool // a write failed, maybe within a frame

	subsMu sync.Mutex // guards subs
	subs   map[string]*stream
}

// stream is one subscription of a connection, with the goroutine that writes it.
type stream struct {
	sub    *feed.Subscription
	cancel context.CancelFunc
	done   chan struct{} // closed when its writer has ended
}

// tap keeps the connection that a handshake takes over.
type tap struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (t *tap) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(t.ResponseWriter).Hijack()
	t.conn = conn
	return conn, rw, err
}

// open upgrades a request, whose origin has been checked. It returns nil after answering one that cannot be.
func (l *live) open(w http.ResponseWriter, r *http.Request, s *slot) *socket {
	t := &tap{ResponseWriter: w}
	c := &socket{
		live: l, slot: s, delivered: l.delivered.WithLabelValues(s.route), budget: rate.NewLimiter(messageRate, messageBurst),
		subs: map[string]*stream{},
	}
	ws, err := websocket.Accept(t, r, &websocket.AcceptOptions{
		InsecureSkipVerify: true, // guard has looked at the origin
		Subprotocols:       []string{wsProtocol},
		CompressionMode:    websocket.CompressionDisabled,
		OnPingReceived:     func(context.Context, []byte) bool { c.hear(); return true },
		OnPongReceived:     func(context.Context, []byte) { c.hear() },
	})
	if err != nil {
		l.log.WithError(err).Debug("no WebSocket")
		s.release()
		return nil
	}
	ws.SetReadLimit(messageBytes)
	c.ws, c.raw = ws, t.conn
	c.alive = liveness{conn: t.conn, ping: l.opts.Ping}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.hear()
	if key := callerOf(r.Context()).key; key != nil {
		c.wg.Go(func() {
			l.api.access.keys.watch(c.ctx, *key, func(error) { c.end(websocket.StatusPolicyViolation, errRevoked.Error()) })
		})
	}
	return c
}

func (c *socket) hear() { c.heard.Store(time.Now().UnixNano()) }

// start serves the connection in a goroutine of its own, which needs less memory than the request's. It does first, then
// takes each message.
func (c *socket) start(first func(), take func([]byte)) {
	go func() {
		defer c.slot.release()
		c.run(first, take)
	}()
}

// run reads what the client says until either side ends the connection.
func (c *socket) run(first func(), take func([]byte)) {
	stop := context.AfterFunc(c.live.ctx, func() {
		c.end(websocket.StatusGoingAway, "this server ends, connect again")
	})
	c.mu.Lock()
	c.pulse = time.AfterFunc(c.live.opts.Ping, c.beat)
	c.mu.Unlock()
	first()
	for {
		text, err := c.read()
		if err != nil {
			break
		}
		take(text)
	}
	stop()
	c.cancel()
	c.pulse.Stop()
	c.end(websocket.StatusNormalClosure, "")
	c.wg.Wait()
}

// read returns the client's next message.
func (c *socket) read() ([]byte, error) {
	kind, r, err := c.ws.Reader(context.Background()) // ends when the connection is closed
	if err != nil {
		return nil, err
	}
	late := time.AfterFunc(messageTimeout, func() { c.end(websocket.StatusPolicyViolation, "a message takes too long") })
	text, err := io.ReadAll(r)
	late.Stop()
	c.hear()
	switch {
	case err != nil:
		return nil, err
	case kind != websocket.MessageText:
		c.end(websocket.StatusUnsupportedData, "messages are text")
		return nil, errors.New("binary message")
	case !c.budget.Allow():
		c.end(websocket.StatusPolicyViolation, "too many messages")
		return nil, errors.New("too many messages")
	}
	return text, nil
}

// beat asks the client for a sign of life, and lets subscriptions that had nothing to say tell their cursor.
func (c *socket) beat() {
	if c.ctx.Err() != nil {
		return
	}
	if silent := time.Since(time.Unix(0, c.heard.Load())); silent > 3*c.live.opts.Ping {
		c.tear()
		return
	}
	if c.ping() != nil {
		c.tear()
		return
	}
	c.subsMu.Lock()
	defer c.subsMu.Unlock()
	for _, s := range c.subs {
		s.sub.Poke()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pulse.Reset(c.live.opts.Ping)
}

// ping asks for a sign of life, unless a write is under way: its deadline is sign enough.
func (c *socket) ping() error {
	if !c.mu.TryLock() {
		return nil
	}
	defer c.mu.Unlock()
	if c.over {
		return net.ErrClosed
	}
	c.alive.deadline = time.Time{} // the library's own writes rely on it, too
	return c.put(pingFrame)
}

// write sends whole frames.
func (c *socket) write(frames []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return net.ErrClosed
	}
	return c.put(frames)
}

// put needs mu.
func (c *socket) put(frames []byte) error {
	c.alive.renew(time.Now())
	_, err := c.raw.Write(frames)
	if err != nil {
		c.over, c.torn = true, true
	}
	return err
}

// tell sends a message of the connection's own.
func (c *socket) tell(message any) error {
	text, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message: %w", err)
	}
	return c.write(append(appendTextHeader(nil, len(text)), text...))
}

// tear closes the connection without a word.
func (c *socket) tear() {
	c.cancel()
	_ = c.ws.CloseNow()
}

// end closes the connection with a reason, once no message is half written. Where one stays so, there is no telling.
func (c *socket) end(code websocket.StatusCode, reason string) {
	c.once.Do(func() {
		c.cancel()
		if !c.mu.TryLock() {
			_ = c.raw.SetWriteDeadline(time.Now().Add(time.Second))
			c.mu.Lock()
		}
		torn := c.torn
		c.over = true
		c.alive.deadline = time.Time{}
		c.alive.renew(time.Now())
		c.mu.Unlock()
		if torn {
			_ = c.ws.CloseNow()
			return
		}
		_ = c.raw.SetReadDeadline(time.Now().Add(goodbye)) // the library would wait for all of a message that was begun
		_ = c.ws.Close(code, reason)
	})
}

// follow opens a subscription, which begins to write once begin has.
func (c *socket) follow(
	id string, filter feed.Filter, from feed.Place, begin func(*feed.Subscription) error, w writer,
) error {
	sub, err := c.live.opts.Feed.Subscribe(c.ctx, filter, from)
	if err != nil {
		return err
	}
	if err := begin(sub); err != nil {
		sub.Close()
		return err
	}
	ctx, cancel := context.WithCancel(c.ctx)
	s := &stream{sub: sub, cancel: cancel, done: make(chan struct{})}
	c.subsMu.Lock()
	c.subs[id] = s
	c.subsMu.Unlock()
	c.live.followers.Add(1)
	c.wg.Go(func() {
		defer c.live.followers.Add(-1)
		defer close(s.done)
		defer cancel()
		defer sub.Close()
		c.stream(ctx, sub, w)
	})
	return nil
}

// stream writes a subscription until ctx ends; if it ends otherwise, it ends the connection.
func (c *socket) stream(ctx context.Context, sub *feed.Subscription, w writer) {
	err := w.pump(ctx, sub, c.write, c.delivered)
	var slow *feed.SlowError
	switch {
	case ctx.Err() != nil:
	case errors.As(err, &slow):
		c.end(closeSlow, "too slow, come back with "+slow.Cursor.String())
	case errors.Is(err, feed.ErrEnded):
		c.end(websocket.StatusGoingAway, "this server ends, connect again")
	default:
		c.live.log.WithError(err).Debug("live connection ends")
		c.end(websocket.StatusInternalError, "come back with "+sub.Cursor().String())
	}
}

// leave ends a subscription, and tells whether there was one. Nothing of it is written any more after that.
func (c *socket) leave(id string) bool {
	c.subsMu.Lock()
	s := c.subs[id]
	delete(c.subs, id)
	c.subsMu.Unlock()
	if s == nil {
		return false
	}
	s.cancel()
	<-s.done
	return true
}

// count is how many subscriptions there are, and whether one has this id.
func (c *socket) count(id string) (n int, taken bool) {
	c.subsMu.Lock()
	defer c.subsMu.Unlock()
	_, taken = c.subs[id]
	return len(c.subs), taken
}
