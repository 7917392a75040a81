package devnet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/beacon/engine"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/eth"
	"github.com/ethereum/go-ethereum/eth/ethconfig"
	"github.com/ethereum/go-ethereum/eth/filters"
	"github.com/ethereum/go-ethereum/miner"
	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/p2p"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/schema"
)

// ErrDepth reports a reorg that cannot be: of no block at all, deeper than the chain is long, or below the finalized
// block.
var ErrDepth = errors.New("reorg too deep")

// chainOptions are the settings that Net and Geths share, defaults filled in.
type chainOptions struct {
	chainID   uint64
	seed      uint64
	transfers int
	safe      uint64 // how far the safe block trails the head
	finalized uint64 // and the finalized one
	now       func() time.Time
}

// chain is a go-ethereum node in this process, without network or disk, whose blocks are built to order. Blocks are
// inserted first and made canonical afterwards, so a branch of any length takes over in one step.
type chain struct {
	chainOptions
	genesis *core.Genesis
	stack   *node.Node
	eth     *eth.Ethereum
	rpc     *rpc.Client
	traffic *traffic

	making sync.Mutex // held while blocks are made
	salt   uint64     // one more for every rival branch; guarded by making

	mu     sync.RWMutex                  // guards what follows
	branch []common.Hash                 // canonical hashes by number; only ever appended to, a reorg makes a new one
	births map[common.Hash]birth         // every block ever made
	homes  map[common.Hash][]common.Hash // by transaction, the blocks that hold it
	made   uint64                        // blocks made so far, the genesis included
}

// birth says where a block stands and when it was made.
type birth struct {
	number uint64
	turn   uint64 // the how manieth block it was
}

// sealed is a block with the form in which the Engine API passes it on.
type sealed struct {
	block   *types.Block
	payload *engine.ExecutionPayloadEnvelope
}

func newChain(opts chainOptions) (*chain, error) {
	keys := newKeys(opts.seed)
	c := &chain{
		chainOptions: opts,
		genesis:      newGenesis(opts.chainID, opts.now(), keys),
		births:       make(map[common.Hash]birth),
		homes:        make(map[common.Hash][]common.Hash),
	}
	c.traffic = &traffic{
		keys: keys, signer: types.LatestSigner(c.genesis.Config), seed: opts.seed, transfers: opts.transfers,
	}
	if err := c.boot(); err != nil {
		return nil, fmt.Errorf("start in-process chain: %w", err)
	}
	c.record(c.eth.BlockChain().Genesis())
	c.branch = []common.Hash{c.eth.BlockChain().Genesis().Hash()}
	return c, nil
}

func (c *chain) boot() error {
	stack, err := node.New(&node.Config{Name: "devnet", P2P: p2p.Config{NoDiscovery: true, NoDial: true}})
	if err != nil {
		return err
	}
	conf := ethconfig.Defaults
	conf.Genesis = c.genesis
	conf.SyncMode = ethconfig.FullSync
	conf.TxPool.NoLocals = true
	conf.LogNoHistory = true
	conf.TrieCleanCache, conf.TrieDirtyCache, conf.SnapshotCache = 16, 16, 16 // MB: these chains are small
	backend, err := eth.New(stack, &conf)
	if err == nil {
		logs := filters.NewFilterSystem(backend.APIBackend, filters.Config{})
		stack.RegisterAPIs([]rpc.API{{Namespace: "eth", Service: filters.NewFilterAPI(logs)}})
		err = stack.Start()
	}
	if err != nil {
		return errors.Join(err, stack.Close())
	}
	backend.SetSynced()
	c.stack, c.eth, c.rpc = stack, backend, stack.Attach()
	return nil
}

func (c *chain) close() error {
	c.making.Lock()
	defer c.making.Unlock()
	c.rpc.Close()
	return c.stack.Close()
}

// head is the newest canonical block.
func (c *chain) head() *types.Block {
	return c.eth.BlockChain().GetBlockByHash(c.eth.BlockChain().CurrentBlock().Hash())
}

// grow builds n blocks on parent, one on the other, without making them canonical. The caller holds making.
func (c *chain) grow(ctx context.Context, parent *types.Block, n int) ([]sealed, error) {
	grown := make([]sealed, 0, n)
	for range n {
		next, err := c.seal(ctx, parent.Header())
		if err != nil {
			return nil, err
		}
		grown = append(grown, next)
		parent = next.block
	}
	return grown, nil
}

func (c *chain) seal(ctx context.Context, parent *types.Header) (sealed, error) {
	bc := c.eth.BlockChain()
	state, err := bc.StateAt(parent.Root, parent.Number, parent.Time)
	if err != nil {
		return sealed{}, fmt.Errorf("open state of block %d: %w", parent.Number, err)
	}
	txs, err := c.traffic.block(parent, c.salt, state.GetNonce)
	if err != nil {
		return sealed{}, err
	}
	number := parent.Number.Uint64() + 1
	args := &miner.BuildPayloadArgs{
		Parent:       parent.Hash(),
		Timestamp:    c.blockTime(parent),
		FeeRecipient: common.BytesToAddress(mix("fees", c.seed, c.salt).Bytes()),
		Random:       mix("randao", c.seed, c.salt, number),
		BeaconRoot:   &common.Hash{},
	}
	block, payload, err := c.eth.Miner().BuildTestingPayload(args, txs, false, []byte("firstseen devnet"))
	if err != nil {
		return sealed{}, fmt.Errorf("build block %d: %w", number, err)
	}
	if _, err := bc.InsertBlockWithoutSetHead(ctx, block, false); err != nil {
		return sealed{}, fmt.Errorf("insert block %d: %w", number, err)
	}
	c.record(block)
	return sealed{block, payload}, nil
}

// blockTime is the clock's time, unless blocks come faster than one a second: their times must differ.
func (c *chain) blockTime(parent *types.Header) uint64 {
	return max(uint64(c.now().Unix()), parent.Time+1)
}

// record enters a block in the index from which views are answered.
func (c *chain) record(block *types.Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	c.births[block.Hash()] = birth{number: block.NumberU64(), turn: c.made}
	for _, tx := range block.Transactions() {
		c.homes[tx.Hash()] = append(c.homes[tx.Hash()], block.Hash())
	}
}

// joined is the view of the chain as it will be once grown is its end. The first block's parent must be canonical.
func (c *chain) joined(grown []sealed) view {
	v := c.view()
	first := grown[0].block.NumberU64()
	if first < uint64(len(v.branch)) {
		v.branch = append(make([]common.Hash, 0, 2*len(v.branch)), v.branch[:first]...)
	}
	for _, s := range grown {
		v.branch = append(v.branch, s.block.Hash())
	}
	return v
}

// adopt makes grown the chain's new end. The caller holds making.
func (c *chain) adopt(grown []sealed) error {
	v := c.joined(grown)
	last := grown[len(grown)-1].block
	bc := c.eth.BlockChain()
	if _, err := bc.SetCanonical(last); err != nil {
		return fmt.Errorf("make block %d canonical: %w", last.NumberU64(), err)
	}
	bc.SetSafe(bc.GetHeaderByHash(v.at(v.safe())))
	bc.SetFinalized(bc.GetHeaderByHash(v.at(v.finalized())))
	c.mu.Lock()
	c.branch = v.branch
	c.mu.Unlock()
	return nil
}

// deliver shows new blocks to whoever follows the chain, before it adopts them.
type deliver func(ctx context.Context, grown []sealed) error

// mine extends the canonical chain by n blocks, one at a time.
func (c *chain) mine(ctx context.Context, n int, show deliver) error {
	c.making.Lock()
	defer c.making.Unlock()
	for range n {
		grown, err := c.grow(ctx, c.head(), 1)
		if err != nil {
			return err
		}
		if err := c.advance(ctx, grown, show); err != nil {
			return err
		}
	}
	return nil
}

// reorg replaces the newest depth blocks by depth+1 others.
func (c *chain) reorg(ctx context.Context, depth uint64, show deliver) error {
	c.making.Lock()
	defer c.making.Unlock()
	grown, err := c.rivals(ctx, depth, depth+1)
	if err != nil {
		return err
	}
	return c.advance(ctx, grown, show)
}

// split builds rivals of the newest depth blocks, as many, and answers the view of a node that follows them.
func (c *chain) split(ctx context.Context, depth uint64) (view, error) {
	c.making.Lock()
	defer c.making.Unlock()
	grown, err := c.rivals(ctx, depth, depth)
	if err != nil {
		return view{}, err
	}
	return c.joined(grown), nil
}

// rivals builds n blocks beside the newest depth ones. The caller holds making.
func (c *chain) rivals(ctx context.Context, depth, n uint64) ([]sealed, error) {
	v := c.view()
	if depth == 0 || depth > v.head()-v.finalized() {
		return nil, fmt.Errorf("%w: %d blocks back from %d, but %d is finalized", ErrDepth, depth, v.head(), v.finalized())
	}
	fork := c.eth.BlockChain().GetBlockByHash(v.at(v.head() - depth))
	c.salt++
	return c.grow(ctx, fork, int(n))
}

func (c *chain) advance(ctx context.Context, grown []sealed, show deliver) error {
	if show != nil {
		if err := show(ctx, grown); err != nil {
			return err
		}
	}
	return c.adopt(grown)
}

// canonical lists the chain's hashes by number.
func (c *chain) canonical() []schema.Hash {
	v := c.view()
	hashes := make([]schema.Hash, len(v.branch))
	for i, hash := range v.branch {
		hashes[i] = schema.Hash(hash)
	}
	return hashes
}

// tip is the newest canonical block.
func (c *chain) tip() schema.Point {
	v := c.view()
	return schema.Point{Number: v.head(), Hash: schema.Hash(v.at(v.head()))}
}

// flip turns a hash into one that no header has, and back.
func flip(hash common.Hash) common.Hash {
	hash[len(hash)-1] ^= 0xff
	return hash
}
