package statsapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// The codes of JSON-RPC errors (JSON-RPC 2.0, section 5.1, and what Ethereum nodes add).
const (
	rpcParse    = -32700
	rpcInvalid  = -32600
	rpcNoMethod = -32601
	rpcParams   = -32602
	rpcInternal = -32603
	rpcServer   = -32000
)

const (
	rpcBatch   = 100 // calls in one message
	rpcIDBytes = 256 // of a call's id, which comes back with the answer
)

// rpcCall is one call of a client.
type rpcCall struct {
	Version string         `json:"jsonrpc"`
	ID      jsontext.Value `json:"id"`
	Method  string         `json:"method"`
	Params  jsontext.Value `json:"params"`
}

// rpcAnswer is the answer to one call.
type rpcAnswer struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *rpcError       `json:"error,omitempty"`
}

type rpcError struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

// Error implements error.
func (e *rpcError) Error() string { return e.Message }

func rpcErrorf(code int, format string, args ...any) *rpcError {
	return &rpcError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// rpcSocket is a connection of /v1/rpc: the part of a node's JSON-RPC over WebSocket with which an Ethereum client
// follows the chain.
type rpcSocket struct {
	*socket
	chain chainParam // as named in the URL
}

// serveRPC answers /v1/rpc.
func (l *live) serveRPC(w http.ResponseWriter, r *http.Request, s *slot) {
	named := chainParam(r.URL.Query().Get("chain"))
	if _, err := named.read(); err != nil {
		s.release()
		writeError(w, err)
		return
	}
	c := l.open(w, r, s)
	if c == nil {
		return
	}
	rpc := &rpcSocket{socket: c, chain: named}
	c.start(func() {}, rpc.take)
}

// take answers a message: a call, or several in a batch. A subscription begins to speak after its answer.
func (c *rpcSocket) take(text []byte) {
	var calls []rpcCall
	batch := len(text) > 0 && jsontext.Value(text).Kind() == '['
	var err error
	if batch {
		err = jsonv2.Unmarshal(text, &calls)
	} else {
		calls = make([]rpcCall, 1)
		err = jsonv2.Unmarshal(text, &calls[0])
	}
	switch {
	case err != nil && !jsontext.Value(text).IsValid():
		_ = c.tell(failed(nil, rpcErrorf(rpcParse, "not JSON, or a member twice")))
		return
	case err != nil:
		_ = c.tell(failed(nil, rpcErrorf(rpcInvalid, "not a JSON-RPC call")))
		return
	case len(calls) == 0 || len(calls) > rpcBatch:
		_ = c.tell(failed(nil, rpcErrorf(rpcInvalid, "a batch has 1 to %d calls", rpcBatch)))
		return
	}
	var (
		answers []rpcAnswer
		after   []func()
	)
	for _, q := range calls {
		answer, then := c.answer(q)
		if answer != nil {
			answers = append(answers, *answer)
		}
		if then != nil {
			after = append(after, then)
		}
	}
	switch {
	case len(answers) == 0: // notifications get none
	case batch:
		_ = c.tell(answers)
	default:
		_ = c.tell(answers[0])
	}
	for _, then := range after {
		then()
	}
}

func failed(id jsontext.Value, err *rpcError) *rpcAnswer {
	if len(id) == 0 || len(id) > rpcIDBytes {
		id = jsontext.Value("null")
	}
	return &rpcAnswer{Version: "2.0", ID: json.RawMessage(id), Error: err}
}

// answer carries out one call. Then, if any, is to be done once the answer is on its way.
func (c *rpcSocket) answer(q rpcCall) (answer *rpcAnswer, then func()) {
	switch kind := q.ID.Kind(); {
	case len(q.ID) > 0 && kind != '"' && kind != '0' && kind != 'n', len(q.ID) > rpcIDBytes:
		return failed(nil, rpcErrorf(rpcInvalid, "the id must be a string or a number of at most %d bytes", rpcIDBytes)), nil
	case q.Version != "2.0" || q.Method == "":
		return failed(q.ID, rpcErrorf(rpcInvalid, "not a JSON-RPC 2.0 call")), nil
	}
	result, then, err := c.call(q)
	if len(q.ID) == 0 {
		return nil, then
	}
	if err != nil {
		var shown *rpcError
		if !errors.As(err, &shown) {
			c.live.log.WithFields(logrus.Fields{"method": clip(q.Method)}).WithError(err).Error("call failed")
			shown = rpcErrorf(rpcInternal, "internal error")
		}
		return failed(q.ID, shown), nil
	}
	text, err := json.Marshal(result)
	if err != nil {
		return failed(q.ID, rpcErrorf(rpcInternal, "internal error")), nil
	}
	return &rpcAnswer{Version: "2.0", ID: json.RawMessage(q.ID), Result: text}, then
}

func (c *rpcSocket) call(q rpcCall) (result any, then func(), err error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.live.api.opts.RequestTimeout)
	defer cancel()
	switch q.Method {
	case "eth_subscribe":
		return c.subscribe(ctx, q)
	case "eth_unsubscribe":
		var params []string
		if err := jsonv2.Unmarshal(q.Params, &params); err != nil || len(params) != 1 {
			return nil, nil, rpcErrorf(rpcParams, "want the id of a subscription")
		}
		if !c.leave(params[0]) {
			return nil, nil, rpcErrorf(rpcServer, "subscription not found")
		}
		return true, nil, nil
	case "eth_syncing":
		return false, nil, nil
	case "web3_clientVersion":
		return "firstseen/" + c.live.api.opts.Version, nil, nil
	case "eth_chainId", "net_version", "eth_blockNumber":
		state, err := c.state(ctx)
		if err != nil {
			return nil, nil, err
		}
		switch q.Method {
		case "eth_chainId":
			return quantity(state.Chain), nil, nil
		case "net_version":
			return strconv.FormatUint(state.Chain, 10), nil, nil
		}
		return quantity(state.Head.Number), nil, nil
	}
	return nil, nil, rpcErrorf(rpcNoMethod, "the method %s does not exist/is not available", clip(q.Method))
}

func quantity(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// state is where the chain stands that this connection is about.
func (c *rpcSocket) state(ctx context.Context) (*schema.ChainState, error) {
	state, err := c.live.api.oneChain(ctx, c.chain, "latest")
	var shown interface {
		error
		GetStatus() int
	}
	if errors.As(err, &shown) {
		return nil, rpcErrorf(rpcServer, "%s", shown.Error())
	}
	return state, err
}

// subscribe opens what geth calls newHeads: each block that becomes the head, and after a reorganisation each of the new
// branch, so that a height may come more than once.
func (c *rpcSocket) subscribe(ctx context.Context, q rpcCall) (any, func(), error) {
	var params []jsontext.Value
	var name string
	if err := jsonv2.Unmarshal(q.Params, &params); err != nil || len(params) == 0 || jsonv2.Unmarshal(params[0], &name) != nil {
		return nil, nil, rpcErrorf(rpcParams, "want the name of a subscription")
	}
	if name != "newHeads" {
		return nil, nil, rpcErrorf(rpcNoMethod, "no %q subscription in eth namespace: only newHeads is kept here", clip(name))
	}
	if n, _ := c.count(""); n >= c.live.opts.Subscriptions {
		return nil, nil, rpcErrorf(-32005, "a connection may have %d subscriptions", c.live.opts.Subscriptions)
	}
	state, err := c.state(ctx)
	if err != nil {
		return nil, nil, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:])
	id := "0x" + hex.EncodeToString(random[:])
	filter := feed.Filter{Chains: []uint64{state.Chain}, Heads: true}
	said := make(chan struct{})
	w := c.live.headWriter(id)
	head := w.event
	w.event = func(ctx context.Context, e *feed.Event) ([]byte, error) {
		select {
		case <-said:
			return head(ctx, e)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	err = c.follow(id, filter, feed.Place{Latest: true}, func(*feed.Subscription) error { return nil }, w)
	return id, func() { close(said) }, err
}

// headWriter writes headers as notifications (execution-apis, eth_subscription). What follows the subscription's id is
// the same for all.
func (l *live) headWriter(id string) writer {
	prefix := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"eth_subscription","params":{"subscription":%q,"result":`, id)
	return writer{event: func(ctx context.Context, e *feed.Event) ([]byte, error) {
		if e.Missing != nil {
			return nil, nil // JSON-RPC has no words for it
		}
		header, err := l.header(ctx, e)
		if err != nil || len(header) == 0 {
			return nil, err
		}
		size := len(prefix) + len(header) + 2
		out := append(appendTextHeader(make([]byte, 0, size+10), size), prefix...)
		return append(append(out, header...), "}}"...), nil
	}}
}

// header returns a block's header in JSON-RPC's form, empty where nobody has kept it.
func (l *live) header(ctx context.Context, e *feed.Event) ([]byte, error) {
	return e.Form(formHeader, func(e *feed.Event) ([]byte, error) {
		ctx, cancel := forAll(ctx)
		defer cancel()
		found, err := l.api.opts.Store.Headers(ctx, e.Chain, []schema.Key{e.Key})
		if err != nil {
			return nil, err
		}
		raw := found[e.Key]
		if raw == nil {
			l.log.WithField("hash", string(e.Key)).Warn("a new head has no header: subscribers of newHeads miss it")
			return []byte{}, nil
		}
		return chain.HeaderJSON(raw)
	})
}
