package statsapi

import (
	"context"
	"net/http"

	"github.com/firstseen/firstseen/schema"
)

// PlacedTransaction is a transaction in one block.
type PlacedTransaction struct {
	Transaction
	Block BlockRef `json:"block" doc:"The block that it is in."`
}

// BlockRef names a block and tells where it stands.
type BlockRef struct {
	Chain  Number `json:"chain"`
	Number Number `json:"number"`
	Hash   string `json:"hash" pattern:"^0x[0-9a-f]{64}$"`
	Status string `json:"status" enum:"canonical,non_canonical,safe,finalized,orphaned"`
}

// TransactionDetail is a transaction in the block on its chain's branch or, while no block there has it, in the one
// stored first.
type TransactionDetail struct {
	PlacedTransaction
	Others []BlockRef `json:"others" nullable:"false" doc:"Other stored blocks that contain it, siblings most often."`
}

type transactionInput struct {
	Hash  string     `path:"hash" doc:"The transaction's hash, with or without 0x."`
	Chain chainParam `query:"chain" doc:"Needed only if it is on several chains."`
}

type transactionOutput struct{ Body TransactionDetail }

func (a *API) routeTransactions() {
	get(a, "/v1/transactions/{hash}", "getTransaction", "One transaction, and the blocks that contain it",
		a.getTransaction, http.StatusNotFound)
}

func (a *API) getTransaction(ctx context.Context, in *transactionInput) (*transactionOutput, error) {
	hash, err := schema.ParseHash(in.Hash)
	if err != nil {
		return nil, notFound("no transaction %q: a hash is 64 hex digits", clip(in.Hash))
	}
	chain, err := in.Chain.read()
	if err != nil {
		return nil, err
	}
	places, err := a.opts.Store.PlacesOf(ctx, hash)
	if err != nil {
		return nil, err
	}
	var found []schema.PlacedTransaction
	var chains []uint64
	for _, p := range places {
		if chain == nil || p.Chain == *chain {
			found, chains = append(found, p), append(chains, p.Chain)
		}
	}
	switch several := distinct(chains); {
	case len(found) == 0:
		return nil, notFound("no block with transaction %s is stored", hash)
	case len(several) > 1:
		return nil, ambiguous("transaction "+hash.String(), several)
	}
	main := 0
	for i, p := range found {
		if p.BlockStatus.OnBranch() {
			main = i
			break
		}
	}
	out := TransactionDetail{PlacedTransaction: placedOf(found[main]), Others: []BlockRef{}}
	for i, p := range found {
		if i != main {
			out.Others = append(out.Others, blockRefOf(p))
		}
	}
	return &transactionOutput{Body: out}, nil
}

func placedOf(p schema.PlacedTransaction) PlacedTransaction {
	return PlacedTransaction{Transaction: transactionOf(p.Transaction), Block: blockRefOf(p)}
}

func blockRefOf(p schema.PlacedTransaction) BlockRef {
	return BlockRef{
		Chain: Number(p.Chain), Number: Number(p.Block.Number), Hash: p.Block.Hash.String(), Status: string(p.BlockStatus),
	}
}
