package statsapi

import (
	"context"
	"math"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

type blockInput struct {
	ID    string     `path:"id" doc:"A hash with or without 0x, a height in decimal, latest, safe or finalized."`
	Chain chainParam `query:"chain" doc:"Needed for anything but a hash if several chains are stored."`
}

type blockOutput struct{ Body BlockDetail }

// getBlock answers a height with the block on the chain's branch; while none there is, with the one stored first. The
// others of that height are listed as siblings either way.
func (a *API) getBlock(ctx context.Context, in *blockInput) (*blockOutput, error) {
	record, err := a.findBlock(ctx, in)
	if err != nil {
		return nil, err
	}
	detail, err := a.detail(ctx, record)
	if err != nil {
		return nil, err
	}
	return &blockOutput{Body: *detail}, nil
}

// ObservationList is who saw a block.
type ObservationList struct {
	Data []Observation `json:"data" nullable:"false" doc:"In the order received; the first was first."`
}

type observationsOutput struct{ Body ObservationList }

func (a *API) getObservations(ctx context.Context, in *blockInput) (*observationsOutput, error) {
	record, err := a.findBlock(ctx, in)
	if err != nil {
		return nil, err
	}
	arrivals, err := a.opts.Store.Arrivals(ctx, record.ID)
	if err != nil {
		return nil, err
	}
	return &observationsOutput{Body: ObservationList{Data: observations(arrivals)}}, nil
}

func (a *API) findBlock(ctx context.Context, in *blockInput) (*schema.Record, error) {
	if hash, err := schema.ParseHash(in.ID); err == nil {
		return a.record(ctx, hash, in.Chain)
	}
	number, isNumber := decimal(in.ID)
	if !isNumber && !slices.Contains([]string{"latest", "safe", "finalized"}, in.ID) {
		return nil, notFound("no block %q: want a hash of 64 hex digits, a height in decimal, latest, safe or finalized",
			clip(in.ID))
	}
	chain, err := a.oneChain(ctx, in.Chain, in.ID)
	if err != nil {
		return nil, err
	}
	if isNumber {
		return a.blockAt(ctx, chain.Chain, number, in.ID)
	}
	if in.ID == "latest" {
		return a.record(ctx, chain.Head.Hash, chainParam(formatUint(chain.Chain)))
	}
	mark := chain.Safe
	if in.ID == "finalized" {
		mark = chain.Finalized
	}
	if mark == nil {
		return nil, notFound("no node has told yet which block of chain %d is %s", chain.Chain, in.ID)
	}
	return a.blockAt(ctx, chain.Chain, *mark, in.ID)
}

func (a *API) blockAt(ctx context.Context, chain, number uint64, text string) (*schema.Record, error) {
	var found []schema.Record
	if number <= math.MaxInt64 { // what a signed column can hold
		var err error
		if found, err = a.opts.Store.BlocksAt(ctx, chain, number); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, notFound("no block %s on chain %d", clip(text), chain)
	}
	i := max(0, slices.IndexFunc(found, func(r schema.Record) bool { return r.Status.OnBranch() }))
	return &found[i], nil
}

func (a *API) detail(ctx context.Context, r *schema.Record) (*BlockDetail, error) {
	transactions, err := a.opts.Store.TransactionsOf(ctx, r.Key)
	if err != nil {
		return nil, err
	}
	arrivals, err := a.opts.Store.Arrivals(ctx, r.ID)
	if err != nil {
		return nil, err
	}
	level, err := a.opts.Store.BlocksAt(ctx, r.Chain, r.Header.Number)
	if err != nil {
		return nil, err
	}
	out := &BlockDetail{
		Block: blockOf(*r, uint64(len(transactions))), Siblings: []string{},
		Observations: observations(arrivals), Transactions: make([]Transaction, len(transactions)),
	}
	for _, other := range level {
		if other.ID != r.ID {
			out.Siblings = append(out.Siblings, other.Header.Hash.String())
		}
	}
	for i, t := range transactions {
		out.Transactions[i] = transactionOf(t)
	}
	return out, nil
}

func blockOf(r schema.Record, transactions uint64) Block {
	b := Block{
		Chain: Number(r.Chain), Number: Number(r.Header.Number), Hash: r.Header.Hash.String(),
		Parent: r.Header.Parent.String(), Time: Time{r.Header.Time}, Status: string(r.Status),
		Observer: r.Observer, Node: r.Node, Origin: string(r.Origin), Server: r.Server,
		ReceivedAt: Time{r.ReceivedAt}, ContentType: r.ContentType, TransactionCount: Number(transactions),
	}
	if r.ObservedAt != nil {
		b.ObservedAt = Time{*r.ObservedAt}
	}
	return b
}

func observations(arrivals []schema.Arrival) []Observation {
	out := make([]Observation, len(arrivals))
	for i, o := range arrivals {
		out[i] = Observation{
			Observer: o.Observer, Node: o.Node, Server: o.Server, Origin: string(o.Origin),
			ObservedAt: Time{o.ObservedAt}, ReceivedAt: Time{o.ReceivedAt},
			DelaySeconds: o.ReceivedAt.Sub(arrivals[0].ReceivedAt).Seconds(),
		}
	}
	return out
}

func transactionOf(t schema.Transaction) Transaction {
	return Transaction{
		Hash: t.Hash.String(), Index: t.Index, From: t.From.String(), To: addressText(t.To), Value: t.Value,
		GasUsed: t.GasUsed, Status: t.Status, Contract: addressText(t.Contract),
	}
}

func addressText(a *schema.Address) *string {
	if a == nil {
		return nil
	}
	s := a.String()
	return &s
}
