package ethrpc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/internal/testenv"
)

// question is a call and its parameters.
type question struct{ method, params string }

// compare asks both sides the same. Results must have the same fields with the same values; errors the same code.
func compare(t *testing.T, want *node, got *local, questions []question) {
	t.Helper()
	plain := func(raw json.RawMessage) (v any) {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%s: %v", raw, err)
		}
		return v
	}
	wrong := 0
	for _, q := range questions {
		theirs, ours := want.ask(q.method, q.params), got.ask(q.method, q.params)
		switch {
		case theirs.Error != nil && ours.Error != nil && theirs.Error.Code == ours.Error.Code:
			continue
		case theirs.Error != nil || ours.Error != nil:
			t.Errorf("%s %s: geth says %.300s %+v, we say %.300s %+v", q.method, q.params, theirs.Result, theirs.Error, ours.Result, ours.Error)
		default:
			there := plain(theirs.Result)
			if tx, ok := there.(map[string]any); ok && q.method == "eth_getTransactionByHash" && tx["blockHash"] == nil {
				there = nil // what a reorg took off the branch is in geth's pool again
			}
			diff := cmp.Diff(there, plain(ours.Result))
			if diff == "" {
				continue
			}
			t.Errorf("%s %s (-geth +ours):\n%s", q.method, q.params, diff)
		}
		if wrong++; wrong == 10 {
			t.Fatal("and more")
		}
	}
}

// aboutBlocks asks everything there is to ask of a range of heights, by any name.
func aboutBlocks(t *testing.T, n *node, from, to uint64) (out []question) {
	t.Helper()
	add := func(method, format string, args ...any) {
		out = append(out, question{method, fmt.Sprintf(format, args...)})
	}
	for number := from; number <= to; number++ {
		var b struct {
			Hash         string
			Transactions []struct{ Hash string }
		}
		at := jsonrpc.Quantity(number)
		if err := json.Unmarshal(n.result("eth_getBlockByNumber", fmt.Sprintf(`[%q,true]`, at)), &b); err != nil {
			t.Fatal(err)
		}
		for _, by := range []struct{ suffix, value string }{{"Number", at}, {"Hash", b.Hash}} {
			add("eth_getBlockBy"+by.suffix, `[%q,true]`, by.value)
			add("eth_getBlockBy"+by.suffix, `[%q,false]`, by.value)
			add("eth_getBlockTransactionCountBy"+by.suffix, `[%q]`, by.value)
			add("eth_getUncleCountByBlock"+by.suffix, `[%q]`, by.value)
			add("eth_getBlockReceipts", `[%q]`, by.value)
			add("eth_getBlockReceipts", `[{"block%s":%q}]`, by.suffix, by.value)
			for i := range len(b.Transactions) + 1 {
				add("eth_getTransactionByBlock"+by.suffix+"AndIndex", `[%q,%q]`, by.value, jsonrpc.Quantity(uint64(i)))
			}
		}
		for _, tx := range b.Transactions {
			add("eth_getTransactionByHash", `[%q]`, tx.Hash)
			add("eth_getTransactionReceipt", `[%q]`, tx.Hash)
		}
		add("eth_getLogs", `[{"blockHash":%q}]`, b.Hash)
		add("eth_getLogs", `[{"fromBlock":%q,"toBlock":%q}]`, at, at)
	}
	return out
}

// aboutLogs asks for logs by what some of them have.
func aboutLogs(t *testing.T, n *node, head uint64) (out []question) {
	t.Helper()
	var logs []struct {
		Address string
		Topics  []string
	}
	everything := fmt.Sprintf(`"fromBlock":"0x0","toBlock":%q`, jsonrpc.Quantity(head))
	if err := json.Unmarshal(n.result("eth_getLogs", "[{"+everything+"}]"), &logs); err != nil || len(logs) == 0 {
		t.Fatal("no logs", err)
	}
	address, topic := logs[0].Address, logs[0].Topics[0]
	other, none := "0x00000000000000000000000000000000000000ff", "0x"+strings.Repeat("ab", 32)
	for _, filter := range []string{
		``, `,"address":"` + address + `"`, `,"address":["` + other + `","` + address + `"]`, `,"address":"` + other + `"`,
		`,"address":[]`, `,"address":null`, `,"topics":[]`, `,"topics":null`, `,"topics":["` + topic + `"]`, `,"topics":[null]`,
		`,"topics":[["` + none + `","` + topic + `"]]`, `,"topics":["` + none + `"]`, `,"topics":[null,null]`,
		`,"topics":["` + topic + `","` + none + `"]`, `,"topics":[["` + none + `",null]]`, `,"topics":[[]]`,
		`,"topics":["0x01"]`, `,"address":"0x01"`, `,"address":[null]`, `,"address":5`, `,"topics":"` + topic + `"`,
		`,"topics":[null,null,null,null,null]`, `,"topics":[5]`, `,"blockHash":"` + none + `"`,
	} {
		out = append(out, question{"eth_getLogs", "[{" + everything + filter + "}]"})
	}
	for _, ends := range []string{
		``, `"fromBlock":"earliest"`, `"toBlock":"latest"`, `"fromBlock":"latest"`, `"fromBlock":"safe"`, `"fromBlock":"0x1"`,
		`"fromBlock":"finalized","toBlock":"safe"`, `"fromBlock":"safe","toBlock":"finalized"`, `"fromBlock":"0x5","toBlock":"0x4"`,
		`"fromBlock":"pending"`, `"toBlock":"pending"`, `"toBlock":"0x3"`, `"blockHash":"` + none + `"`, `"blockHash":null`,
		`"fromBlock":"0xffffff","toBlock":"0xfffffff"`, `"fromBlock":"0x1","toBlock":"0xffffff"`, `"fromBlock":5`,
		`"fromBlock":"0x01"`, `"fromBlock":null,"toBlock":null`, `"unknown":1`,
	} {
		out = append(out, question{"eth_getLogs", "[{" + ends + "}]"})
	}
	return append(out, question{"eth_getLogs", `[]`}, question{"eth_getLogs", `[null]`}, question{"eth_getLogs", `["0x1"]`})
}

// aboutNothing asks for what is not there, and in ways that are not understood.
func aboutNothing() (out []question) {
	none := `"0x` + strings.Repeat("ab", 32) + `"`
	for _, at := range []string{
		`"latest"`, `"safe"`, `"finalized"`, `"earliest"`, `"0xffffff"`, `"0x7fffffffffffffff"`, `"0x8000000000000000"`,
		`"0x"`, `"0x01"`, `"1"`, `1`, `""`, `"Latest"`, `null`, `{}`, `true`, none, `"0x` + strings.Repeat("ab", 31) + `"`,
		`{"blockNumber":"0x1"}`, `{"blockHash":` + none + `}`, `{"blockHash":` + none + `,"blockNumber":"0x1"}`,
		`{"blockHash":` + none + `,"requireCanonical":true}`,
	} {
		for _, method := range []string{
			"eth_getBlockTransactionCountByNumber", "eth_getBlockTransactionCountByHash", "eth_getUncleCountByBlockNumber",
			"eth_getUncleCountByBlockHash", "eth_getBlockReceipts", "eth_getTransactionByHash", "eth_getTransactionReceipt",
		} {
			if strings.HasPrefix(at, `{`) != (method == "eth_getBlockReceipts") && strings.HasPrefix(at, `{`) {
				continue
			}
			out = append(out, question{method, "[" + at + "]"})
		}
		for _, method := range []string{"eth_getBlockByNumber", "eth_getBlockByHash"} {
			out = append(out, question{method, "[" + at + ",false]"}, question{method, "[" + at + "]"},
				question{method, "[" + at + `,"true"]`}, question{method, "[" + at + `,null]`}, question{method, "[" + at + `,true,1]`})
		}
		for _, method := range []string{"eth_getTransactionByBlockNumberAndIndex", "eth_getTransactionByBlockHashAndIndex"} {
			out = append(out, question{method, "[" + at + `,"0x0"]`}, question{method, "[" + at + `,"0xffffffff"]`},
				question{method, "[" + at + `]`}, question{method, "[" + at + `,0]`}, question{method, "[" + at + `,"0x00"]`})
		}
	}
	for _, method := range []string{"eth_chainId", "net_version", "eth_blockNumber", "eth_syncing"} {
		out = append(out, question{method, "[]"}, question{method, `[1]`})
	}
	for _, method := range []string{"eth_getBlockByNumber", "eth_getBlockByHash", "eth_getBlockReceipts", "eth_getTransactionByHash"} {
		out = append(out, question{method, "[]"})
	}
	return append(out, question{"eth_nonsense", "[]"})
}

// A real geth makes the chain, with transactions of every kind that the traffic has, contracts, failures and logs; a reorg
// leaves a branch behind. All that can be asked of it is answered the same from the store.
func TestAnswersAreGethsOwn(t *testing.T) {
	t.Parallel()
	g, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: testenv.Geth(t), Nodes: 1, Seed: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	n, f := &node{t, g.URLs()[0]}, newFixture(t)
	blocks := 20
	if os.Getenv("FIRSTSEEN_ACCEPT") == "1" {
		blocks = 100
	}
	if err := g.Mine(t.Context(), blocks); err != nil {
		t.Fatal(err)
	}
	f.sync(n, 0)
	left := aboutBlocks(t, n, uint64(blocks-2), uint64(blocks)) // of blocks that the reorg takes off the branch
	if err := g.Reorg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	head := f.sync(n, uint64(blocks-2))
	ours := serve(t, Options{Store: f.store})
	questions := slices.Concat(aboutBlocks(t, n, 0, head), left, aboutLogs(t, n, head), aboutNothing())
	compare(t, n, ours, questions)
	t.Logf("%d questions about %d blocks", len(questions), head)
}
