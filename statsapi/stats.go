package statsapi

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/firstseen/firstseen/schema"
)

const (
	// rateWindow is what rates are taken over.
	rateWindow = time.Minute
	// rateRows is how many records are looked at for them.
	rateRows = 5000
)

type statsOutput struct{ Body Stats }

func (a *API) routeStats() {
	get(a, "/v1/stats", "getStats", "Everything in a few numbers", a.stats)
}

func (a *API) stats(ctx context.Context, _ *struct{}) (*statsOutput, error) {
	states, err := a.opts.Store.Chains(ctx)
	if err != nil {
		return nil, err
	}
	t, err := a.counter.totals(ctx)
	if err != nil {
		return nil, err
	}
	lately, err := a.rates.get(ctx, "", a.lately)
	if err != nil {
		return nil, err
	}
	out := Stats{
		Time: Time{a.opts.Now()}, Bare: Number(t.Bare), Transactions: Number(t.Transactions),
		Observations: Number(t.Observations), FeedSeq: Number(t.Seq), Rates: lately.all,
		Chains: []ChainStats{}, Servers: []ServerStats{}, Observers: []FirstCount{},
		Connections: connectionSum(a.opts.Presence.Snapshot()),
	}
	for _, n := range t.Blocks {
		out.Blocks += Number(n)
	}
	out.Records = out.Blocks + out.Bare
	// Observations may have been counted a moment before the blocks.
	out.Duplicates = max(out.Observations, out.Blocks) - out.Blocks
	for _, s := range states {
		chain := chainStats(s, t.Blocks[s.Chain])
		chain.BlocksPerSecond, chain.TransactionsPerSecond = lately.blocks[s.Chain], lately.transactions[s.Chain]
		out.Chains = append(out.Chains, chain)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Servers)) {
		out.Servers = append(out.Servers, ServerStats{name, Number(t.Servers[name]), lately.servers[name]})
	}
	for _, name := range slices.SortedFunc(maps.Keys(t.First), cmp.Compare) {
		out.Observers = append(out.Observers, FirstCount{name, Number(t.First[name]), lately.observers[name]})
	}
	return &statsOutput{Body: out}, nil
}

// rates is what was received lately, by the second.
type rates struct {
	all                Rates
	blocks             map[uint64]float64 // by chain
	transactions       map[uint64]float64 // by chain
	servers, observers map[string]float64
}

// lately looks at the last minute. Servers and this process may differ in their clocks by a little of it.
func (a *API) lately(ctx context.Context) (rates, error) {
	now := a.opts.Now()
	recent, err := a.opts.Store.Recent(ctx, now.Add(-rateWindow), rateRows)
	if err != nil {
		return rates{}, err
	}
	window := max(now.Sub(recent.Since), time.Second).Seconds()
	out := rates{
		all: Rates{WindowSeconds: window}, blocks: map[uint64]float64{}, transactions: map[uint64]float64{},
		servers: map[string]float64{}, observers: map[string]float64{},
	}
	for _, g := range recent.Groups {
		rate := float64(g.Records) / window
		out.all.Records += rate
		out.servers[g.Server] += rate
		if g.Chain != schema.BareChain {
			out.all.Blocks += rate
			out.blocks[g.Chain] += rate
			out.observers[g.Observer] += rate
		}
	}
	for chain, n := range recent.Transactions {
		out.transactions[chain] = float64(n) / window
		out.all.Transactions += out.transactions[chain]
	}
	return out, nil
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
