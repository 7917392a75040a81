package client

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
)

// What geth answers holds, field by field: nothing that it adds or writes in a form of its own is taken for wrong.
func TestWhatGethAnswersIsARawPart(t *testing.T) {
	t.Parallel()
	net, err := devnet.New(devnet.Options{Endpoints: 1, Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	if err := net.Mine(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	node, err := rpc.DialContext(t.Context(), net.Truth().URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(node.Close)
	ask := func(method string, args ...any) (raw json.RawMessage) {
		if err := node.CallContext(t.Context(), &raw, method, args...); err != nil {
			t.Fatal(err)
		}
		return raw
	}
	kinds := map[string]int{}
	for n := range net.Head().Number + 1 {
		raw := schema.RawBlock{Block: ask("eth_getBlockByNumber", hexutil.Uint64(n), true), Receipts: ask("eth_getBlockReceipts", hexutil.Uint64(n))}
		head, err := chain.DecodeHead(raw.Block)
		if err == nil {
			err = chain.Verify.VerifyRaw(head.Hash, raw)
		}
		if err != nil {
			t.Errorf("block %d: %v", n, err)
		}
		var receipts []struct {
			Type string
			Logs []json.RawMessage
			To   *string
		}
		if err := json.Unmarshal(raw.Receipts, &receipts); err != nil {
			t.Fatal(err)
		}
		for _, r := range receipts {
			kinds[fmt.Sprintf("type %s, logs: %t, creation: %t", r.Type, len(r.Logs) > 0, r.To == nil)]++
		}
	}
	t.Log(kinds)
	if len(kinds) < 2 {
		t.Errorf("kinds of transactions: %v", kinds)
	}
}
