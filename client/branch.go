package client

import (
	"context"
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

const (
	near  = 16 // up to so many blocks behind, the follower reads from the head down, by hash
	batch = 32 // beyond, so many heights at a time, from the oldest up, by number

	rawBatch = 8 // the same where the node's JSON is kept, of which a block may have a megabyte or two
)

// missing returns the blocks up to a head that is near, oldest first: each the parent of the next, the first a child of a
// finished block.
func (f *follower) missing(ctx context.Context, n asker, head schema.Header) ([]*chain.Block, error) {
	b, err := blockByHash(ctx, n, f.chain, head.Hash)
	if err != nil {
		return nil, err
	}
	return f.join(ctx, n, []*chain.Block{b}, int(f.ahead(head))+reorgDepth)
}

// ahead is how many heights there are from the last finished block to the head.
func (f *follower) ahead(head schema.Header) uint64 {
	if head.Number < f.next {
		return 0
	}
	return head.Number - f.next + 1
}

// portion is how many blocks are worth reading at a time: what the outbox does not take is read again.
func (f *follower) portion() uint64 {
	most := batch
	if f.o.Raw {
		most = rawBatch
	}
	return uint64(min(most, max(f.box.Free(), 1)))
}

// join walks from the first of the blocks up its parents to one that is finished, and puts what it met in front. It
// gives up after limit steps with errDeepReorg, except among heights that an earlier run finished: their hashes are not
// known, so a shallow reorg looks like a deep one, and the walk goes on to the floor.
func (f *follower) join(ctx context.Context, n asker, blocks []*chain.Block, limit int) ([]*chain.Block, error) {
	var walked []*chain.Block // newest first
	lowest := blocks[0]
	for !f.joins(lowest) {
		if len(walked) >= limit && lowest.Number > f.resumed {
			return nil, deepReorg{lowest.Number, blocks[len(blocks)-1].Number}
		}
		parent, err := blockByHash(ctx, n, f.chain, lowest.Parent)
		if err != nil {
			return nil, err
		}
		if parent.Number+1 != lowest.Number {
			return nil, nodepool.BadAnswer(n.Name(), "eth_getBlockByHash",
				fmt.Errorf("block %d has a parent at height %d", lowest.Number, parent.Number))
		}
		walked = append(walked, parent)
		lowest = parent
	}
	switch depth := f.depth(lowest.Number); {
	case depth > 0 && lowest.Number < f.resumed && !f.window.has(lowest.Parent):
		f.log.WithField("from", lowest.Number).Info("a branch that an earlier run followed was left: sending again from below it")
	case depth > 0:
		f.tally.reorg(depth)
		f.log.WithField("depth", depth).WithField("from", lowest.Number).Info("reorg: delivering the other branch")
	}
	slices.Reverse(walked)
	return append(walked, blocks...), nil
}

// joins tells whether the block is a child of a finished one, or the first that this observer is to deliver.
func (f *follower) joins(b *chain.Block) bool {
	return f.window.has(b.Parent) || b.Number <= f.floor
}

// depth is how many finished heights a branch that begins at number replaces.
func (f *follower) depth(number uint64) uint64 {
	if number >= f.next {
		return 0
	}
	return f.next - number
}

func linked(blocks []*chain.Block) bool {
	for i := 1; i < len(blocks); i++ {
		if blocks[i].Parent != blocks[i-1].Hash {
			return false
		}
	}
	return true
}
