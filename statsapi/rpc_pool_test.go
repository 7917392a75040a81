package statsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// shadow is a world that is given what a simulated chain has, as an observer would that was told to send all of it.
type shadow struct {
	*world
	net  *devnet.Net
	node *rpc.Client
	next uint64
}

func newShadow(t testing.TB, endpoints int) *shadow {
	t.Helper()
	return shadowOf(t, newWorld(t), devnet.Options{Endpoints: endpoints, Seed: 5})
}

func shadowOf(t testing.TB, w *world, o devnet.Options) *shadow {
	t.Helper()
	net, err := devnet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	node, err := rpc.DialContext(t.Context(), net.Truth().URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	return &shadow{world: w, net: net, node: node}
}

func (s *shadow) ask(method string, args ...any) (raw json.RawMessage) {
	s.t.Helper()
	if err := s.node.CallContext(s.t.Context(), &raw, method, args...); err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// mine makes blocks and, unless the store is to lag, stores all that it has not.
func (s *shadow) mine(blocks int, lag bool) {
	s.t.Helper()
	if err := s.net.Mine(s.t.Context(), blocks); err != nil {
		s.t.Fatal(err)
	}
	if lag {
		return
	}
	var offers []*schema.Offer
	for ; s.next <= s.net.Head().Number; s.next++ {
		at := hexutil.Uint64(s.next)
		raw := schema.RawBlock{Block: s.ask("eth_getBlockByNumber", at, true), Receipts: s.ask("eth_getBlockReceipts", at)}
		b, err := chain.DecodeBlock(s.net.ChainID(), raw.Block)
		if err != nil {
			s.t.Fatal(err)
		}
		packed, err := chain.PackRaw(raw)
		if err != nil {
			s.t.Fatal(err)
		}
		offers = append(offers, &schema.Offer{
			Chain: b.Chain, Key: b.Hash.Key(), Header: &b.Header, HeaderRLP: b.HeaderRLP, ContentType: "text/plain",
			Payload: []byte("x"), Raw: packed, Observer: "alice", Node: "geth", Origin: schema.OriginHead,
			ObservedAt: s.now, Transactions: b.Transactions,
		})
	}
	s.offer(offers...)
	s.report("alice", s.net.ChainID(), s.net.Head(), schema.Point{Hash: s.net.Canonical()[0]})
}

// One of three nodes of a pool is the API: it becomes ready, is out when it lags, and comes back.
func TestAPoolTakesTheAPIForANode(t *testing.T) {
	t.Parallel()
	w := newShadow(t, 2)
	w.mine(20, false)
	s := serve(t, Options{Store: w.store})
	pool, err := nodepool.New(nodepool.Options{
		Nodes: []string{"one=" + w.net.URLs()[0], "two=" + w.net.URLs()[1], "api=" + s.url + "/rpc"}, Poll: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, pool.Run)
	is := func(want schema.NodeState) {
		t.Helper()
		testenv.Eventually(t, func() error {
			for _, v := range pool.Views() {
				if v.Name == "api" && (v.State != want || want == schema.NodeReady && *v.Height != w.next-1) {
					return fmt.Errorf("the API is %s: %s", v.State, v.Reason)
				}
			}
			return nil
		})
	}
	is(schema.NodeReady)
	w.mine(3, false)
	is(schema.NodeReady)
	w.mine(11, true)
	is(schema.NodeLagging)
	w.mine(1, false)
	is(schema.NodeReady)
}

// go-ethereum's client reads the same from the API, over HTTP and WebSocket, as from the node.
func TestEthereumClientsTakeTheAPIForANode(t *testing.T) {
	t.Parallel()
	w := newShadow(t, 1)
	w.mine(9, false)
	s := serveLive(t, w.world, feed.Options{}, Options{})
	node := ethclient.NewClient(w.node)
	for _, url := range []string{s.url + "/rpc", "ws" + s.url[len("http"):] + "/v1/rpc"} {
		api, err := ethclient.DialContext(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		sees := func(c *ethclient.Client) map[string]any { return seen(t.Context(), t, c) }
		if diff := cmp.Diff(sees(node), sees(api)); diff != "" {
			t.Errorf("%s (-node +API):\n%s", url, diff)
		}
	}
}

// seen is what a client finds on the chain.
func seen(ctx context.Context, t *testing.T, c *ethclient.Client) map[string]any {
	t.Helper()
	out := map[string]any{}
	note := func(what string, value any, err error) {
		text, _ := json.Marshal(value)
		out[what] = fmt.Sprint(string(text), " ", err)
	}
	id, err := c.ChainID(ctx)
	note("chain", id, err)
	id, err = c.NetworkID(ctx)
	note("network", id, err)
	number, err := c.BlockNumber(ctx)
	note("number", number, err)
	progress, err := c.SyncProgress(ctx)
	note("syncing", progress, err)
	for n := range int64(10) {
		b, err := c.BlockByNumber(ctx, big.NewInt(n))
		if err != nil {
			t.Fatal(err)
		}
		note(fmt.Sprint("block ", n), []any{b.Hash(), b.Header(), b.Transactions()}, nil)
		receipts, err := c.BlockReceipts(ctx, rpc.BlockNumberOrHashWithHash(b.Hash(), true))
		note(fmt.Sprint("receipts ", n), receipts, err)
		count, err := c.TransactionCount(ctx, b.Hash())
		note(fmt.Sprint("count ", n), count, err)
		for i, tx := range b.Transactions() {
			receipt, err := c.TransactionReceipt(ctx, tx.Hash())
			note(fmt.Sprint("receipt ", n, i), receipt, err)
			again, pending, err := c.TransactionByHash(ctx, tx.Hash())
			note(fmt.Sprint("transaction ", n, i), []any{again, pending}, err)
		}
	}
	header, err := c.HeaderByNumber(ctx, big.NewInt(rpc.FinalizedBlockNumber.Int64()))
	note("finalized", header, err)
	_, err = c.BlockByHash(ctx, common.Hash{1})
	note("unknown block", nil, err)
	_, err = c.TransactionReceipt(ctx, common.Hash{1})
	note("unknown transaction", nil, err)
	logs, err := c.FilterLogs(ctx, ethereum.FilterQuery{FromBlock: big.NewInt(1), Topics: [][]common.Hash{{common.BigToHash(big.NewInt(1))}}})
	note("logs", logs, err)
	if len(logs) == 0 {
		t.Error("no logs")
	}
	return out
}
