package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/gorilla/websocket"
)

// codeBadParams is the error for parameters that a method does not take (JSON-RPC 2.0, section 5.1).
const codeBadParams = -32602

// nodeError is what a call to a node came to when it did not come to an answer. Its text is fit for logs.
type nodeError struct {
	node, method string
	text         string
	cause        error // for errors.Is and As only; its own text may hold credentials
}

func (e *nodeError) Error() string { return fmt.Sprintf("node %s: %s: %s", e.node, e.method, e.text) }
func (e *nodeError) Unwrap() error { return e.cause }

// node is a connection to one node, made when first needed. It is used by one goroutine at a time, except that call may
// run concurrently with itself.
type node struct {
	address
	http    *http.Client
	max     int64
	timeout time.Duration
	rpc     *rpc.Client
}

func newNode(a address, o Options) *node {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = fetchers * fetchers // blocks at once, receipts of each at once
	return &node{address: a, max: o.MaxAnswer, timeout: o.CallTimeout, http: &http.Client{
		Transport: &guard{next: transport, max: o.MaxAnswer, now: o.Now},
		// A redirect would carry the request, and with it an API key, to wherever the answer says.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// dial connects, if that is not done yet. Over WebSocket the connection is this one only: go-ethereum's client would
// make the next one by itself, unseen, and the chain id would not be checked again.
func (n *node) dial(ctx context.Context) error {
	if n.rpc != nil {
		return nil
	}
	var once bool
	dialer := websocket.Dialer{
		Proxy: http.ProxyFromEnvironment,
		NetDialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if once {
				return nil, errors.New("connection lost")
			}
			once = true
			return tcpDialer.DialContext(ctx, network, addr)
		},
	}
	c, err := rpc.DialOptions(ctx, n.url, rpc.WithHTTPClient(n.http), rpc.WithWebsocketDialer(dialer),
		rpc.WithWebsocketMessageSizeLimit(n.max))
	if err != nil {
		return n.wrap("connect", err)
	}
	n.rpc = c
	return nil
}

// hangUp drops the connection; the next dial makes a new one.
func (n *node) hangUp() {
	if n.rpc != nil {
		n.rpc.Close()
		n.rpc = nil
	}
	n.http.CloseIdleConnections()
}

// call asks the node one thing, within a total deadline. The answer is the raw JSON of the result, "null" included.
func (n *node) call(ctx context.Context, within time.Duration, method string, args ...any) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, min(within, n.timeout))
	defer cancel()
	var answer json.RawMessage
	if err := n.rpc.CallContext(ctx, &answer, method, args...); err != nil {
		return nil, n.wrap(method, err)
	}
	return answer, nil
}

// chainID asks for the chain the node is on.
func (n *node) chainID(ctx context.Context) (uint64, error) {
	raw, err := n.call(ctx, quickCall, "eth_chainId")
	if err != nil {
		return 0, err
	}
	var id hexutil.Uint64
	if err := json.Unmarshal(raw, &id); err != nil || id == 0 || id >= 1<<63 {
		return 0, n.wrap("eth_chainId", errors.New("answer is not a chain id"))
	}
	return uint64(id), nil
}

// wrap turns an error of a call into one that can be logged. net/http puts the whole URL into its errors, with the API
// key in its path; an error text may also come from the node.
func (n *node) wrap(method string, err error) error {
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
	return &nodeError{node: n.name, method: method, text: n.clean(text), cause: err}
}

// rpcCode returns the JSON-RPC error code that a node answered with, 0 if the failure was of another kind.
func rpcCode(err error) int {
	var e rpc.Error
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return 0
}
