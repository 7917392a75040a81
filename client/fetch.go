package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// codeBadParams is the error for parameters that a method does not take (JSON-RPC 2.0, section 5.1).
const codeBadParams = -32602

// asker is one node, for asking it things.
type asker interface {
	Name() string
	// Trust says whether the hashes of its blocks are recomputed.
	Trust() chain.Trust
	// Ask returns the raw JSON of the result, "null" included.
	Ask(ctx context.Context, method string, args ...any) (json.RawMessage, error)
}

// rpcCode returns the JSON-RPC error code that a node answered with, 0 if the failure was of another kind.
func rpcCode(err error) int {
	var e rpc.Error
	if errors.As(err, &e) {
		return e.ErrorCode()
	}
	return 0
}

// fetchers is how many calls to a node are under way at once, at most.
const fetchers = 4

// blockByHash fetches a block that someone named by its hash, and holds the answer to the name.
func blockByHash(ctx context.Context, n asker, id uint64, hash schema.Hash) (*chain.Block, error) {
	const method = "eth_getBlockByHash"
	b, err := fetchBlock(ctx, n, id, method, hash.String())
	if err == nil && b.Hash != hash {
		err = nodepool.BadAnswer(n.Name(), method, fmt.Errorf("%w: asked for %s, got %s", chain.ErrHashMismatch, hash, b.Hash))
	}
	return b, err
}

func fetchBlock(ctx context.Context, n asker, id uint64, method, which string) (*chain.Block, error) {
	raw, err := n.Ask(ctx, method, which, true)
	if err != nil {
		return nil, err
	}
	return decodeBlock(n, id, method, which, raw)
}

func decodeBlock(n asker, id uint64, method, which string, raw json.RawMessage) (*chain.Block, error) {
	b, err := n.Trust().DecodeBlock(id, raw)
	if err != nil {
		return nil, nodepool.BadAnswer(n.Name(), method, fmt.Errorf("block %s: %w", which, err))
	}
	if _, ok := n.(keeping); ok {
		b.Raw.Block = raw
	}
	return b, nil
}

// keeping is a node whose blocks keep the JSON that they came in.
type keeping struct{ *nodepool.Node }

// together is how many things a node is asked for in one request, where it takes several. A block of the main chain
// is about half a megabyte of JSON, so that this stays well below what nodes and Options.MaxAnswer allow.
const together = 8

// batcher is an asker that takes several questions in one request. There is an answer or an error for each.
type batcher interface {
	AskAll(ctx context.Context, method string, args [][]any) ([]json.RawMessage, []error)
}

// askAll asks one method many times, a few requests of together at a time. each gets the answers, from several
// goroutines; the first error that it returns ends the rest.
func askAll(ctx context.Context, n asker, method string, args [][]any, each func(i int, raw json.RawMessage, err error) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	size := 1
	all, ok := n.(batcher)
	if ok {
		size = together
	}
	for from := 0; from < len(args); from += size {
		part := args[from:min(from+size, len(args))]
		g.Go(func() error {
			if len(part) == 1 {
				raw, err := n.Ask(ctx, method, part[0]...)
				return each(from, raw, err)
			}
			answers, errs := all.AskAll(ctx, method, part)
			for i := range part {
				if err := each(from+i, answers[i], errs[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// blocksByNumber fetches heights from..to, in order. That each is the parent of the next is for the caller to check: the
// node may have changed branch in between.
func blocksByNumber(ctx context.Context, n asker, id, from, to uint64) ([]*chain.Block, error) {
	const method = "eth_getBlockByNumber"
	out := make([]*chain.Block, to-from+1)
	args := make([][]any, len(out))
	for i := range args {
		args[i] = []any{hexutil.EncodeUint64(from + uint64(i)), true}
	}
	err := askAll(ctx, n, method, args, func(i int, raw json.RawMessage, err error) error {
		if err != nil {
			return err
		}
		number := from + uint64(i)
		out[i], err = decodeBlock(n, id, method, hexutil.EncodeUint64(number), raw)
		if err == nil && out[i].Number != number {
			err = nodepool.BadAnswer(n.Name(), method, fmt.Errorf("asked for block %d, got %d", number, out[i].Number))
		}
		return err
	})
	return out, err
}

// withReceipts is an asker that has the receipts of some blocks already.
type withReceipts struct {
	asker
	answers map[string]json.RawMessage // by block hash
}

// Ask implements asker.
func (w withReceipts) Ask(ctx context.Context, method string, args ...any) (json.RawMessage, error) {
	if len(args) == 1 && method == "eth_getBlockReceipts" {
		if hash, ok := args[0].(string); ok && w.answers[hash] != nil {
			return w.answers[hash], nil
		}
	}
	return w.asker.Ask(ctx, method, args...)
}

// receiptsAhead asks for the receipts of many blocks in few requests. What it does not get is asked for again, block by
// block.
func receiptsAhead(ctx context.Context, n asker, blocks []*chain.Block) asker {
	if _, ok := n.(batcher); !ok || len(blocks) < together {
		return n
	}
	var args [][]any
	for _, b := range blocks {
		if len(b.Transactions) > 0 {
			args = append(args, []any{b.Hash.String()})
		}
	}
	ctx, cancel := context.WithTimeout(ctx, receiptsWithin)
	defer cancel()
	got := make([]json.RawMessage, len(args))
	_ = askAll(ctx, n, "eth_getBlockReceipts", args, func(i int, raw json.RawMessage, err error) error {
		got[i] = raw
		return err
	})
	w := withReceipts{n, make(map[string]json.RawMessage, len(args))}
	for i, raw := range got {
		if raw != nil {
			w.answers[args[i][0].(string)] = raw
		}
	}
	return w
}

// taggedPoint asks for the block behind a tag ("safe", "finalized"). Nodes that have none say so with null or an error;
// either way the answer is nil.
func taggedPoint(ctx context.Context, n asker, tag string) *schema.Point {
	raw, err := n.Ask(ctx, "eth_getBlockByNumber", tag, false)
	if err != nil {
		return nil
	}
	h, err := n.Trust().DecodeHead(raw)
	if err != nil {
		return nil
	}
	return &schema.Point{Number: h.Number, Hash: h.Hash}
}

// maxSingleReceipts is the largest block whose receipts are fetched one by one; above it they stay unknown.
const maxSingleReceipts = 1000

// Why a block's receipts are unknown; the label of a counter.
const (
	receiptsOff      = "off"
	receiptsFailed   = "failed"   // the node did not answer
	receiptsMissing  = "missing"  // it has none of this block
	receiptsMismatch = "mismatch" // they belong to something else
	receiptsTooMany  = "too_many" // for one call each
)

// receiptsWithin is for how long a block waits for its receipts, however many calls that takes.
const receiptsWithin = 5 * time.Second

// fillReceipts fetches the block's receipts and applies them. What cannot be had stays unknown, with the reason
// returned, since a verified block never waits for its receipts. Only the end of ctx is an error.
func fillReceipts(ctx context.Context, n asker, b *chain.Block, mode ReceiptsMode) (reason string, err error) {
	switch {
	case len(b.Transactions) == 0:
		if b.Raw.Block != nil && mode != ReceiptsOff {
			b.Raw.Receipts = json.RawMessage("[]") // what any node would answer
		}
		return "", nil
	case mode == ReceiptsOff:
		return receiptsOff, nil
	}
	limited, cancel := context.WithTimeout(ctx, receiptsWithin)
	defer cancel()
	raw, reason := wholeReceipts(limited, n, b)
	if reason != "" && reason != receiptsFailed {
		raw, reason = singleReceipts(limited, n, b)
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if reason == "" && b.ApplyReceipts(raw) != nil {
		reason = receiptsMismatch
	}
	return reason, nil
}

// wholeReceipts asks for all receipts of the block in one call. The hash is given as a string, as execution-apis has
// it, and to nodes that do not take that as the object of EIP-1898.
func wholeReceipts(ctx context.Context, n asker, b *chain.Block) ([]json.RawMessage, string) {
	const method = "eth_getBlockReceipts"
	answer, err := n.Ask(ctx, method, b.Hash.String())
	if rpcCode(err) == codeBadParams {
		answer, err = n.Ask(ctx, method, map[string]string{"blockHash": b.Hash.String()})
	}
	var list []json.RawMessage
	switch {
	case rpcCode(err) != 0: // it answered, so it may do better with one at a time
		return nil, receiptsMissing
	case err != nil:
		return nil, receiptsFailed
	case json.Unmarshal(answer, &list) != nil:
		return nil, receiptsMismatch
	case list == nil:
		return nil, receiptsMissing
	}
	if b.Raw.Block != nil {
		b.Raw.Receipts = answer
	}
	return list, ""
}

var errMissing = errors.New("no receipt")

// singleReceipts asks for one receipt after the other, several at a time.
func singleReceipts(ctx context.Context, n asker, b *chain.Block) ([]json.RawMessage, string) {
	if len(b.Transactions) > maxSingleReceipts {
		return nil, receiptsTooMany
	}
	out := make([]json.RawMessage, len(b.Transactions))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(fetchers)
	for i, tx := range b.Transactions {
		g.Go(func() error {
			answer, err := n.Ask(ctx, "eth_getTransactionReceipt", tx.Hash.String())
			if err == nil && string(answer) == "null" {
				err = errMissing
			}
			out[i] = answer
			return err
		})
	}
	switch err := g.Wait(); {
	case err == nil:
		return out, ""
	case errors.Is(err, errMissing):
		return nil, receiptsMissing
	default:
		return nil, receiptsFailed
	}
}
