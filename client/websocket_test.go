package client

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/rpc"
)

// ethService answers for a drawing over go-ethereum's own server.
type ethService struct{ d *drawing }

func (s ethService) ChainId() any { return s.d.answer("eth_chainId", nil) }
func (s ethService) GetBlockByNumber(which string, full bool) any {
	return s.d.answer("eth_getBlockByNumber", args(which, full))
}
func (s ethService) GetBlockByHash(hash string, full bool) any {
	return s.d.answer("eth_getBlockByHash", args(hash, full))
}
func (s ethService) GetBlockReceipts(hash string) any {
	return s.d.answer("eth_getBlockReceipts", args(hash))
}

func args(list ...any) []json.RawMessage {
	var out []json.RawMessage
	for _, a := range list {
		raw, _ := json.Marshal(a)
		out = append(out, raw)
	}
	return out
}

// serveWebsocket returns the address of a drawing's node.
func serveWebsocket(t *testing.T, d *drawing) string {
	t.Helper()
	service := rpc.NewServer()
	if err := service.RegisterName("eth", ethService{d}); err != nil {
		t.Fatal(err)
	}
	h := httptest.NewServer(service.WebsocketHandler([]string{"*"}))
	t.Cleanup(func() { service.Stop(); h.Close() })
	return "ws" + strings.TrimPrefix(h.URL, "http")
}

func TestFollowsOverWebSocket(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "").transact("a10", 2)
	s := serveRelay(t, d)
	url := serveWebsocket(t, d)
	c := start(t, []string{url}, []string{s.addr()}, nil)
	c.at(d, "a10")
	d.line("a", 11, 40, "a10")
	s.wants(names("a", 10, 40)...)
	if tx := s.metas["a10"].Transactions; len(tx) != 2 || tx[0].GasUsed == nil {
		t.Errorf("transactions %+v", tx)
	}
}

func TestWebSocketIsNotReopenedUnseen(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	var service atomic.Pointer[rpc.Server]
	renew := func() { // a new service for new connections; those of the old one end
		next := rpc.NewServer()
		t.Cleanup(next.Stop)
		if err := next.RegisterName("eth", ethService{d}); err != nil {
			t.Fatal(err)
		}
		if old := service.Swap(next); old != nil {
			old.Stop()
		}
	}
	renew()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service.Load().WebsocketHandler([]string{"*"}).ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	l := testNodes(t, nil, "ws"+strings.TrimPrefix(h.URL, "http"))
	a, _, err := l.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d.mu.Lock()
	d.id = 8
	d.mu.Unlock()
	renew()
	if _, err := latest(t.Context(), a); err == nil {
		t.Fatal("answered on a connection whose chain id was not read")
	} else {
		l.Fault(a, err)
	}
	if _, _, err := l.Pick(t.Context()); !errors.Is(err, errWrongChain) {
		t.Errorf("%v, want errWrongChain", err)
	}
}

func TestWebSocketAnswerTooLarge(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "").transact("a10", 100)
	url := serveWebsocket(t, d)
	l := testNodes(t, func(o *Options) { o.MaxAnswer = 4000 }, url)
	a, _, err := l.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blockByHash(t.Context(), a, 7, d.hash("a10")); err == nil {
		t.Error("an answer above the limit was taken")
	}
	l.Fault(a, errors.New("too large"))
	if a, _, err = l.Pick(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h, err := latest(t.Context(), a); err == nil && h.Hash != d.hash("a10") {
		t.Error(h)
	}
}
