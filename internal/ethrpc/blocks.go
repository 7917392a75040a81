package ethrpc

import (
	"context"
	"strconv"
	"sync"

	"github.com/ethereum/go-ethereum/common/lru"
	"golang.org/x/sync/singleflight"

	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/schema"
)

var (
	// errNotKept is what everything comes to that is about a block of which nobody sent the JSON.
	errNotKept = jsonrpc.Errorf(jsonrpc.CodeUnavailable, "the JSON of this block is not kept here: whoever saw it first "+
		"was not started with --raw, or retention has taken it")
	// errNoReceipts is the same for its receipts.
	errNoReceipts = jsonrpc.Errorf(jsonrpc.CodeUnavailable, "the receipts of this block are not kept here: whoever saw it "+
		"first did not have them")
)

// maxBlocks bounds the number of blocks that are kept open, whatever their size.
const maxBlocks = 1 << 14

// blocks opens blocks, and keeps those that were asked for lately: wallets all ask for the same head. A block never
// changes, so there is nothing to be told of.
type blocks struct {
	store   Store
	max     int64
	metrics *metrics
	flights singleflight.Group // one for each block that is being opened; who asks for it meanwhile waits for that

	mu   sync.Mutex // guards what follows
	lru  lru.BasicLRU[blockID, kept]
	held int64 // bytes
}

type blockID struct {
	chain uint64
	key   schema.Key
}

type kept struct {
	*block
	weight int64
}

func newBlocks(store Store, bytes int64, m *metrics) *blocks {
	return &blocks{store: store, max: bytes, metrics: m, lru: lru.NewBasicLRU[blockID, kept](maxBlocks)}
}

// cached returns nil for a block that is not at hand.
func (b *blocks) cached(id blockID) *block {
	b.mu.Lock()
	defer b.mu.Unlock()
	k, _ := b.lru.Get(id)
	return k.block
}

// keep makes room by forgetting those that were not asked for the longest.
func (b *blocks) keep(id blockID, k kept) {
	if k.weight > b.max/4 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.lru.Contains(id) {
		return
	}
	for b.lru.Len() > 0 && (b.held+k.weight > b.max || b.lru.Len() >= maxBlocks) {
		_, old, _ := b.lru.RemoveOldest()
		b.held -= old.weight
	}
	b.lru.Add(id, k)
	b.held += k.weight
	b.metrics.held(b.held)
}

// get returns a block; errNotKept where its JSON is not stored, nor maybe the block.
func (b *blocks) get(ctx context.Context, chain uint64, key schema.Key) (*block, error) {
	id := blockID{chain, key}
	if found := b.cached(id); found != nil {
		b.metrics.hit()
		return found, nil
	}
	flight := b.flights.DoChan(strconv.FormatUint(chain, 16)+string(key), func() (any, error) {
		b.metrics.miss()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		raws, err := b.store.Raws(ctx, chain, []schema.Key{key})
		if err != nil {
			return nil, err
		}
		packed := raws[key]
		if packed == nil {
			return nil, errNotKept
		}
		opened, err := open(packed)
		if err == nil {
			b.keep(id, kept{opened, opened.weight()})
		}
		return opened, err
	})
	select {
	case r := <-flight:
		opened, _ := r.Val.(*block)
		return opened, r.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
