package devnet_test

import (
	"context"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
)

// start is a network of blocks mined at a fixed time, closed when the test ends.
func start(t *testing.T, blocks int, opts devnet.Options) *devnet.Net {
	t.Helper()
	if opts.Now == nil {
		opts.Now = func() time.Time { return time.Unix(1_700_000_000, 0) }
	}
	n, err := devnet.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	mine(t, n, blocks)
	return n
}

func mine(t *testing.T, n *devnet.Net, blocks int) {
	t.Helper()
	if err := n.Mine(t.Context(), blocks); err != nil {
		t.Fatal(err)
	}
}

func dial(t *testing.T, e *devnet.Endpoint) *ethclient.Client {
	t.Helper()
	c, err := ethclient.DialContext(t.Context(), e.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func block(t *testing.T, c *ethclient.Client, number int64) *types.Block {
	t.Helper()
	b, err := c.BlockByNumber(t.Context(), big.NewInt(number))
	if err != nil {
		t.Fatalf("block %d: %v", number, err)
	}
	return b
}

const latest, safe, finalized = int64(rpc.LatestBlockNumber), int64(rpc.SafeBlockNumber), int64(rpc.FinalizedBlockNumber)

func TestBlocksHoldTransactionsThatSucceedFailAndCreate(t *testing.T) {
	t.Parallel()
	n := start(t, 9, devnet.Options{Seed: 7})
	c := dial(t, n.Endpoints()[0])
	for number := int64(1); number <= 9; number++ {
		b := block(t, c, number)
		receipts, err := c.BlockReceipts(t.Context(), rpc.BlockNumberOrHashWithHash(b.Hash(), false))
		if err != nil {
			t.Fatal(err)
		}
		var failed, created, logs int
		for _, r := range receipts {
			failed += int(1 - r.Status)
			logs += len(r.Logs)
			if r.ContractAddress != (types.Receipt{}).ContractAddress {
				created++
			}
		}
		wantCreated := 0
		if number%8 == 1 {
			wantCreated = 1
		}
		if failed != 1 || logs != 1 || created != wantCreated || len(receipts) != 5+wantCreated {
			t.Errorf("block %d: %d receipts, %d failed, %d logs, %d contracts created",
				number, len(receipts), failed, logs, created)
		}
	}
}

func TestSameSeedAndClockMakeTheSameChain(t *testing.T) {
	t.Parallel()
	heads := map[schema.Point]int{}
	for _, seed := range []uint64{1, 1, 2} {
		n := start(t, 5, devnet.Options{Seed: seed})
		if err := n.Reorg(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		heads[n.Head()]++
	}
	if len(heads) != 2 {
		t.Errorf("heads of seeds 1, 1, 2: %v", heads)
	}
}

func TestReorgSwitchesAtTheForkAndKeepsTheOldBranchByHash(t *testing.T) {
	t.Parallel()
	n := start(t, 20, devnet.Options{})
	c := dial(t, n.Endpoints()[0])
	before := n.Canonical()
	if err := n.Reorg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	after := n.Canonical()
	if len(after) != len(before)+1 {
		t.Fatalf("%d blocks after the reorg, %d before", len(after), len(before))
	}
	for number := range before {
		if same := after[number] == before[number]; same != (number <= 17) {
			t.Errorf("block %d: same hash before and after: %v", number, same)
		}
	}
	old, err := c.BlockByHash(t.Context(), [32]byte(before[19]))
	if err != nil || old.NumberU64() != 19 {
		t.Errorf("orphaned block by hash: %v, %v", old, err)
	}
	if got := block(t, c, 19).Hash(); schema.Hash(got) != after[19] {
		t.Errorf("block 19 is %s, want %s", got, after[19])
	}
	mine(t, n, 1)
	if head := block(t, c, latest); head.NumberU64() != 22 || schema.Hash(head.ParentHash()) != after[21] {
		t.Errorf("the chain goes on at %d behind %s", head.NumberU64(), head.ParentHash())
	}
}

func TestReorgBelowTheFinalizedBlockIsRefused(t *testing.T) {
	t.Parallel()
	n := start(t, 10, devnet.Options{Finalized: 4})
	if err := n.Reorg(t.Context(), 5); !errors.Is(err, devnet.ErrDepth) {
		t.Errorf("got %v, want ErrDepth", err)
	}
	if err := n.Reorg(t.Context(), 0); !errors.Is(err, devnet.ErrDepth) {
		t.Errorf("depth 0: got %v, want ErrDepth", err)
	}
	if err := n.Reorg(t.Context(), 4); err != nil {
		t.Error(err)
	}
}

func TestLaggingNodeShowsAnOlderChainThroughout(t *testing.T) {
	t.Parallel()
	n := start(t, 30, devnet.Options{})
	e := n.Endpoints()[1]
	e.Set(devnet.Faults{Lag: 5})
	c := dial(t, e)
	if got, err := c.BlockNumber(t.Context()); err != nil || got != 25 {
		t.Errorf("eth_blockNumber: %d, %v", got, err)
	}
	for tag, want := range map[int64]uint64{latest: 25, safe: 17, finalized: 9} {
		if got := block(t, c, tag).NumberU64(); got != want {
			t.Errorf("tag %d: block %d, want %d", tag, got, want)
		}
	}
	if _, err := c.BlockByNumber(t.Context(), big.NewInt(26)); err == nil {
		t.Error("a lagging node knows block 26 by number")
	}
	head := n.Head()
	if _, err := c.BlockByHash(t.Context(), [32]byte(head.Hash)); err == nil {
		t.Error("a lagging node knows the head by hash")
	}
	tx := block(t, dial(t, n.Truth()), latest).Transactions()[0].Hash()
	if _, err := c.TransactionReceipt(t.Context(), tx); err == nil {
		t.Error("a lagging node knows a receipt of the head")
	}
	mine(t, n, 1)
	if got := block(t, c, latest).NumberU64(); got != 26 {
		t.Errorf("one block later it is at %d", got)
	}
}

func TestStalledNodeStaysOnItsBranchWhileOthersReorganise(t *testing.T) {
	t.Parallel()
	n := start(t, 10, devnet.Options{})
	e := n.Endpoints()[2]
	e.Set(devnet.Faults{Stall: true})
	stuck := n.Head()
	if err := n.Reorg(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	c := dial(t, e)
	head := block(t, c, latest)
	if schema.Hash(head.Hash()) != stuck.Hash {
		t.Errorf("stalled at %s, want %s", head.Hash(), stuck.Hash)
	}
	for _, tx := range head.Transactions() {
		r, err := c.TransactionReceipt(t.Context(), tx.Hash())
		if err != nil || r.BlockHash != head.Hash() {
			t.Errorf("receipt %s: %v, %v", tx.Hash(), r, err)
		}
		if _, pending, err := c.TransactionByHash(t.Context(), tx.Hash()); err != nil || pending {
			t.Errorf("transaction %s: %v", tx.Hash(), err)
		}
	}
	if _, err := c.BlockByHash(t.Context(), [32]byte(n.Canonical()[9])); err == nil {
		t.Error("a stalled node knows a block made after it stalled")
	}
	e.Set(devnet.Faults{})
	if got := block(t, c, latest); schema.Hash(got.Hash()) != n.Head().Hash {
		t.Error("healed, it is not at the chain's head")
	}
}

func TestSplitNodeFollowsABranchOfItsOwn(t *testing.T) {
	t.Parallel()
	n := start(t, 6, devnet.Options{})
	e := n.Endpoints()[0]
	if err := n.Split(t.Context(), e, 2); err != nil {
		t.Fatal(err)
	}
	mine(t, n, 1)
	c, common := dial(t, e), n.Canonical()
	for number := int64(1); number <= 6; number++ {
		if same := schema.Hash(block(t, c, number).Hash()) == common[number]; same != (number <= 4) {
			t.Errorf("block %d: same as the chain's: %v", number, same)
		}
	}
	if got := block(t, c, latest).NumberU64(); got != 6 {
		t.Errorf("its head is %d", got)
	}
	e.Set(devnet.Faults{})
	if got := block(t, c, latest); schema.Hash(got.Hash()) != n.Head().Hash || got.NumberU64() != 7 {
		t.Errorf("healed, it is at %d", got.NumberU64())
	}
}

func TestLyingNodeIsConsistentInItsLie(t *testing.T) {
	t.Parallel()
	n := start(t, 3, devnet.Options{})
	e := n.Endpoints()[0]
	e.Set(devnet.Faults{Lie: true})
	var told struct{ Hash schema.Hash }
	c := dial(t, e).Client()
	if err := c.CallContext(t.Context(), &told, "eth_getBlockByNumber", "latest", false); err != nil {
		t.Fatal(err)
	}
	if told.Hash == n.Head().Hash {
		t.Error("it told the truth")
	}
	first := told.Hash
	told.Hash = schema.Hash{}
	if err := c.CallContext(t.Context(), &told, "eth_getBlockByHash", first, false); err != nil || told.Hash != first {
		t.Errorf("asked by the forged hash: %s, %v", told.Hash, err)
	}
	if got := block(t, dial(t, n.Truth()), latest).Hash(); schema.Hash(got) != n.Head().Hash {
		t.Error("the untouched endpoint lied too")
	}
}

func TestStateAndLogsAreReadAtTheView(t *testing.T) {
	t.Parallel()
	n := start(t, 12, devnet.Options{})
	e := n.Endpoints()[0]
	e.Set(devnet.Faults{Lag: 2})
	c := dial(t, e).Client()
	var logs []struct {
		BlockNumber string
		Address     schema.Address
	}
	filter := map[string]any{"fromBlock": "0x1", "toBlock": "latest"}
	if err := c.CallContext(t.Context(), &logs, "eth_getLogs", filter); err != nil || len(logs) != 10 {
		t.Fatalf("%d logs, %v", len(logs), err)
	}
	var slot schema.Hash
	if err := c.CallContext(t.Context(), &slot, "eth_getStorageAt", logs[0].Address, "0x0", "latest"); err != nil {
		t.Fatal(err)
	}
	if slot != (schema.Hash{31: 10}) {
		t.Errorf("the counter is %s at block 10", slot)
	}
}

func TestRunMinesUntilItsContextEnds(t *testing.T) {
	t.Parallel()
	n := start(t, 0, devnet.Options{Period: time.Millisecond, Now: time.Now})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	c := dial(t, n.Truth())
	for block(t, c, latest).NumberU64() < 3 {
		if t.Context().Err() != nil {
			t.Fatal("no blocks")
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if age := time.Since(time.Unix(int64(block(t, c, 1).Time()), 0)); age < -2*time.Second || age > time.Minute {
		t.Errorf("block 1 is %v old", age)
	}
}
