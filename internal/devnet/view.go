package devnet

import (
	"github.com/ethereum/go-ethereum/common"
)

// view is what one node has of the chain: a canonical branch, and every block made up to some moment. It never
// changes; a node that moves on gets another.
type view struct {
	chain  *chain
	branch []common.Hash // by number, never empty
	turn   uint64        // blocks made later are unknown here
}

// view is the chain as it is now.
func (c *chain) view() view {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return view{chain: c, branch: c.branch, turn: c.made}
}

// behind is the view of a node that lags by some blocks.
func (v view) behind(blocks uint64) view {
	v.branch = v.branch[:uint64(len(v.branch))-min(blocks, v.head())]
	return v
}

func (v view) head() uint64 { return uint64(len(v.branch)) - 1 }

func (v view) safe() uint64 { return v.head() - min(v.chain.safe, v.head()) }

func (v view) finalized() uint64 { return v.head() - min(v.chain.finalized, v.head()) }

// at is the canonical hash at a height that the view has.
func (v view) at(number uint64) common.Hash { return v.branch[number] }

// has tells whether the node has the block, canonical or not.
func (v view) has(hash common.Hash) bool {
	v.chain.mu.RLock()
	born, ok := v.chain.births[hash]
	v.chain.mu.RUnlock()
	return ok && born.turn <= v.turn && born.number <= v.head()
}

// home is the canonical block that holds a transaction.
func (v view) home(tx common.Hash) (common.Hash, bool) {
	v.chain.mu.RLock()
	defer v.chain.mu.RUnlock()
	for _, hash := range v.chain.homes[tx] {
		number := v.chain.births[hash].number
		if number <= v.head() && v.branch[number] == hash {
			return hash, true
		}
	}
	return common.Hash{}, false
}
