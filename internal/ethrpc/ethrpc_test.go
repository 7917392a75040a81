package ethrpc

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
)

// want fails unless the answer is the result, or the error's code and a part of its text.
func (l *local) want(method, params, result string) {
	l.t.Helper()
	if got := l.ask(method, params); string(got.Result) != result || got.Error != nil {
		l.t.Errorf("%s %s: %.300s %+v, want %s", method, params, got.Result, got.Error, result)
	}
}

func (l *local) refused(method, params string, code int, text string) {
	l.t.Helper()
	got := l.ask(method, params)
	if got.Error == nil || got.Error.Code != code || !strings.Contains(got.Error.Message, text) {
		l.t.Errorf("%s %s: %.300s %+v, want %d %q", method, params, got.Result, got.Error, code, text)
	}
}

func TestASimulatedNodeIsAnsweredFor(t *testing.T) {
	t.Parallel()
	f, n := growth(t, 20)
	l := serve(t, Options{Store: f.store})
	for number := range 21 {
		at := fmt.Sprintf(`"0x%x"`, number)
		full := n.result("eth_getBlockByNumber", "["+at+",true]")
		if got := l.ask("eth_getBlockByNumber", "["+at+",true]"); !bytes.Equal(got.Result, full) {
			t.Fatalf("block %d is not what the node sent byte for byte", number)
		}
		receipts := n.result("eth_getBlockReceipts", "["+at+"]")
		if got := l.ask("eth_getBlockReceipts", "["+at+"]"); !bytes.Equal(got.Result, receipts) {
			t.Errorf("receipts of block %d are not what the node sent byte for byte", number)
		}
	}
	l.want("eth_chainId", `[]`, `"0x539"`)
	l.want("net_version", ``+`[]`, `"1337"`)
	l.want("eth_blockNumber", `[]`, `"0x14"`)
	l.want("eth_syncing", `[]`, `false`)
	l.want("web3_clientVersion", `[]`, `"firstseen/dev"`)
}

func TestOnlyTheTransactionsDifferInTheShortForm(t *testing.T) {
	t.Parallel()
	text := ` {"extra" : 1.0, "transactions": [ {"hash":"0xaa","x":[{"hash":1}]}, {"x":{"hash":2},"hash":"0xbb"} ],"uncles":["0x1"],"size" : "0x00"} `
	packed, err := chain.PackRaw(schema.RawBlock{Block: json.RawMessage(text)})
	if err != nil {
		t.Fatal(err)
	}
	b, err := open(packed)
	if err != nil {
		t.Fatal(err)
	}
	short, err := b.brief()
	want := `{"extra" : 1.0, "transactions": ["0xaa","0xbb"],"uncles":["0x1"],"size" : "0x00"}`
	if p, _ := b.parts(); strings.TrimSpace(string(short)) != want || err != nil || p.uncles != 1 || len(p.txs) != 2 {
		t.Errorf("%s %v %+v", short, err, p)
	}
	if _, err := b.logs(); err != errNoReceipts {
		t.Error(err)
	}
}

func TestBlocksWithoutTheirJSONSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	net, err := devnet.New(devnet.Options{Endpoints: 1, Seed: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	if err := net.Mine(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	n, f := &node{t, net.Truth().URL()}, newFixture(t)
	bare := f.take(n, 2, true)
	raw, err := chain.UnpackRaw(bare.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if bare.Raw, err = chain.PackRaw(schema.RawBlock{Block: raw.Block}); err != nil {
		t.Fatal(err)
	}
	f.offer(f.take(n, 0, true), f.take(n, 1, false), bare, f.take(n, 3, true))
	l := serve(t, Options{Store: f.store})
	const code = -32002
	hash := bare.Header.Parent.String()
	tx := func(number uint64) string {
		return `["` + f.take(n, number, false).Transactions[0].Hash.String() + `"]`
	}
	for _, q := range []question{
		{"eth_getBlockByNumber", `["0x1",false]`}, {"eth_getBlockByHash", `["` + hash + `",true]`}, {"eth_getBlockReceipts", `["0x1"]`},
		{"eth_getTransactionByHash", tx(1)}, {"eth_getTransactionReceipt", tx(1)}, {"eth_getLogs", `[{"blockHash":"` + hash + `"}]`},
		{"eth_getLogs", `[{"fromBlock":"0x0","toBlock":"latest"}]`}, {"eth_getBlockTransactionCountByNumber", `["0x1"]`},
	} {
		l.refused(q.method, q.params, code, "--raw")
	}
	for _, q := range []question{
		{"eth_getBlockReceipts", `["0x2"]`}, {"eth_getTransactionReceipt", tx(2)}, {"eth_getLogs", `[{"fromBlock":"0x2"}]`},
	} {
		l.refused(q.method, q.params, code, "receipts")
	}
	l.want("eth_getLogs", `[{"fromBlock":"0x0","toBlock":"0x0"}]`, `[]`) // its bloom says that there are none
	for _, q := range []question{{"eth_getBlockByNumber", `["0x2",true]`}, {"eth_getBlockByNumber", `["latest",false]`}, {"eth_getTransactionByHash", tx(2)}} {
		if got := l.ask(q.method, q.params); got.Error != nil || string(got.Result) == "null" {
			t.Errorf("%s %s: %s %+v", q.method, q.params, got.Result, got.Error)
		}
	}
	l.want("eth_getBlockByNumber", `["0x4",true]`, `null`)
	helped := serve(t, Options{Store: f.store, Upstream: n.url}) // which has it
	helped.want("eth_getBlockReceipts", `["0x2"]`, string(n.result("eth_getBlockReceipts", `["0x2"]`)))
	helped.want("eth_getBlockByNumber", `["0x1",false]`, string(n.result("eth_getBlockByNumber", `["0x1",false]`)))
	l.refused("eth_getBlockByNumber", `["safe",true]`, -32000, "safe block not found")
}

func TestWhatNeedsTheStateOrWritesIsRefusedWithAReason(t *testing.T) {
	t.Parallel()
	l := serve(t, Options{Store: newFixture(t).store})
	for name := range stateful {
		l.refused(name, `[]`, -32601, "needs the state")
	}
	for name := range writing {
		l.refused(name, `["0x"]`, -32601, "only reads")
	}
	for _, name := range []string{"eth_newFilter", "admin_peers", "debug_traceTransaction", "engine_newPayloadV4", "ETH_CALL", strings.Repeat("a", 100_000)} {
		l.refused(name, `[]`, -32601, "does not exist")
	}
	l.refused("eth_blockNumber", `[]`, -32000, "no block is stored")
	l.want("web3_clientVersion", `[]`, `"firstseen/dev"`)
	l.want("eth_syncing", `[]`, `false`)
}

func TestChainsAreNamedWhereThereAreSeveral(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		chains []uint64
		named  *uint64
		want   string
	}{
		{[]uint64{5}, nil, ""}, {[]uint64{5, 7}, new(uint64(7)), ""}, {[]uint64{5, 7}, nil, "name one of [5 7]"},
		{[]uint64{5}, new(uint64(7)), "nothing of chain 7"}, {nil, nil, "no block"},
	} {
		var states []schema.ChainState
		for _, id := range test.chains {
			states = append(states, schema.ChainState{Chain: id})
		}
		state, problem := pick(states, test.named)
		if (problem == nil) != (test.want == "") || problem != nil && !strings.Contains(problem.Message, test.want) ||
			test.named != nil && state != nil && state.Chain != *test.named {
			t.Errorf("%v %v: %+v %v", test.chains, test.named, state, problem)
		}
	}
}

func TestSyncingTellsTheReplicasLagWhileItCatchesUp(t *testing.T) {
	t.Parallel()
	f, _ := growth(t, 2)
	var state schema.ReplicaState
	l := serve(t, Options{Store: f.store, Replica: func() schema.ReplicaState { return state }})
	chains := []schema.ReplicaChain{{Chain: 1337, Number: 2, Writer: new(uint64(9))}}
	for _, test := range []struct {
		state schema.ReplicaState
		want  string
	}{
		{schema.ReplicaState{Phase: schema.ReplicaStarting}, `false`},
		{schema.ReplicaState{Phase: schema.ReplicaFollowing, Chains: chains}, `false`},
		{schema.ReplicaState{Phase: schema.ReplicaCatching, Chains: []schema.ReplicaChain{{Chain: 5, Writer: new(uint64(9))}}}, `false`},
		{schema.ReplicaState{Phase: schema.ReplicaCatching, Chains: chains},
			`{"startingBlock":"0x0","currentBlock":"0x2","highestBlock":"0x9"}`},
		{schema.ReplicaState{Phase: schema.ReplicaWaiting, Chains: chains},
			`{"startingBlock":"0x0","currentBlock":"0x2","highestBlock":"0x9"}`},
	} {
		state = test.state
		l.want("eth_syncing", `[]`, test.want)
	}
}

func TestLimitsAreToldAndHold(t *testing.T) {
	t.Parallel()
	f, _ := growth(t, 12)
	whole := `[{"fromBlock":"0x1","toBlock":"latest"}]`
	serve(t, Options{Store: f.store, MaxRange: 11}).refused("eth_getLogs", whole, -32005, "11 blocks")
	serve(t, Options{Store: f.store, MaxLogs: 11}).refused("eth_getLogs", whole, -32005, "11 results")
	serve(t, Options{Store: f.store, MaxAnswer: 1000}).refused("eth_getLogs", whole, -32005, "1000 bytes")
	serve(t, Options{Store: f.store, MaxAnswer: 1000}).refused("eth_getBlockByNumber", `["0x1",true]`, -32003, "1000 bytes")
	exact := serve(t, Options{Store: f.store, MaxLogs: 12, MaxRange: 12}).ask("eth_getLogs", whole)
	var logs []json.RawMessage
	if json.Unmarshal(exact.Result, &logs) != nil || len(logs) != 12 {
		t.Errorf("%d logs, %+v", len(logs), exact.Error)
	}
	one := `{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x1",true]}`
	l := serve(t, Options{Store: f.store, MaxAnswer: 50_000})
	got := l.say("[" + strings.Repeat(one+",", 99) + one + "]")
	if refused := bytes.Count(got, []byte(`"code":-32003`)); len(got) > 70_000 || refused < 50 || refused > 99 {
		t.Errorf("%d bytes, %d calls refused", len(got), refused)
	}
	if got := l.say("[" + strings.Repeat(one+",", 100) + one + "]"); !bytes.Contains(got, []byte("a batch may hold 100")) {
		t.Errorf("%s", got)
	}
	if got := l.say(`[{"jsonrpc":"2.0","method":"eth_chainId"}]`); got != nil {
		t.Errorf("a notification is answered %s", got)
	}
	if _, err := New(Options{Store: f.store, MaxLogs: -1}); err == nil {
		t.Error("negative limits are taken")
	}
}

func TestOpenedBlocksStayWithinTheirBytes(t *testing.T) {
	t.Parallel()
	f, _ := growth(t, 12)
	l := serve(t, Options{Store: f.store, CacheBytes: 100_000})
	for range 3 {
		for number := range 13 {
			l.ask("eth_getBlockByNumber", fmt.Sprintf(`["0x%x",true]`, number))
		}
	}
	b := l.s.blocks
	var sum int64
	for _, id := range b.lru.Keys() {
		k, _ := b.lru.Peek(id)
		sum += k.weight
	}
	if sum != b.held || b.held > 100_000 || b.lru.Len() < 2 || b.lru.Len() > 12 {
		t.Errorf("%d blocks of %d bytes are kept, %d counted", b.lru.Len(), sum, b.held)
	}
}

// counted counts how often the store is asked for raw blocks.
type counted struct {
	Store
	raws, chains atomic.Int64
}

func (c *counted) Raws(ctx context.Context, chain uint64, keys []schema.Key) (map[schema.Key][]byte, error) {
	c.raws.Add(1)
	return c.Store.Raws(ctx, chain, keys)
}

func (c *counted) Chains(ctx context.Context) ([]schema.ChainState, error) {
	c.chains.Add(1)
	return c.Store.Chains(ctx)
}

func TestManyWhoAskForOneHeadOpenItOnce(t *testing.T) {
	t.Parallel()
	f, _ := growth(t, 3)
	store := &counted{Store: f.store}
	l := serve(t, Options{Store: store})
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := l.ask("eth_getBlockByNumber", `["latest",true]`); got.Error != nil {
				t.Error(got.Error)
			}
		})
	}
	wg.Wait()
	if n := store.raws.Load(); n != 1 {
		t.Errorf("the head was read %d times", n)
	}
}

func TestUpstreamIsAskedOnlyWhatCannotBeAnsweredHere(t *testing.T) {
	t.Parallel()
	f, _ := growth(t, 3)
	var asked atomic.Pointer[string]
	reply := func(w http.ResponseWriter, _ string) {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"0x2a"}`)
	}
	id := `"0x539"`
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if bytes.Contains(body, []byte("eth_chainId")) {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":`+id+`}`)
			return
		}
		text := string(body) + " " + r.Header.Get("X-Min-Height")
		asked.Store(&text)
		reply(w, text)
	}))
	t.Cleanup(up.Close)
	hook := logtest.NewLocal(logrus.New())
	logger := logrus.New()
	logger.SetOutput(io.Discard)
	logger.AddHook(hook)
	l := serve(t, Options{Store: f.store, Upstream: up.URL + "/canary-key", MaxAnswer: 10_000, Log: logger})
	l.want("eth_call", `[{"to":"0x1"},"latest"]`, `"0x2a"`)
	if diff := cmp.Diff(`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{"to":"0x1"},"latest"]} 3`, *asked.Load()); diff != "" {
		t.Error(diff)
	}
	asked.Store(nil)
	for _, name := range []string{"eth_sendRawTransaction", "admin_peers", "eth_newFilter", "debug_traceCall"} {
		l.refused(name, `[]`, -32601, "")
	}
	l.want("eth_blockNumber", `[]`, `"0x3"`)
	l.refused("eth_getBlockByNumber", `[]`, -32602, "")
	if text := asked.Load(); text != nil {
		t.Errorf("the upstream was asked %s", *text)
	}
	for name, bad := range map[string]func(http.ResponseWriter, string){
		"an error status": func(w http.ResponseWriter, _ string) { w.WriteHeader(500) },
		"HTML":            func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, "<html>") },
		"a cut answer": func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"0x`)
		},
		"another's": func(w http.ResponseWriter, _ string) { _, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":2,"result":1}`) },
		"too much": func(w http.ResponseWriter, _ string) {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"`+strings.Repeat("x", 20_000)+`"}`)
		},
		"a redirect": func(w http.ResponseWriter, _ string) { w.Header().Set("Location", "/x"); w.WriteHeader(307) },
	} {
		reply = bad
		if got := l.ask("eth_call", `[]`); got.Error == nil || got.Error.Code != -32002 {
			t.Errorf("%s: %s %+v", name, got.Result, got.Error)
		}
	}
	reply = func(w http.ResponseWriter, _ string) {
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":{"code":3,"message":"execution reverted","data":"0x08"}}`)
	}
	if got := l.say(`{"jsonrpc":"2.0","id":"a","method":"eth_call","params":[]}`); string(got) !=
		`{"jsonrpc":"2.0","id":"a","error":{"code":3,"message":"execution reverted","data":"0x08"}}` {
		t.Errorf("%s", got)
	}
	for _, entry := range hook.AllEntries() {
		if text, _ := entry.String(); strings.Contains(text, "canary-key") {
			t.Errorf("the log tells the upstream's URL: %s", text)
		}
	}
	id = `"0x1"`
	serve(t, Options{Store: f.store, Upstream: up.URL}).refused("eth_call", `[]`, -32002, "on chain 1, not 1337")
	for _, bad := range []string{"localhost:8545", "ftp://x", "http://", "://"} {
		if _, err := New(Options{Store: f.store, Upstream: bad}); err == nil {
			t.Errorf("upstream %q is taken", bad)
		}
	}
}

func TestFinalizedHeightsAreRememberedUntilTheStoreIsTakenBack(t *testing.T) {
	t.Parallel()
	f := newFinals()
	final := func(n uint64) { f.saw(&schema.ChainState{Chain: 5, Finalized: &n}) }
	f.saw(&schema.ChainState{Chain: 5})
	f.add(height{5, 0}, "zero")
	final(10)
	f.add(height{5, 10}, "ten")
	f.add(height{5, 11}, "eleven")
	f.add(height{7, 1}, "another chain's")
	final(12)
	for at, want := range map[height]schema.Key{{5, 0}: "", {5, 10}: "ten", {5, 11}: "", {7, 1}: ""} {
		if got := f.find(at); got != want {
			t.Errorf("%v: %q, want %q", at, got, want)
		}
	}
	final(9)
	if got := f.find(height{5, 10}); got != "" {
		t.Errorf("after the store was taken back: %q", got)
	}
}

func TestLargeAnswersWaitForAPlaceAndGiveItBack(t *testing.T) {
	t.Parallel()
	f, _ := growthOf(t, 3, devnet.Options{Endpoints: 1, Transfers: 40})
	l := serve(t, Options{Store: f.store, MaxLarge: 1})
	one := `{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["0x1",true]}`
	large := "[" + strings.Repeat(one+",", 99) + one + "]"
	if n := len(l.say(large)); n < freeAnswer {
		t.Fatalf("%d bytes are no large answer", n)
	}
	holder := l.s.View(t.Context(), nil)
	if ok, err := holder.budget.spend(t.Context(), freeAnswer+1); !ok || err != nil {
		t.Fatal(ok, err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	req, _ := l.s.Parse([]byte(large))
	v := l.s.View(short, nil)
	if got := Reply(short, req, v.Answer); !bytes.Contains(got, []byte("not answered in time")) {
		t.Errorf("%.300s", got)
	}
	v.Close()
	l.want("eth_blockNumber", `[]`, `"0x3"`)
	holder.Close()
	if got := l.say(large); bytes.Contains(got, []byte(`"error"`)) || len(l.s.large) != 0 {
		t.Errorf("%.300s, %d places are taken", got, len(l.s.large))
	}
}
