package gateway

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

const (
	socketCalls = 16               // calls of one connection under way; then no more is read from it
	socketWrite = 10 * time.Second // for one message to a caller or a node; a reader slower than that is cut off
	socketPing  = 15 * time.Second // between signs of life asked of both sides
	dialNode    = 5 * time.Second
)

// socket is a caller's WebSocket connection. Its calls take the same way as those over HTTP; only subscriptions, which
// live on one node, go to a connection of their own, the uplink, which is made for the first of them.
type socket struct {
	g     *Gateway
	who   caller
	conn  *websocket.Conn
	slots chan struct{} // one element for each call under way
	wg    sync.WaitGroup

	mu     sync.Mutex // guards uplink
	uplink *uplink
}

// uplink is a connection to the node that holds a socket's subscriptions.
type uplink struct {
	node *node
	conn *websocket.Conn
}

// serveSocket upgrades a request to a WebSocket connection and serves it until either side ends it.
func (g *Gateway) serveSocket(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		plain(w, http.StatusNotFound, "JSON-RPC is served at /")
		return
	}
	who, err := g.identify(r)
	if err != nil {
		g.refuse(w, http.StatusUnauthorized, jsonrpc.Errorf(jsonrpc.CodeServer, "%s", err))
		return
	}
	g.sockets.Add(1)
	defer g.sockets.Done()
	// Accept answers by itself when it refuses, as it does to pages of foreign origins.
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{OriginPatterns: g.opts.Origins,
		CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		g.log.WithError(err).Debug("no WebSocket")
		return
	}
	g.metrics.sockets.Inc()
	defer g.metrics.sockets.Dec()
	conn.SetReadLimit(g.opts.MaxBody)
	s := &socket{g: g, who: who, conn: conn, slots: make(chan struct{}, socketCalls)}
	s.run(context.WithoutCancel(r.Context()))
}

func (s *socket) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer s.wg.Wait()
	defer cancel()
	s.wg.Go(func() { s.watch(ctx) })
	for {
		kind, text, err := s.conn.Read(ctx)
		if err != nil {
			s.close(websocket.StatusNormalClosure, "")
			return
		}
		if kind != websocket.MessageText {
			s.close(websocket.StatusUnsupportedData, "JSON-RPC is text")
			return
		}
		s.take(ctx, text)
	}
}

// watch asks both sides for signs of life, and ends the connection when the gateway ends or the node that holds its
// subscriptions is not to be used any more: the caller connects again, and comes to another.
func (s *socket) watch(ctx context.Context) {
	ticker := time.NewTicker(socketPing)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.g.closing:
			s.close(websocket.StatusGoingAway, "the gateway is shutting down")
			return
		case <-ticker.C:
		}
		if ping(ctx, s.conn) != nil {
			s.close(websocket.StatusPolicyViolation, "no sign of life")
			return
		}
		if up := s.up(); up != nil && (!s.g.usable(up.node) || ping(ctx, up.conn) != nil) {
			s.close(websocket.StatusServiceRestart, "the node cannot be used now, connect again")
			return
		}
	}
}

func ping(ctx context.Context, conn *websocket.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, socketWrite)
	defer cancel()
	return conn.Ping(ctx)
}

func (s *socket) up() *uplink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uplink
}

// close ends the connection to the caller, and with it the one to the node. It may be called more than once.
func (s *socket) close(code websocket.StatusCode, reason string) {
	_ = s.conn.Close(code, reason)
	if up := s.up(); up != nil {
		_ = up.conn.CloseNow()
	}
}

// usable tells whether the pool still lists a node.
func (g *Gateway) usable(n *node) bool {
	for _, c := range g.roster.candidates() {
		if c.node == n {
			return true
		}
	}
	return false
}

// take answers one message, beside others.
func (s *socket) take(ctx context.Context, text []byte) {
	g := s.g
	req, problem := jsonrpc.Parse(text, g.opts.MaxBatch)
	if problem != nil {
		g.metrics.refused(problem.Code)
		s.write(ctx, sorry(problem.Code, problem.Message).appendTo(nil, nil))
		return
	}
	if _, ok := g.spend(s.who, len(req.Calls)); !ok {
		g.metrics.limited.Inc()
		answers := make([]answer, len(req.Calls))
		for i := range answers {
			answers[i] = sorry(jsonrpc.CodeLimit, "too many requests")
		}
		s.reply(ctx, req, answers)
		return
	}
	if c := &req.Calls[0]; !req.Batch && c.Bad == nil && (c.Method == "eth_subscribe" || c.Method == "eth_unsubscribe") {
		if err := s.subscribe(ctx, c); err != nil {
			s.reply(ctx, req, []answer{sorry(jsonrpc.CodeServer, err.Error())})
		}
		return
	}
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	s.wg.Go(func() {
		defer func() { <-s.slots }()
		mem := g.newAllowance()
		defer mem.release()
		v := g.look(s.who.id, 0)
		s.reply(ctx, req, g.answerAll(ctx, req, &v, mem))
	})
}

func (s *socket) reply(ctx context.Context, req jsonrpc.Request, answers []answer) {
	if body, _ := render(req, answers); len(body) > 0 {
		s.write(ctx, body)
	}
}

func (s *socket) write(ctx context.Context, text []byte) {
	ctx, cancel := context.WithTimeout(ctx, socketWrite)
	defer cancel()
	_ = s.conn.Write(ctx, websocket.MessageText, text) // a connection that cannot be written to fails to be read, too
}

// subscribe passes a call on to the node of the socket's subscriptions. The node's answer comes back by itself.
func (s *socket) subscribe(ctx context.Context, c *jsonrpc.Call) error {
	if c.ID == nil {
		return nil // nobody could use a subscription without the answer that names it
	}
	up := s.up()
	if up == nil {
		if c.Method == "eth_unsubscribe" {
			return errors.New("no such subscription")
		}
		var err error
		if up, err = s.dial(ctx); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, socketWrite)
	defer cancel()
	if err := up.conn.Write(ctx, websocket.MessageText, c.Encode(c.ID)); err != nil {
		return errors.New("the node was lost, connect again")
	}
	return nil
}

// dial connects to the first node that can be reached of those that serve subscriptions.
func (s *socket) dial(ctx context.Context) (*uplink, error) {
	v := s.g.look(s.who.id, 0)
	order, failure := s.g.fit(ctx, v.told, false)
	if failure != nil {
		return nil, errors.New("no node can be used now")
	}
	for _, at := range order {
		if at.ws == "" {
			continue
		}
		conn, err := s.g.dialSocket(ctx, at)
		s.g.opts.Pool.Report(at.name, err)
		if err != nil {
			s.g.metrics.failures.WithLabelValues(at.name, "websocket").Inc()
			continue
		}
		up := &uplink{at.node, conn}
		s.mu.Lock()
		s.uplink = up
		s.mu.Unlock()
		s.wg.Go(func() { s.pump(ctx, up) })
		return up, nil
	}
	return nil, errors.New("no node serves subscriptions now")
}

func (g *Gateway) dialSocket(ctx context.Context, at candidate) (*websocket.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialNode)
	defer cancel()
	header := at.headerOnce.Clone()
	header.Del("Content-Type")
	header.Del("Accept")
	client := &http.Client{Transport: g.transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	//nolint:bodyclose // the library's: after an upgrade there is none, after an error it holds the first kilobyte
	conn, resp, err := websocket.Dial(ctx, at.ws, &websocket.DialOptions{HTTPClient: client, HTTPHeader: header,
		CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		if resp != nil && resp.StatusCode != http.StatusSwitchingProtocols {
			return nil, &statusError{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), g.opts.Now())}
		}
		return nil, clean(err)
	}
	conn.SetReadLimit(freeAnswer)
	return conn, nil
}

// pump passes on what the node says, until either connection ends.
func (s *socket) pump(ctx context.Context, up *uplink) {
	defer func() { _ = up.conn.CloseNow() }()
	for {
		kind, text, err := up.conn.Read(ctx)
		if err != nil || kind != websocket.MessageText {
			_ = s.conn.Close(websocket.StatusServiceRestart, "the node was lost, connect again")
			return
		}
		if height, ok := newHead(text); ok {
			s.g.sawBlock(s.who.id, up.node, height)
		}
		s.write(ctx, text)
	}
}

// newHead finds the height in a notification of a newHeads subscription.
func newHead(text []byte) (height uint64, ok bool) {
	inside := func(object []byte, member string) (value []byte) {
		_ = jsonrpc.Read(object, func(r *jsonrpc.Reader) error {
			if r.Kind() != '{' {
				return jsonrpc.ErrNotAnswer
			}
			return r.Members(func(name []byte) error {
				raw, _, err := r.Value()
				if string(name) == member {
					value = raw
				}
				return err
			})
		}, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		return value
	}
	if params := inside(text, "params"); params != nil {
		return blockNumber(inside(params, "result"), "number")
	}
	return 0, false
}
