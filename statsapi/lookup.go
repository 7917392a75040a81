package statsapi

import (
	"context"
	"fmt"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

// record finds the one record of a hash. Without a chain named it looks on every stored chain and on those in also; if
// several hold it, which happens where chains split, the client must name one.
func (a *API) record(ctx context.Context, hash schema.Hash, named chainParam, also ...uint64) (*schema.Record, error) {
	chain, err := named.read()
	if err != nil {
		return nil, err
	}
	chains := also
	if chain != nil {
		chains = []uint64{*chain}
	} else {
		states, err := a.opts.Store.Chains(ctx)
		if err != nil {
			return nil, err
		}
		chains = append(chains, chainIDs(states)...)
	}
	found, err := a.opts.Store.RecordsByKey(ctx, hash.Key(), chains)
	switch {
	case err != nil:
		return nil, err
	case len(found) == 1:
		return &found[0], nil
	case len(found) > 1:
		ids := make([]uint64, len(found))
		for i, r := range found {
			ids[i] = r.Chain
		}
		return nil, ambiguous(hash.String(), ids)
	case chain != nil:
		return nil, notFound("nothing with hash %s is stored on chain %d", hash, *chain)
	}
	return nil, notFound("nothing with hash %s is stored", hash)
}

// oneChain returns the chain that is named or, if none is, the only one.
func (a *API) oneChain(ctx context.Context, named chainParam, what string) (*schema.ChainState, error) {
	states, err := a.opts.Store.Chains(ctx)
	if err != nil {
		return nil, err
	}
	return pickChain(states, named, what)
}

func pickChain(states []schema.ChainState, named chainParam, what string) (*schema.ChainState, error) {
	chain, err := named.read()
	if err != nil {
		return nil, err
	}
	if chain != nil {
		for i := range states {
			if states[i].Chain == *chain {
				return &states[i], nil
			}
		}
		return nil, notFound("no block %s: nothing of chain %d is stored", what, *chain)
	}
	switch len(states) {
	case 0:
		return nil, notFound("no block %s: no block is stored yet", what)
	case 1:
		return &states[0], nil
	}
	return nil, ambiguous("block "+what, chainIDs(states))
}

// ambiguous answers 400 and names the chains to choose from.
func ambiguous(what string, chains []uint64) error {
	names := make([]string, len(chains))
	for i, c := range chains {
		names[i] = fmt.Sprint(c)
	}
	want := fmt.Sprintf("is needed: %s may be on each of chains %s", what, strings.Join(names, ", "))
	return huma.Error400BadRequest("chain "+want, &huma.ErrorDetail{Location: "query.chain", Message: want})
}
