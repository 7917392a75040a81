package ethrpc

import (
	"context"

	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/schema"
)

// byNumber finds the block on the branch that a number or a tag means. It is nil where there is none.
func (v *View) byNumber(ctx context.Context, params [][]byte) (*schema.Key, error) {
	n, err := readNumber(params, 0)
	if err != nil {
		return nil, err
	}
	return v.onBranch(ctx, n)
}

func (v *View) onBranch(ctx context.Context, n rpc.BlockNumber) (*schema.Key, error) {
	number, err := v.height(n, "block")
	if err != nil || number > v.chain.Head.Number || number < v.chain.Root.Number {
		return nil, err
	}
	for _, p := range []schema.Point{v.chain.Head, v.chain.Root} {
		if p.Number == number {
			key := p.Hash.Key()
			return &key, nil
		}
	}
	at := height{v.chain.Chain, number}
	if key := v.s.finals.find(at); key != "" {
		return &key, nil
	}
	key, err := v.s.o.Store.BranchKey(ctx, at.chain, number)
	if err != nil || key == "" {
		return nil, err
	}
	v.s.finals.add(at, key)
	return &key, nil
}

// height resolves a tag. What is asked for is a block, or what else an error is to name.
func (v *View) height(n rpc.BlockNumber, what string) (uint64, error) {
	tagged := func(name string, height *uint64) (uint64, error) {
		if height == nil {
			return 0, jsonrpc.Errorf(jsonrpc.CodeServer, "%s %s not found", name, what)
		}
		return *height, nil
	}
	switch n {
	case rpc.LatestBlockNumber:
		return v.chain.Head.Number, nil
	case rpc.SafeBlockNumber:
		return tagged("safe", v.chain.Safe)
	case rpc.FinalizedBlockNumber:
		return tagged("finalized", v.chain.Finalized)
	case rpc.EarliestBlockNumber:
		return v.chain.Root.Number, nil
	case rpc.PendingBlockNumber:
		return 0, jsonrpc.Errorf(jsonrpc.CodeServer, "pending %s is not available", what)
	}
	return uint64(n), nil
}

// byHash finds any block, on the branch or not.
func (v *View) byHash(ctx context.Context, params [][]byte) (*schema.Key, error) {
	hash, err := readHash(params, 0)
	if err != nil {
		return nil, err
	}
	return v.known(ctx, hash, false)
}

// known returns a block's key if it is stored, or at hand because it was. Whether it is on the branch only the store
// knows.
func (v *View) known(ctx context.Context, hash schema.Hash, onBranch bool) (*schema.Key, error) {
	key := hash.Key()
	if !onBranch && v.s.blocks.cached(blockID{v.chain.Chain, key}) != nil {
		return &key, nil
	}
	found, err := v.s.o.Store.RecordsByKey(ctx, key, []uint64{v.chain.Chain})
	switch {
	case err != nil || len(found) == 0:
		return nil, err
	case onBranch && !found[0].Status.OnBranch():
		return nil, jsonrpc.Errorf(jsonrpc.CodeServer, "hash is not currently canonical")
	}
	return &key, nil
}

// byEither finds a block by a number, a tag, a hash or an object with one of them (EIP-1898).
func (v *View) byEither(ctx context.Context, params [][]byte) (*schema.Key, error) {
	which, err := read[rpc.BlockNumberOrHash](params, 0)
	if err != nil {
		return nil, err
	}
	if which.BlockNumber != nil {
		return v.onBranch(ctx, *which.BlockNumber)
	}
	return v.known(ctx, schema.Hash(*which.BlockHash), which.RequireCanonical)
}
