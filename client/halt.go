package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// errHalted reports a chain that is not followed any more, until an operator has it resumed.
var errHalted = errors.New("halted")

// deepReorg is a branch whose fork no walk has reached.
type deepReorg struct{ lowest, to uint64 }

func (deepReorg) Error() string        { return errDeepReorg.Error() }
func (deepReorg) Is(target error) bool { return target == errDeepReorg }

func (f *follower) deepGap(from, to uint64) *schema.Gap {
	return &schema.Gap{Chain: f.chain, From: from, To: to, Reason: errDeepReorg.Error()}
}

// halt stops following the chain, with an explicit gap, once the nodes agree that the branch is the chain's. One node
// that alone is on it, out of several, is merely not used: the readiness is red for as long as no other is.
func (f *follower) halt(ctx context.Context, n asker, head schema.Header, d deepReorg) error {
	f.board.halt(d.Error())
	tip, _, ok := f.nodes.Tip()
	if !ok {
		return d
	}
	if on, err := f.has(ctx, n, tip); err != nil || !on && tip.Hash != head.Hash {
		return errors.Join(d, err)
	}
	g := f.deepGap(d.lowest, max(d.to, head.Number))
	if err := f.box.Halt(*g); err != nil { // the next step comes here again
		return err
	}
	f.halted = true
	f.board.gap(*g)
	f.logHalt(*g)
	return errHalted
}

func (f *follower) logHalt(g schema.Gap) {
	f.log.WithFields(logrus.Fields{"from": g.From, "to": g.To}).Error(
		"reorg too deep: this chain is halted until it is resumed by an operator, see --resume-halted")
}

// has tells whether a node has this block on its chain.
func (f *follower) has(ctx context.Context, n asker, p schema.Point) (bool, error) {
	const method = "eth_getBlockByNumber"
	raw, err := n.Ask(ctx, method, hexutil.EncodeUint64(p.Number), false)
	if err != nil || string(raw) == "null" {
		return false, err
	}
	h, err := n.Trust().DecodeHead(raw)
	if err != nil {
		return false, nodepool.BadAnswer(n.Name(), method, err)
	}
	return h.Hash == p.Hash, nil
}

// leftAt returns how many of the points, each an ancestor of the one before, are not on the node's chain.
func (f *follower) leftAt(ctx context.Context, n asker, points []schema.Point) (off int, err error) {
	for low, high, try := 0, len(points), 0; low < high; try = (low + high) / 2 { // mostly the first is on it
		on, err := f.has(ctx, n, points[try])
		switch {
		case err != nil:
			return 0, err
		case on:
			high = try
		default:
			low = try + 1
		}
		off = low
	}
	return off, nil
}

// from is a beginning after a block of the node's chain that is stored, with as many of its ancestors as a reorg may
// replace: they are stored as well.
func (f *follower) from(ctx context.Context, n asker, p schema.Point) (begun, error) {
	const method = "eth_getBlockByNumber"
	heads := make([]schema.Header, min(p.Number, reorgDepth+1)+1)
	args := make([][]any, len(heads))
	for i := range args {
		args[i] = []any{hexutil.EncodeUint64(p.Number - uint64(i)), false}
	}
	err := askAll(ctx, n, method, args, func(i int, raw json.RawMessage, err error) error {
		if i > 0 && (rpcCode(err) != 0 || string(raw) == "null") { // it may have forgotten what is old
			return nil
		}
		if err != nil {
			return err
		}
		heads[i], err = n.Trust().DecodeHead(raw)
		if err != nil {
			return nodepool.BadAnswer(n.Name(), method, err)
		}
		return nil
	})
	if err != nil {
		return begun{}, err
	}
	if heads[0].Hash != p.Hash {
		return begun{}, errMoved
	}
	at := begun{chain: f.chain, floor: p.Number, finished: []schema.Point{p}}
	for i := 1; i < len(heads) && !heads[i].Hash.IsZero(); i++ {
		if heads[i].Hash != heads[i-1].Parent {
			return begun{}, errMoved
		}
		at.floor = heads[i].Number
		at.finished = append(at.finished, schema.Point{Number: heads[i].Number, Hash: heads[i].Hash})
	}
	slices.Reverse(at.finished)
	return at, nil
}

// takeUp is how an operator's word ends a halt: from the fork if one of the points is on the node's chain, else as far
// back as after a pause, with an explicit gap below.
func (f *follower) takeUp(ctx context.Context, n asker, points []schema.Point, floor uint64) (begun, error) {
	off, err := f.leftAt(ctx, n, points)
	if err != nil {
		return begun{}, err
	}
	if off < len(points) {
		f.log.WithField("from", points[off].Number+1).Warn("resumed: going on from where the branches part")
		return f.from(ctx, n, points[off])
	}
	at := begun{chain: f.chain, floor: floor}
	if newest := points[0].Number; newest-min(newest, floor) > f.o.Backfill {
		at.floor = newest - f.o.Backfill
		at.gaps = []schema.Gap{{Chain: f.chain, From: floor, To: at.floor - 1,
			Reason: fmt.Sprintf("reorg deeper than the %d blocks that are fetched after a pause", f.o.Backfill)}}
	}
	f.log.WithField("from", at.floor).Error("resumed: the branches part below what is known, so that a part may be missing")
	return at, nil
}

// points returns the blocks that were finished, newest first and each an ancestor of the one before: those of branches
// that were left are not among them.
func (b begun) points() (out []schema.Point) {
	for _, p := range slices.Backward(b.finished) {
		if len(out) == 0 || p.Number < out[len(out)-1].Number {
			out = append(out, p)
		}
	}
	if len(out) == 0 {
		out = append(out, schema.Point{Number: b.floor})
	}
	return out
}
