package chain

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/firstseen/firstseen/schema"
)

// transaction is the part of a transaction object that every type has, also those of other chains that go-ethereum
// does not know. An unknown type therefore never fails a block.
type transaction struct {
	Hash  *common.Hash    `json:"hash"`
	Index *hexutil.Uint64 `json:"transactionIndex"`
	From  *common.Address `json:"from"`
	To    *common.Address `json:"to"`
	Value *hexutil.Big    `json:"value"`
}

// DecodeBlock is Verify's.
func DecodeBlock(chain uint64, raw json.RawMessage) (*Block, error) {
	return Verify.DecodeBlock(chain, raw)
}

// DecodeBlock reads a block with full transaction objects as eth_getBlockByHash and eth_getBlockByNumber answer it
// (execution-apis, "Block"), encodes its header as RLP again and compares the hash of that with the answer's own.
//
// The errors are ErrNoBlock for null, ErrHashMismatch for a header that was changed, and ErrMalformed for everything
// else that is not a block, transactions given by hash only among it. Fields it does not know are ignored.
func (t Trust) DecodeBlock(chain uint64, raw json.RawMessage) (*Block, error) {
	head, err := t.decodeJSON(raw)
	if err != nil {
		return nil, err
	}
	var listed []transaction
	if err := json.Unmarshal(head.txs, &listed); err != nil {
		return nil, fmt.Errorf("%w: transactions: %w", ErrMalformed, err)
	}
	txs, err := summaries(listed)
	if err != nil {
		return nil, err
	}
	h := &head.fields
	// Not the other way round: some chains list transactions that are not under the root (Bor's state sync).
	if len(txs) == 0 && h.TxHash != types.EmptyTxsHash && t == Verify {
		return nil, fmt.Errorf("%w: no transactions under a root that has some", ErrMalformed)
	}
	return &Block{
		Block: schema.Block{
			Chain:        chain,
			Header:       head.summary,
			GasLimit:     h.GasLimit,
			GasUsed:      h.GasUsed,
			BaseFee:      decimal(h.BaseFee),
			ExtraData:    schema.Bytes(h.Extra),
			StateRoot:    schema.Hash(h.Root),
			Transactions: txs,
		},
		HeaderRLP: head.rlp,
	}, nil
}

// summaries turns the node's transactions into ours. They must be numbered from 0 without a gap and differ in hash:
// both are keys in the store.
func summaries(txs []transaction) ([]schema.Transaction, error) {
	out := make([]schema.Transaction, len(txs))
	seen := make(map[common.Hash]bool, len(txs))
	for i := range txs {
		t := &txs[i]
		switch {
		case t.Hash == nil || t.Index == nil || t.From == nil || t.Value == nil:
			return nil, fmt.Errorf("%w: transaction %d lacks hash, index, from or value", ErrMalformed, i)
		case uint64(*t.Index) != uint64(i):
			return nil, fmt.Errorf("%w: transaction %d says it is number %d", ErrMalformed, i, uint64(*t.Index))
		case seen[*t.Hash]:
			return nil, fmt.Errorf("%w: transaction %s twice in one block", ErrMalformed, t.Hash)
		}
		seen[*t.Hash] = true
		out[i] = schema.Transaction{
			Hash:  schema.Hash(*t.Hash),
			Index: uint32(i), // bounded by the length of the answer
			From:  schema.Address(*t.From),
			To:    (*schema.Address)(t.To),
			Value: decimal((*big.Int)(t.Value)),
		}
	}
	return out, nil
}

// decimal writes n in base 10, and nothing for a field that the header does not have.
func decimal(n *big.Int) string {
	if n == nil {
		return ""
	}
	return n.String()
}
