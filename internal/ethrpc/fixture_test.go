package ethrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

func TestMain(m *testing.M) {
	// The devnet's go-ethereum never ends the first, and the second only after a while.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core.(*txSenderCacher).cache"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// node is a JSON-RPC endpoint to compare with.
type node struct {
	t   testing.TB
	url string
}

// reply is what either side says to a call.
type reply struct {
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func (n *node) ask(method, params string) reply {
	n.t.Helper()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params)
	resp, err := http.Post(n.url, "application/json", bytes.NewBufferString(body))
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	var out reply
	if err := json.Unmarshal(text, &out); err != nil {
		n.t.Fatalf("%s %s: %v", method, params, err)
	}
	return out
}

func (n *node) result(method, params string) json.RawMessage {
	n.t.Helper()
	out := n.ask(method, params)
	if out.Error != nil {
		n.t.Fatalf("%s %s: %+v", method, params, out.Error)
	}
	return out.Result
}

// fixture is a store that is fed with what a node says.
type fixture struct {
	t     testing.TB
	store *store.Store
	chain uint64
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: "sqlite://" + t.TempDir() + "/test.db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return &fixture{t: t, store: s, chain: 1337}
}

// offer stores blocks.
func (f *fixture) offer(offers ...*schema.Offer) {
	f.t.Helper()
	var wg sync.WaitGroup
	for _, o := range offers {
		wg.Add(1)
		err := f.store.Offer(f.t.Context(), o, func(s schema.Settlement) {
			defer wg.Done()
			if s.Outcome != schema.First && s.Outcome != schema.Duplicate {
				f.t.Errorf("%s: %s", s.Outcome, s.Reason)
			}
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	wg.Wait()
}

// take reads a block from a node as an observer would that was told to send all of it.
func (f *fixture) take(n *node, number uint64, raw bool) *schema.Offer {
	f.t.Helper()
	at := fmt.Sprintf(`"%s"`, jsonrpc.Quantity(number))
	text := n.result("eth_getBlockByNumber", "["+at+",true]")
	receipts := n.result("eth_getBlockReceipts", "["+at+"]")
	b, err := chain.DecodeBlock(f.chain, text)
	if err != nil {
		f.t.Fatal(err)
	}
	o := &schema.Offer{
		Chain: f.chain, Key: b.Hash.Key(), Header: &b.Header, HeaderRLP: b.HeaderRLP, ContentType: "text/plain",
		Payload: fmt.Appendf(nil, "block %d", number), Observer: "observer", Node: "geth", Origin: schema.OriginHead,
		Server: "server", Remote: "192.0.2.1", ObservedAt: time.Unix(1e9, 0), ReceivedAt: time.Unix(1e9, 0),
		Transactions: b.Transactions,
	}
	if raw {
		both := schema.RawBlock{Block: text, Receipts: receipts}
		if err := chain.Verify.VerifyRaw(b.Hash, both); err != nil {
			f.t.Fatal(err)
		}
		if o.Raw, err = chain.PackRaw(both); err != nil {
			f.t.Fatal(err)
		}
	}
	return o
}

// sync stores a node's chain from one height on and reports its head, safe and finalized block.
func (f *fixture) sync(n *node, from uint64) (head uint64) {
	f.t.Helper()
	point := func(tag string) *schema.Point {
		got := n.ask("eth_getBlockByNumber", `["`+tag+`",false]`)
		if got.Error != nil || string(got.Result) == "null" {
			return nil
		}
		h, err := chain.DecodeHead(got.Result)
		if err != nil {
			f.t.Fatal(err)
		}
		return &schema.Point{Number: h.Number, Hash: h.Hash}
	}
	latest := point("latest")
	var offers []*schema.Offer
	for number := from; number <= latest.Number; number++ {
		offers = append(offers, f.take(n, number, true))
	}
	f.offer(offers...)
	for range 2 {
		err := f.store.Report(f.t.Context(), "observer", schema.Report{Heads: []schema.Head{
			{Chain: f.chain, Node: "geth", Latest: *latest, Safe: point("safe"), Finalized: point("finalized")},
		}})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	states, err := f.store.Chains(f.t.Context())
	if err != nil || len(states) != 1 || states[0].Head != *latest {
		f.t.Fatalf("the store is at %+v, the node at %s: %v", states, latest, err)
	}
	return latest.Number
}

// local is a Service that is asked without HTTP.
type local struct {
	t testing.TB
	s *Service
}

func serve(t testing.TB, o Options) *local {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return &local{t, s}
}

// say answers a whole message.
func (l *local) say(text string) []byte {
	l.t.Helper()
	req, problem := l.s.Parse([]byte(text))
	if problem != nil {
		return jsonrpc.AppendAnswer(nil, nil, nil, jsonrpc.Failure(problem))
	}
	v := l.s.View(l.t.Context(), nil)
	defer v.Close()
	return Reply(l.t.Context(), req, v.Answer)
}

func (l *local) ask(method, params string) reply {
	l.t.Helper()
	text := l.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":%s}`, method, params))
	var out reply
	if err := json.Unmarshal(text, &out); err != nil {
		l.t.Fatalf("%s %s: %s: %v", method, params, text, err)
	}
	return out
}

// growth is a simulated chain of so many blocks and a store that has all of it.
func growth(t testing.TB, blocks int) (*fixture, *node) {
	t.Helper()
	return growthOf(t, blocks, devnet.Options{Endpoints: 1, Seed: 7})
}

func growthOf(t testing.TB, blocks int, o devnet.Options) (*fixture, *node) {
	t.Helper()
	net, err := devnet.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	if err := net.Mine(t.Context(), blocks); err != nil {
		t.Fatal(err)
	}
	n := &node{t, net.Truth().URL()}
	f := newFixture(t)
	f.sync(n, 0)
	return f, n
}
