package mock

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/rpc"
	"go.uber.org/goleak"

	headers "github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBlocksAreWhatObserversBelieve(t *testing.T) {
	t.Parallel()
	n, err := New(t.Context(), Options{History: 60, Period: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	client, err := rpc.DialContext(ctx, "http://"+n.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	call := func(method string, args ...any) (raw json.RawMessage) {
		t.Helper()
		if err := client.CallContext(ctx, &raw, method, args...); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		return raw
	}
	var parent schema.Hash
	var failed, created, empty, number int
	for b := call("eth_getBlockByNumber", "latest", true); ; b = call("eth_getBlockByHash", parent, true) {
		block, err := headers.DecodeBlock(chainID, b)
		if err != nil {
			t.Fatal(err)
		}
		var receipts []json.RawMessage
		if err := json.Unmarshal(call("eth_getBlockReceipts", block.Hash), &receipts); err != nil {
			t.Fatal(err)
		}
		if err := block.ApplyReceipts(receipts); err != nil {
			t.Fatal(err)
		}
		raw := schema.RawBlock{Block: b, Receipts: call("eth_getBlockReceipts", block.Hash)}
		if err := headers.Verify.VerifyRaw(block.Hash, raw); err != nil {
			t.Fatal(err)
		}
		for _, tx := range block.Transactions {
			if *tx.Status == 0 {
				failed++
			}
			if tx.Contract != nil {
				created++
			}
		}
		if len(block.Transactions) == 0 {
			empty++
		}
		if parent = block.Parent; block.Number == 0 {
			break
		}
		number++
	}
	if number != 60-60/rivalStep || failed == 0 || created == 0 || empty == 0 {
		t.Errorf("%d blocks above genesis, %d failed, %d creations, %d empty blocks", number, failed, created, empty)
	}
	for method, args := range map[string][]any{
		"eth_chainId": nil, "eth_blockNumber": nil, "net_peerCount": nil, "eth_syncing": nil,
		"eth_getBlockByNumber": {"finalized", false},
	} {
		if got := call(method, args...); string(got) == "null" {
			t.Errorf("%s: %s", method, got)
		}
	}
	if got := call("eth_getBlockByNumber", "0x1000", false); string(got) != "null" {
		t.Errorf("a block that is not there: %s", got)
	}
}

func TestTheChainForgetsWhatIsOldAndReplacesItsHead(t *testing.T) {
	t.Parallel()
	c, err := newChain(time.Unix(1e9, 0))
	if err != nil {
		t.Fatal(err)
	}
	replaced := 0
	const steps = keep + 8*rivalStep
	for i := range steps {
		before := c.head()
		if err := c.step(time.Unix(1e9+int64(i), 0)); err != nil {
			t.Fatal(err)
		}
		after := c.head()
		switch {
		case after.number == before.number && after.parent == before.parent && after.hash != before.hash:
			replaced++
			if c.find(before.hash) == nil || c.at(before.number) != after {
				t.Fatal("the block that was replaced is gone, or still canonical")
			}
		case after.number != before.number+1 || after.parent != before.hash:
			t.Fatalf("%d on %d", after.number, before.number)
		}
	}
	if len(c.byHash) > keep || len(c.branch) > keep || replaced != steps/rivalStep {
		t.Errorf("%d blocks kept, %d on the branch, %d replaced", len(c.byHash), len(c.branch), replaced)
	}
	if c.behind(safeLag).number != c.head().number-safeLag || c.behind(10*keep) != c.branch[0] || c.at(0) != nil {
		t.Error("heights are not where they belong")
	}
}
