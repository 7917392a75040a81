package nodepool

import (
	"context"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
)

// stub is a node of chain 7 with a few blocks, or whatever else the test wants it to answer.
type stub struct {
	*httptest.Server

	mu    sync.Mutex // guards the rest
	id    uint64
	head  uint64
	whole http.HandlerFunc // in place of everything
	on    map[string]http.HandlerFunc
	calls map[string]int
}

func serveStub(t testing.TB, head uint64) *stub {
	t.Helper()
	s := &stub{id: 7, head: head, on: map[string]http.HandlerFunc{}, calls: map[string]int{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// stubHeader is a real one: its hash can be recomputed.
func stubHeader(number uint64) *types.Header {
	h := &types.Header{UncleHash: types.EmptyUncleHash, TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash,
		Difficulty: new(big.Int), Number: new(big.Int).SetUint64(number), Time: 1_600_000_000 + number, GasLimit: 30_000_000,
		BaseFee: big.NewInt(7)}
	return h
}

func (s *stub) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *stub) called(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var req struct {
		ID     json.RawMessage
		Method string
	}
	body, err := io.ReadAll(r.Body)
	if err != nil || json.Unmarshal(body, &req) != nil {
		http.Error(w, "not JSON", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.calls[req.Method]++
	whole, id, head := s.whole, s.id, s.head
	if whole == nil {
		whole = s.on[req.Method]
	}
	s.mu.Unlock()
	if whole != nil {
		whole(w, r)
		return
	}
	var result any
	switch req.Method {
	case "eth_chainId":
		result = hexutil.Uint64(id)
	case "eth_getBlockByNumber":
		result = stubHeader(head)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": req.ID, "result": result})
}

// run runs a pool until the test ends.
func run(t testing.TB, o Options) *Pool {
	t.Helper()
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return p
}

// wait waits for a condition.
func wait(t testing.TB, within time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(within)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", within, what)
		case <-tick.C:
		}
	}
}
