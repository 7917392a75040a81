package client

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
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

func TestWebSocketAnswerTooLarge(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "").transact("a10", 100)
	n := testNode(t, serveWebsocket(t, d), 9000) // its hashes alone fit
	if _, err := blockByHash(t.Context(), n, 7, d.hash("a10")); err == nil {
		t.Error("an answer above the limit was taken")
	}
}
