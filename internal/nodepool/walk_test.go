package nodepool

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

// A node so far away that a probe has time for a few parents only is not walked from the start by each.
func TestWalkGoesOnWhereTheLastEnded(t *testing.T) {
	t.Parallel()
	const length, atOnce = 100, 30
	headers := map[common.Hash]*types.Header{}
	head := stubHeader(0)
	first := head.Hash()
	for n := uint64(1); n <= length; n++ {
		next := stubHeader(n)
		next.ParentHash = head.Hash()
		headers[next.Hash()] = next
		head = next
	}
	var asked atomic.Int64
	over := make(chan struct{}, 1) // the probe's time is up
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req struct {
			ID     json.RawMessage
			Method string
			Params []any
		}
		_ = json.NewDecoder(r.Body).Decode(&req)
		var answer any = "0x7"
		if req.Method == "eth_getBlockByHash" {
			if asked.Add(1)%atOnce == 0 {
				over <- struct{}{}
				<-r.Context().Done()
				return
			}
			answer = headers[common.HexToHash(fmt.Sprint(req.Params[0]))]
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": req.ID, "result": answer})
	}))
	t.Cleanup(server.Close)
	b := seat(t, 1, func(o *Options) { o.Nodes = []string{"alpha=" + server.URL} })
	n := b.nodes[0]
	t.Cleanup(n.hangUp)
	if err := n.verify(t.Context(), b.now, func(uint64) error { return nil }); err != nil {
		t.Fatal(err)
	}
	b.tip = &schema.Point{Hash: schema.Hash(first)}
	b.known.add(schema.Hash(first))
	raw, err := json.Marshal(head)
	if err != nil {
		t.Fatal(err)
	}
	h, err := chain.DecodeHead(raw)
	if err != nil {
		t.Fatal(err)
	}
	probe := func() (bool, error) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan struct{})
		defer close(done)
		go func() {
			select {
			case <-over:
				cancel()
			case <-done:
			}
		}()
		return b.link(ctx, n, h)
	}
	for probes := 1; ; probes++ {
		linked, err := probe()
		if linked {
			break
		}
		if err == nil || probes > 2*length/atOnce {
			t.Fatalf("probe %d: %v", probes, err)
		}
	}
	if got := asked.Load(); got > length+2*length/atOnce {
		t.Errorf("%d parents asked for, of %d", got, length)
	}
}
