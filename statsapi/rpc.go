package statsapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/ethrpc"
	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/schema"
)

// Messages from a client of /v1/rpc: it asks for each thing by itself, other than one that only subscribes. Each is
// answered before the next is read, so one connection never takes more than one call's or batch's share.
const (
	rpcRate  = 1000 // a second, on average
	rpcBurst = 2000
)

// rpcSocket is a connection of /v1/rpc: a node's JSON-RPC over WebSocket, with the subscription by which an Ethereum
// client follows the chain.
type rpcSocket struct {
	*socket
	chain *uint64 // as named in the URL
	who   caller
}

// serveRPC answers /v1/rpc.
func (l *live) serveRPC(w http.ResponseWriter, r *http.Request, s *slot) {
	named, err := chainParam(r.URL.Query().Get("chain")).read()
	if err != nil {
		s.release()
		writeError(w, err)
		return
	}
	who := callerOf(r.Context())
	c := l.open(w, r, s)
	if c == nil {
		return
	}
	c.budget = rate.NewLimiter(rpcRate, rpcBurst)
	rpc := &rpcSocket{socket: c, chain: named, who: who}
	c.start(func() {}, rpc.take)
}

// take answers a message: a call, or several in a batch. A subscription begins to speak after its answer.
func (c *rpcSocket) take(text []byte) {
	api := c.live.api
	req, problem := api.rpc.Parse(text)
	if problem != nil {
		c.say(jsonrpc.AppendAnswer(nil, nil, nil, jsonrpc.Failure(problem)))
		return
	}
	if f := api.access.charge(c.who, len(req.Calls)); f != nil {
		failure := jsonrpc.Failure(f.rpc())
		c.say(ethrpc.Reply(c.ctx, req, func(context.Context, *jsonrpc.Call) ([]byte, []byte) { return nil, failure }))
		return
	}
	ctx, cancel := context.WithTimeout(c.ctx, api.opts.RequestTimeout)
	defer cancel()
	view := api.rpc.View(ctx, c.chain)
	defer view.Close()
	var (
		mu    sync.Mutex // guards after
		after []func()
	)
	c.say(ethrpc.Reply(ctx, req, func(ctx context.Context, q *jsonrpc.Call) (result, failure []byte) {
		if q.Bad != nil || q.Method != "eth_subscribe" && q.Method != "eth_unsubscribe" {
			return view.Answer(ctx, q)
		}
		mu.Lock()
		defer mu.Unlock()
		result, then, err := c.steer(view, q)
		if then != nil {
			after = append(after, then)
		}
		if err != nil {
			failure = c.failure(q, err)
		}
		return result, failure
	}))
	for _, then := range after {
		then()
	}
}

// say sends an answer, if there is any.
func (c *rpcSocket) say(text []byte) {
	if text != nil {
		_ = c.write(append(appendTextHeader(make([]byte, 0, len(text)+10), len(text)), text...))
	}
}

// failure tells an error; those that were not made for it stay inside.
func (c *rpcSocket) failure(q *jsonrpc.Call, err error) []byte {
	var shown *jsonrpc.Error
	if !errors.As(err, &shown) {
		c.live.log.WithFields(logrus.Fields{"method": q.Method}).WithError(err).Error("call failed")
		shown = jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error")
	}
	return jsonrpc.Failure(shown)
}

// steer begins or ends a subscription. Then, if any, is to be done once the answer is on its way.
func (c *rpcSocket) steer(view *ethrpc.View, q *jsonrpc.Call) (result []byte, then func(), err error) {
	if q.Method == "eth_subscribe" {
		return c.subscribe(view, q)
	}
	var params []string
	if err := jsonv2.Unmarshal(q.Params, &params); err != nil || len(params) != 1 {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeParams, "want the id of a subscription")
	}
	if !c.leave(params[0]) {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeServer, "subscription not found")
	}
	return []byte("true"), nil, nil
}

// subscribe opens what geth calls newHeads: each block that becomes the head, and after a reorganisation each of the new
// branch, so that a height may come more than once.
func (c *rpcSocket) subscribe(view *ethrpc.View, q *jsonrpc.Call) ([]byte, func(), error) {
	var params []jsontext.Value
	var name string
	if err := jsonv2.Unmarshal(q.Params, &params); err != nil || len(params) == 0 || jsonv2.Unmarshal(params[0], &name) != nil {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeParams, "want the name of a subscription")
	}
	if name != "newHeads" {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeNoMethod, "no %s subscription in eth namespace: only newHeads is kept here",
			jsonrpc.Clip(name))
	}
	if n, _ := c.count(""); n >= c.live.opts.Subscriptions {
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeLimit, "a connection may have %d subscriptions", c.live.opts.Subscriptions)
	}
	state, problem := view.Chain()
	if problem != nil {
		return nil, nil, problem
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
	err := c.follow(id, filter, feed.Place{Latest: true}, func(*feed.Subscription) error { return nil }, w)
	return strconv.AppendQuote(nil, id), func() { close(said) }, err
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
