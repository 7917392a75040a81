package statsapi

import (
	"cmp"
	"context"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

type statsOutput struct{ Body Stats }

func (a *API) stats(ctx context.Context, _ *struct{}) (*statsOutput, error) {
	states, err := a.opts.Store.Chains(ctx)
	if err != nil {
		return nil, err
	}
	t, err := a.counter.totals(ctx)
	if err != nil {
		return nil, err
	}
	out := Stats{
		Time: Time{a.opts.Now()}, Bare: Number(t.Bare), Transactions: Number(t.Transactions),
		Observations: Number(t.Observations), FeedSeq: Number(t.Seq),
		Chains: []ChainStats{}, Observers: []FirstCount{}, Connections: connectionSum(a.opts.Presence.Snapshot()),
	}
	for _, n := range t.Blocks {
		out.Blocks += Number(n)
	}
	out.Records = out.Blocks + out.Bare
	// Observations may have been counted a moment before the blocks.
	out.Duplicates = max(out.Observations, out.Blocks) - out.Blocks
	for _, s := range states {
		out.Chains = append(out.Chains, chainStats(s, t.Blocks[s.Chain]))
	}
	for observer, n := range t.First {
		out.Observers = append(out.Observers, FirstCount{observer, Number(n)})
	}
	slices.SortFunc(out.Observers, func(a, b FirstCount) int { return cmp.Compare(a.Observer, b.Observer) })
	return &statsOutput{Body: out}, nil
}

func chainStats(s schema.ChainState, blocks uint64) ChainStats {
	out := ChainStats{
		Chain: Number(s.Chain), Blocks: Number(blocks),
		Root: Point{Number(s.Root.Number), s.Root.Hash.String()},
		Head: Point{Number(s.Head.Number), s.Head.Hash.String()},
		Safe: optional(s.Safe), Finalized: optional(s.Finalized),
	}
	if s.Halted != "" {
		out.Halted = &s.Halted
	}
	return out
}
