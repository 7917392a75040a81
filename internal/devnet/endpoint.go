package devnet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	maxRequest = 5 << 20 // bytes of a request's body, geth's limit
	maxBatch   = 100     // requests in a batch
)

// Endpoint is one JSON-RPC node of a Net, reachable over HTTP from New until Close.
type Endpoint struct {
	chain    *chain
	listener net.Listener
	server   *http.Server

	mu     sync.Mutex // guards what follows
	faults Faults
	frozen *view // what a stalled node still shows
}

func newEndpoint(c *chain, address string) (*Endpoint, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for endpoint: %w", err)
	}
	e := &Endpoint{chain: c, listener: listener}
	e.server = &http.Server{Handler: e, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute}
	return e, nil
}

// Addr is the address the endpoint listens on.
func (e *Endpoint) Addr() net.Addr { return e.listener.Addr() }

// URL is where the endpoint answers JSON-RPC over HTTP.
func (e *Endpoint) URL() string { return "http://" + e.listener.Addr().String() }

// Set replaces the endpoint's faults, from the next request on. A stall freezes the view of this moment, or keeps the
// one that an earlier Set froze; without a stall the node is back on the chain at once.
func (e *Endpoint) Set(f Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !f.Stall:
		e.frozen = nil
	case e.frozen == nil:
		v := e.chain.view()
		e.frozen = &v
	}
	e.faults = f
}

// freeze stalls the endpoint at a view.
func (e *Endpoint) freeze(v view) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.frozen, e.faults.Stall = &v, true
}

// Faults tells what is wrong with the endpoint now.
func (e *Endpoint) Faults() Faults {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.faults
}

// look is the view of the endpoint at this moment, with its faults.
func (e *Endpoint) look() (view, Faults) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.chain.view()
	if e.frozen != nil {
		v = *e.frozen
	}
	return v.behind(e.faults.Lag), e.faults
}

// ServeHTTP answers one JSON-RPC request or batch, as the endpoint's faults let it. A batch is answered from one view.
func (e *Endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, faults := e.look()
	if !pause(r.Context(), faults.Delay) || disturb(w, r, faults.Reply) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
	if err != nil {
		http.Error(w, "request too large", http.StatusRequestEntityTooLarge)
		return
	}
	reply := respond(r.Context(), v, faults, body)
	w.Header().Set("Content-Type", "application/json")
	send(r.Context(), w, faults.Reply, reply)
}

// pause waits, and answers false when the caller went away.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// disturb carries out the faults that need no answer to spoil; true means that the request has had its answer.
func disturb(w http.ResponseWriter, r *http.Request, reply Reply) bool {
	switch reply {
	case ReplyDark:
		panic(http.ErrAbortHandler) // the one way to close the connection without an answer
	case ReplyHang:
		// The body must be read, or the server never notices that the caller has gone.
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	case ReplyGarbage:
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<!DOCTYPE html><title>Welcome</title><h1>It works!</h1>\n")
	case ReplyLimit:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32005,"message":"limit exceeded"}}`)
	case ReplyError:
		http.Error(w, "internal server error", http.StatusInternalServerError)
	default:
		return false
	}
	return true
}

// send writes an answer, spoilt if need be. Nothing can be done about a caller that has gone.
func send(ctx context.Context, w http.ResponseWriter, spoil Reply, reply []byte) {
	switch spoil {
	case ReplyTruncate:
		reply = reply[:len(reply)/2]
	case ReplyHuge:
		blank := bytes.Repeat([]byte(" "), 1<<20)
		for range 300 {
			if _, err := w.Write(blank); err != nil {
				return
			}
		}
	case ReplyDrip:
		for i := range reply {
			if _, err := w.Write(reply[i : i+1]); err != nil || http.NewResponseController(w).Flush() != nil {
				return
			}
			if !pause(ctx, time.Second) {
				return
			}
		}
		return
	}
	_, _ = w.Write(reply)
}

// request and response are JSON-RPC 2.0's.
type request struct {
	ID     json.RawMessage   `json:"id"`
	Method string            `json:"method"`
	Params []json.RawMessage `json:"params"`
}

type response struct {
	Version string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *refusal        `json:"error,omitempty"`
}

func respond(ctx context.Context, v view, faults Faults, body []byte) []byte {
	if !strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 64)])), "[") {
		return encode(respondOne(ctx, v, faults, body))
	}
	var batch []json.RawMessage
	if err := json.Unmarshal(body, &batch); err != nil {
		return encode(failed(nil, &refusal{Code: -32700, Message: "parse error"}))
	}
	if len(batch) == 0 || len(batch) > maxBatch {
		return encode(failed(nil, &refusal{Code: -32600, Message: "batch empty or too large"}))
	}
	replies := make([]response, len(batch))
	for i, one := range batch {
		replies[i] = respondOne(ctx, v, faults, one)
	}
	return encode(replies)
}

func respondOne(ctx context.Context, v view, faults Faults, body []byte) response {
	var req request
	var syntax *json.SyntaxError
	if err := json.Unmarshal(body, &req); errors.As(err, &syntax) {
		return failed(nil, &refusal{Code: -32700, Message: "parse error"})
	} else if err != nil || req.Method == "" {
		return failed(req.ID, &refusal{Code: -32600, Message: "invalid request"})
	}
	c := &call{view: v, faults: faults, method: req.Method, params: req.Params}
	result, err := c.answer(ctx)
	if err != nil {
		return failed(req.ID, asRefusal(err))
	}
	if len(result) == 0 {
		result = null
	}
	return response{Version: "2.0", ID: req.ID, Result: result}
}

func failed(id json.RawMessage, r *refusal) response {
	if len(id) == 0 {
		id = null
	}
	return response{Version: "2.0", ID: id, Error: r}
}

func encode(v any) []byte {
	// Everything in an answer is JSON already, or a number or string of ours.
	text, err := json.Marshal(v)
	if err != nil {
		return []byte(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"internal error"}}`)
	}
	return text
}
