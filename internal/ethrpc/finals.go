package ethrpc

import (
	"sync"

	"github.com/ethereum/go-ethereum/common/lru"

	"github.com/firstseen/firstseen/schema"
)

// maxFinals bounds the heights that are remembered, some 3 MB.
const maxFinals = 1 << 14

// finals remembers which blocks have the finalized heights that were asked for: what is finalized never changes. Only
// where somebody takes a store back by hand the finalized height falls; then all is forgotten.
type finals struct {
	mu   sync.Mutex // guards what follows
	keys lru.BasicLRU[height, schema.Key]
	upTo map[uint64]uint64 // by chain, the highest finalized height that was seen
}

type height struct{ chain, number uint64 }

func newFinals() *finals {
	return &finals{keys: lru.NewBasicLRU[height, schema.Key](maxFinals), upTo: map[uint64]uint64{}}
}

// saw is told where a chain stands before it is asked about.
func (f *finals) saw(state *schema.ChainState) {
	var final uint64
	if state.Finalized != nil {
		final = *state.Finalized
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if final < f.upTo[state.Chain] {
		f.keys.Purge()
	}
	f.upTo[state.Chain] = final
}

// find is empty for what is not remembered.
func (f *finals) find(at height) schema.Key {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, _ := f.keys.Get(at)
	return key
}

// add remembers a block, if its height still is finalized.
func (f *finals) add(at height, key schema.Key) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at.number <= f.upTo[at.chain] && f.upTo[at.chain] > 0 {
		f.keys.Add(at, key)
	}
}
