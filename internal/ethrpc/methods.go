package ethrpc

import (
	"context"
	"fmt"
	"strconv"

	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/schema"
)

// method is one that is answered here.
type method struct {
	least, most int  // parameters
	chain       bool // it is about a chain
	answer      func(context.Context, *View, [][]byte) ([]byte, error)
}

// null is the answer about what is not known.
var null = []byte("null")

func quantity(n uint64) []byte { return []byte(`"` + jsonrpc.Quantity(n) + `"`) }

func methods() map[string]method {
	number, hash := (*View).byNumber, (*View).byHash
	return map[string]method{
		"web3_clientVersion": {answer: func(_ context.Context, v *View, _ [][]byte) ([]byte, error) {
			return strconv.AppendQuote(nil, "firstseen/"+v.s.o.Version), nil
		}},
		"eth_chainId": {chain: true, answer: func(_ context.Context, v *View, _ [][]byte) ([]byte, error) {
			return quantity(v.chain.Chain), nil
		}},
		"net_version": {chain: true, answer: func(_ context.Context, v *View, _ [][]byte) ([]byte, error) {
			return strconv.AppendQuote(nil, strconv.FormatUint(v.chain.Chain, 10)), nil
		}},
		"eth_blockNumber": {chain: true, answer: func(_ context.Context, v *View, _ [][]byte) ([]byte, error) {
			return quantity(v.chain.Head.Number), nil
		}},
		"eth_syncing":          {answer: syncing},
		"eth_getBlockByNumber": {2, 2, true, of(number, whole)},
		"eth_getBlockByHash":   {2, 2, true, of(hash, whole)},

		"eth_getBlockTransactionCountByNumber":    {1, 1, true, of(number, transactionCount)},
		"eth_getBlockTransactionCountByHash":      {1, 1, true, of(hash, transactionCount)},
		"eth_getUncleCountByBlockNumber":          {1, 1, true, of(number, uncleCount)},
		"eth_getUncleCountByBlockHash":            {1, 1, true, of(hash, uncleCount)},
		"eth_getTransactionByBlockNumberAndIndex": {2, 2, true, of(number, transactionAt)},
		"eth_getTransactionByBlockHashAndIndex":   {2, 2, true, of(hash, transactionAt)},
		"eth_getBlockReceipts":                    {1, 1, true, of((*View).byEither, allReceipts)},

		"eth_getTransactionByHash":  {1, 1, true, placed((*block).transactions)},
		"eth_getTransactionReceipt": {1, 1, true, placed(func(b *block) ([][]byte, error) { return b.receipts() })},
		"eth_getLogs":               {1, 1, true, getLogs},
	}
}

// stateful are methods that need the state, or what else only a node has; the upstream may be asked for them.
//
//nolint:gochecknoglobals // never changed
var stateful = map[string]bool{
	"eth_call": true, "eth_estimateGas": true, "eth_createAccessList": true, "eth_simulateV1": true, "eth_getBalance": true,
	"eth_getCode": true, "eth_getStorageAt": true, "eth_getProof": true, "eth_getTransactionCount": true,
	"eth_feeHistory": true, "eth_gasPrice": true, "eth_maxPriorityFeePerGas": true, "eth_blobBaseFee": true,
	"eth_config": true,
}

// writing are methods that would change something.
//
//nolint:gochecknoglobals // never changed
var writing = map[string]bool{
	"eth_sendRawTransaction": true, "eth_sendTransaction": true, "eth_sendRawTransactionSync": true,
}

// unknown says why a method is not answered.
func unknown(name string) error {
	switch {
	case stateful[name]:
		return jsonrpc.Errorf(jsonrpc.CodeNoMethod, "%s needs the state of the chain, which is not kept here: ask a node or a "+
			"gateway", name)
	case writing[name]:
		return jsonrpc.Errorf(jsonrpc.CodeNoMethod, "%s is not served: this server only reads, send transactions to a node or "+
			"a gateway", name)
	}
	return jsonrpc.Errorf(jsonrpc.CodeNoMethod, "the method %s does not exist/is not available", jsonrpc.Clip(name))
}

// part is what is wanted of a block.
type part func(*block) ([]byte, error)

// of makes a method out of how the block is named by the first parameter, and what the parameters want of it. A block
// that is not known is null.
func of(
	find func(*View, context.Context, [][]byte) (*schema.Key, error), want func(params [][]byte) (part, error),
) func(context.Context, *View, [][]byte) ([]byte, error) {
	return func(ctx context.Context, v *View, params [][]byte) ([]byte, error) {
		of, err := want(params)
		if err != nil {
			return nil, err
		}
		key, err := find(v, ctx, params)
		if err != nil {
			return nil, err
		}
		if key == nil {
			return null, nil
		}
		b, err := v.s.blocks.get(ctx, v.chain.Chain, *key)
		if err != nil {
			return nil, err
		}
		return of(b)
	}
}

func whole(params [][]byte) (part, error) {
	full, err := read[bool](params, 1)
	if full {
		return func(b *block) ([]byte, error) { return b.text, nil }, err
	}
	return func(b *block) ([]byte, error) { return b.brief() }, err
}

func transactionCount([][]byte) (part, error) {
	return func(b *block) ([]byte, error) {
		txs, err := b.transactions()
		return quantity(uint64(len(txs))), err
	}, nil
}

func uncleCount([][]byte) (part, error) {
	return func(b *block) ([]byte, error) {
		p, err := b.parts()
		if err != nil {
			return nil, err
		}
		return quantity(uint64(p.uncles)), nil
	}, nil
}

func transactionAt(params [][]byte) (part, error) {
	i, err := readIndex(params, 1)
	return func(b *block) ([]byte, error) {
		txs, err := b.transactions()
		if i >= uint64(len(txs)) {
			return null, err
		}
		return txs[i], nil
	}, err
}

func allReceipts([][]byte) (part, error) {
	return func(b *block) ([]byte, error) {
		all, err := b.receipts()
		return join(all), err
	}, nil
}

// join writes an array.
func join(values [][]byte) []byte {
	size := 2
	for _, v := range values {
		size += len(v) + 1
	}
	dst := append(make([]byte, 0, size), '[')
	for i, v := range values {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, v...)
	}
	return append(dst, ']')
}

func (b *block) transactions() ([][]byte, error) {
	p, err := b.parts()
	if err != nil {
		return nil, err
	}
	return p.txs, nil
}

// placed makes a method about a transaction that is on the branch: a node knows no other. List is what to take the one of
// the transaction's place from.
func placed(list func(*block) ([][]byte, error)) func(context.Context, *View, [][]byte) ([]byte, error) {
	return func(ctx context.Context, v *View, params [][]byte) ([]byte, error) {
		hash, err := readHash(params, 0)
		if err != nil {
			return nil, err
		}
		places, err := v.s.o.Store.PlacesOf(ctx, hash)
		if err != nil {
			return nil, err
		}
		for _, p := range places {
			if p.Chain != v.chain.Chain || !p.BlockStatus.OnBranch() {
				continue
			}
			b, err := v.s.blocks.get(ctx, p.Chain, p.Block.Hash.Key())
			if err != nil {
				return nil, err
			}
			all, err := list(b)
			if err == nil && int(p.Index) >= len(all) {
				err = fmt.Errorf("block %s has %d transactions or receipts, but %s is number %d", p.Block, len(all), hash, p.Index)
			}
			if err != nil {
				return nil, err
			}
			return all[p.Index], nil
		}
		return null, nil
	}
}

// syncing tells of a replica that is not yet where its writer is, while it catches up. In between it is false: what is
// on its way is no sign of lagging.
func syncing(_ context.Context, v *View, _ [][]byte) ([]byte, error) {
	if v.s.o.Replica == nil || v.chain == nil {
		return []byte("false"), nil
	}
	state := v.s.o.Replica()
	if state.Phase == schema.ReplicaFollowing {
		return []byte("false"), nil
	}
	for _, c := range state.Chains {
		if c.Chain == v.chain.Chain && c.Writer != nil && *c.Writer > v.chain.Head.Number {
			out := append([]byte(`{"startingBlock":`), quantity(v.chain.Root.Number)...)
			out = append(append(out, `,"currentBlock":`...), quantity(v.chain.Head.Number)...)
			out = append(append(out, `,"highestBlock":`...), quantity(*c.Writer)...)
			return append(out, '}'), nil
		}
	}
	return []byte("false"), nil
}
