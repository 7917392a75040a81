package client

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

// fakeNode serves a drawing over JSON-RPC and misbehaves on command.
type fakeNode struct {
	*httptest.Server
	d *drawing

	mu    sync.Mutex // guards the rest
	fault fault
	calls map[string]int
	under int           // batches being answered
	most  int           // of these ever
	crowd chan struct{} // each batch waits for it; nil: none
	away  time.Duration // what each request takes on its way; set before use
}

// fault answers a request in place of the node, or returns false to let it answer.
type fault func(w http.ResponseWriter, method string) bool

func serveDrawing(t testing.TB, d *drawing) *fakeNode {
	t.Helper()
	n := &fakeNode{d: d, calls: map[string]int{}}
	n.Server = httptest.NewServer(http.HandlerFunc(n.handle))
	t.Cleanup(n.Close)
	return n
}

// misbehave sets the fault, nil for none.
func (n *fakeNode) misbehave(f fault) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.fault = f
}

func (n *fakeNode) called(method string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.calls[method]
}

func (n *fakeNode) handle(w http.ResponseWriter, r *http.Request) {
	var req struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
	}
	time.Sleep(n.away)
	body, err := io.ReadAll(r.Body) // to its end: only then does the server notice that the client left
	if err == nil && n.batch(w, body) {
		return
	}
	if err == nil {
		err = json.Unmarshal(body, &req)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	n.mu.Lock()
	n.calls[req.Method]++
	f := n.fault
	n.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if f != nil && f(w, req.Method) {
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": req.ID, "result": n.d.answer(req.Method, req.Params)})
}

// batch answers a batch, which a node with a fault does not take.
func (n *fakeNode) batch(w http.ResponseWriter, body []byte) bool {
	var reqs []struct {
		ID     json.RawMessage
		Method string
		Params []json.RawMessage
	}
	if json.Unmarshal(body, &reqs) != nil {
		return false
	}
	n.mu.Lock()
	faulty := n.fault != nil
	n.calls["batch"]++
	n.under++
	n.most = max(n.most, n.under)
	crowd := n.crowd
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.under--
	}()
	if crowd != nil {
		<-crowd
	}
	if faulty {
		http.Error(w, "no batches", http.StatusBadRequest)
		return true
	}
	answers := []any{}
	for _, req := range reqs {
		n.mu.Lock()
		n.calls[req.Method]++
		n.mu.Unlock()
		answers = append(answers, map[string]any{"jsonrpc": "2.0", "id": req.ID, "result": n.d.answer(req.Method, req.Params)})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answers)
	return true
}

// on limits a fault to one method.
func on(method string, f fault) fault {
	return func(w http.ResponseWriter, m string) bool { return m == method && f(w, m) }
}

// says answers with a fixed body.
func says(status int, body string) fault {
	return func(w http.ResponseWriter, _ string) bool {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
		return true
	}
}

// rpcError answers with a JSON-RPC error.
func rpcError(code, message string) fault {
	return says(http.StatusOK, `{"jsonrpc":"2.0","id":1,"error":{"code":`+code+`,"message":"`+message+`"}}`)
}
