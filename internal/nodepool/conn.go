package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/gorilla/websocket"
)

// errNotConnected reports a call to a node that is to be connected to again first, by its next probe.
var errNotConnected = errors.New("not connected")

// callError is what a call to a node came to when it did not come to an answer. Its text is fit for logs.
type callError struct {
	node, method string
	text         string
	cause        error // for errors.Is and As only; its own text may hold credentials
}

func (e *callError) Error() string { return fmt.Sprintf("node %s: %s: %s", e.node, e.method, e.text) }
func (e *callError) Unwrap() error { return e.cause }

// BadAnswer is the error for an answer that arrived well and says something wrong. Its text is fit for logs.
func BadAnswer(node, method string, err error) error {
	return &callError{node: node, method: method, text: address{}.clean(err.Error()), cause: err}
}

// reason is an error's text without the node's name, which stands beside it already.
func reason(err error) string {
	var e *callError
	if errors.As(err, &e) {
		return e.method + ": " + e.text
	}
	return address{}.clean(err.Error())
}

// conn is the connection to one node. Its prober makes and drops it; anyone may call over it.
type conn struct {
	address
	http    *http.Client
	max     int64
	timeout time.Duration

	mu       sync.Mutex // guards the rest
	rpc      *rpc.Client
	verified time.Time // when the chain id was read on this connection; zero: not yet
	single   time.Time // batches are not tried before then
}

// maxIdle is how many HTTP connections to one node are kept for the next calls.
const maxIdle = 16

func newConn(a address, o Options) *conn {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = maxIdle
	return &conn{address: a, max: o.MaxAnswer, timeout: o.CallTimeout, http: &http.Client{
		Transport: &guard{next: transport, max: o.MaxAnswer, now: o.Now},
		// A redirect would carry the request, and with it an API key, to wherever the answer says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// dial makes a connection of its own to one of the node's URLs. Over WebSocket it is this one only: go-ethereum's
// client would make the next one by itself, unseen, and the chain id would not be checked again.
func (c *conn) dial(ctx context.Context, url string) (*rpc.Client, error) {
	var once bool
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if once {
				return nil, errors.New("connection lost")
			}
			once = true
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	client, err := rpc.DialOptions(ctx, url, rpc.WithHTTPClient(c.http), rpc.WithWebsocketDialer(dialer),
		rpc.WithWebsocketMessageSizeLimit(c.max))
	if err != nil {
		return nil, c.wrap("connect", err)
	}
	return client, nil
}

// verify makes sure that the node is connected and that its chain id was read on this connection, not too long ago.
// check is given the chain id when it is read.
func (c *conn) verify(ctx context.Context, now time.Time, check func(id uint64) error) error {
	c.mu.Lock()
	client, fresh := c.rpc, !c.verified.IsZero() && now.Sub(c.verified) < reverify
	c.mu.Unlock()
	if client != nil && fresh {
		return nil
	}
	if client == nil {
		dialCtx, cancel := context.WithTimeout(ctx, quickCall)
		defer cancel()
		var err error
		if client, err = c.dial(dialCtx, c.url); err != nil {
			return err
		}
		c.mu.Lock()
		c.rpc = client
		c.mu.Unlock()
	}
	id, err := c.chainID(ctx, client)
	if err == nil {
		err = check(id)
	}
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.verified = now
	c.mu.Unlock()
	return nil
}

// doubt has the chain id read again before the next probe.
func (c *conn) doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified = time.Time{}
}

// hangUp drops the connection; the next verify makes a new one.
func (c *conn) hangUp() {
	c.mu.Lock()
	client := c.rpc
	c.rpc, c.verified = nil, time.Time{}
	c.mu.Unlock()
	if client != nil {
		client.Close()
	}
	c.http.CloseIdleConnections()
}

// call asks the node one thing, within a total deadline. The answer is the raw JSON of the result, "null" included.
func (c *conn) call(ctx context.Context, within time.Duration, method string, args ...any) (json.RawMessage, error) {
	c.mu.Lock()
	client := c.rpc
	c.mu.Unlock()
	if client == nil {
		return nil, c.wrap(method, errNotConnected)
	}
	return c.callOn(ctx, client, within, method, args...)
}

func (c *conn) callOn(
	ctx context.Context, client *rpc.Client, within time.Duration, method string, args ...any,
) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, min(within, c.timeout))
	defer cancel()
	var answer json.RawMessage
	if err := client.CallContext(ctx, &answer, method, args...); err != nil {
		return nil, c.wrap(method, err)
	}
	return answer, nil
}

// chainID asks for the chain the node is on.
func (c *conn) chainID(ctx context.Context, client *rpc.Client) (uint64, error) {
	raw, err := c.callOn(ctx, client, quickCall, "eth_chainId")
	if err != nil {
		return 0, err
	}
	var id hexutil.Uint64
	if err := json.Unmarshal(raw, &id); err != nil || id == 0 || id >= 1<<63 {
		return 0, c.wrap("eth_chainId", errors.New("answer is not a chain id"))
	}
	return uint64(id), nil
}

// wrap turns an error of a call into one that can be logged. net/http puts the whole URL into its errors, with the API
// key in its path; an error text may also come from the node.
func (c *conn) wrap(method string, err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	text := err.Error()
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		text = "no complete answer in time"
	case errors.As(err, &syntax), strings.HasSuffix(text, "unexpected EOF"):
		text = "answer is not complete JSON: " + text
	}
	return &callError{node: c.name, method: method, text: c.clean(text), cause: err}
}
