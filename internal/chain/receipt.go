package chain

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/firstseen/firstseen/schema"
)

// receipt is the part of a receipt object that goes into a transaction's summary, and what ties it to its block.
type receipt struct {
	Block    *common.Hash    `json:"blockHash"`
	Tx       *common.Hash    `json:"transactionHash"`
	Index    *hexutil.Uint64 `json:"transactionIndex"`
	GasUsed  *hexutil.Uint64 `json:"gasUsed"`
	Status   *hexutil.Uint64 `json:"status"`
	Contract *common.Address `json:"contractAddress"`
}

// ApplyReceipts fills in gas used, status and created contract from the block's receipts (execution-apis, "Receipt"),
// one per transaction and in its order. Receipts of another block, of another transaction, or too few or too many give
// ErrReceipts and leave the block as it was. A receipt from before Byzantium carries no status; it stays nil.
func (b *Block) ApplyReceipts(raw []json.RawMessage) error {
	if len(raw) != len(b.Transactions) {
		return fmt.Errorf("%w: %d receipts for %d transactions", ErrReceipts, len(raw), len(b.Transactions))
	}
	filled := make([]schema.Transaction, len(raw))
	for i, r := range raw {
		tx, err := b.withReceipt(b.Transactions[i], r)
		if err != nil {
			return fmt.Errorf("%w: receipt %d: %w", ErrReceipts, i, err)
		}
		filled[i] = tx
	}
	copy(b.Transactions, filled)
	return nil
}

func (b *Block) withReceipt(tx schema.Transaction, raw json.RawMessage) (schema.Transaction, error) {
	var r receipt
	if err := json.Unmarshal(raw, &r); err != nil {
		return tx, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	switch {
	case r.Block == nil || r.Tx == nil || r.Index == nil || r.GasUsed == nil:
		return tx, fmt.Errorf("%w: lacks block hash, transaction hash, index or gas used", ErrMalformed)
	case schema.Hash(*r.Block) != b.Hash:
		return tx, fmt.Errorf("of block %s", r.Block)
	case schema.Hash(*r.Tx) != tx.Hash || uint64(*r.Index) != uint64(tx.Index):
		return tx, fmt.Errorf("of transaction %d %s", uint64(*r.Index), r.Tx)
	case *r.GasUsed > math.MaxInt64: // what databases hold
		return tx, fmt.Errorf("%w: gas used %d", ErrMalformed, uint64(*r.GasUsed))
	case r.Status != nil && *r.Status > 1:
		return tx, fmt.Errorf("%w: status %d", ErrMalformed, uint64(*r.Status))
	}
	gas := uint64(*r.GasUsed)
	tx.GasUsed = &gas
	if r.Status != nil {
		status := uint8(*r.Status)
		tx.Status = &status
	}
	// Nodes name the address of a creation that failed too, but nothing was created there.
	if tx.To == nil && (tx.Status == nil || *tx.Status == 1) {
		tx.Contract = (*schema.Address)(r.Contract)
	}
	return tx, nil
}
