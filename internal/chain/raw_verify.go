package chain

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/trie"
	jsonv2 "github.com/go-json-experiment/json"

	"github.com/firstseen/firstseen/schema"
)

// VerifyRaw proves what can be proved of a node's answers about the block of that hash: the header hashes to it, and
// transactions, withdrawals and receipts are those under the header's roots. Where a transaction is of a type that is
// not known here, those of transactions and receipts are not compared. Every transaction, receipt and log names the block
// and its own place in it.
//
// Senders, effective gas prices, created contracts and what nodes add beyond the specification remain the node's claim.
// With Believe nothing is hashed, only shape and names of blocks and places are checked.
//
// The errors are DecodeBlock's, ErrRoot, and ErrReceipts where only the receipts are at fault.
func (t Trust) VerifyRaw(hash schema.Hash, raw schema.RawBlock) error {
	if err := checkNames(raw.Block, raw.Receipts); err != nil {
		return err
	}
	head, err := t.decodeJSON(raw.Block)
	if err != nil {
		return err
	}
	if head.summary.Hash != hash {
		return fmt.Errorf("%w: raw JSON of block %s", ErrHashMismatch, head.summary.Hash)
	}
	b := &rawBlock{trust: t, verified: head}
	if err := b.transactions(); err != nil {
		return err
	}
	if err := b.lists(); err != nil {
		return err
	}
	if raw.Receipts == nil {
		return nil
	}
	if err := b.receipts(raw.Receipts); err != nil {
		return fmt.Errorf("%w: %w", ErrReceipts, err)
	}
	return nil
}

// rawBlock is a block whose raw JSON is being verified.
type rawBlock struct {
	*verified
	trust   Trust
	places  []place            // of the transactions
	decoded types.Transactions // shorter than places if one is of a type that is not known
}

// place is how transactions, receipts and logs name the block they belong to and their place in it.
type place struct {
	Block  *common.Hash    `json:"blockHash"`
	Number *hexutil.Uint64 `json:"blockNumber"`
	Index  *hexutil.Uint64 `json:"transactionIndex"`
	Tx     *common.Hash    `json:"transactionHash"` // of receipts and logs
	Hash   *common.Hash    `json:"hash"`            // of transactions
	From   *common.Address `json:"from"`
}

// at tells whether p is the i-th place of the block.
func (b *rawBlock) at(p *place, i int) bool {
	return p.Block != nil && schema.Hash(*p.Block) == b.summary.Hash && p.Number != nil &&
		uint64(*p.Number) == b.summary.Number && p.Index != nil && uint64(*p.Index) == uint64(i)
}

func (b *rawBlock) transactions() error {
	if err := elements(b.txs, b.transaction); err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	if b.hashed() && types.DeriveSha(b.decoded, trie.NewStackTrie(nil)) != b.fields.TxHash {
		return fmt.Errorf("transactions: %w", ErrRoot)
	}
	return nil
}

func (b *rawBlock) transaction(i int, text json.RawMessage) error {
	var p place
	if err := jsonv2.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("%w: number %d: %w", ErrMalformed, i, err)
	}
	if !b.at(&p, i) || p.Hash == nil || p.From == nil {
		return fmt.Errorf("%w: number %d is of another block or place, or lacks hash or sender", ErrMalformed, i)
	}
	known := b.hashed()
	b.places = append(b.places, p)
	if !known {
		return nil
	}
	tx := new(types.Transaction)
	switch err := tx.UnmarshalJSON(text); {
	case errors.Is(err, types.ErrTxTypeNotSupported):
		return nil
	case err != nil:
		return fmt.Errorf("%w: number %d: %w", ErrMalformed, i, err)
	case tx.Hash() != *p.Hash:
		return fmt.Errorf("%w: number %d is not %s", ErrHashMismatch, i, p.Hash)
	}
	b.decoded = append(b.decoded, tx)
	return nil
}

// hashed tells whether the lists of transactions and receipts can be held against their roots: all transactions so far
// are of a type that is known.
func (b *rawBlock) hashed() bool { return b.trust == Verify && len(b.decoded) == len(b.places) }

// maxWithdrawals is far above the 16 that a block of the consensus layer has.
const maxWithdrawals = 1 << 12

// lists checks the block's other lists.
func (b *rawBlock) lists() error {
	var (
		withdrawals types.Withdrawals
		uncles      []common.Hash
	)
	if text := b.rest["withdrawals"]; text != nil && !isNull(text) {
		err := elements(text, func(i int, text json.RawMessage) error {
			if i == maxWithdrawals {
				return fmt.Errorf("%w: more than %d", ErrMalformed, i)
			}
			withdrawals = append(withdrawals, new(types.Withdrawal))
			return withdrawals[i].UnmarshalJSON(text)
		})
		if err != nil {
			return fmt.Errorf("%w: withdrawals: %w", ErrMalformed, err)
		}
	}
	if text := b.rest["uncles"]; text != nil && json.Unmarshal(text, &uncles) != nil {
		return fmt.Errorf("%w: uncles", ErrMalformed)
	}
	if b.trust == Believe {
		return nil
	}
	root := types.EmptyWithdrawalsHash
	if b.fields.WithdrawalsHash != nil {
		root = *b.fields.WithdrawalsHash
	}
	if types.DeriveSha(withdrawals, trie.NewStackTrie(nil)) != root {
		return fmt.Errorf("withdrawals: %w", ErrRoot)
	}
	if (len(uncles) == 0) != (b.fields.UncleHash == types.EmptyUncleHash) { // of which no more is there than their hashes
		return fmt.Errorf("uncles: %w", ErrRoot)
	}
	return nil
}

// rawReceipts is what was read of the receipts so far.
type rawReceipts struct {
	*rawBlock
	n       int
	decoded types.Receipts
	gas     uint64 // used so far
	logs    uint64
}

func (b *rawBlock) receipts(text json.RawMessage) error {
	r := &rawReceipts{rawBlock: b}
	if err := elements(text, r.receipt); err != nil {
		return err
	}
	if r.n != len(b.places) {
		return fmt.Errorf("%d for %d transactions", r.n, len(b.places))
	}
	if b.hashed() && types.DeriveSha(r.decoded, trie.NewStackTrie(nil)) != b.fields.ReceiptHash {
		return ErrRoot
	}
	return nil
}

func (r *rawReceipts) receipt(i int, text json.RawMessage) error {
	if r.n++; r.n > len(r.places) {
		return fmt.Errorf("more than %d transactions have", len(r.places))
	}
	var p place
	if err := jsonv2.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("number %d: %w", i, err)
	}
	tx := &r.places[i]
	if !r.at(&p, i) || p.Tx == nil || *p.Tx != *tx.Hash || p.From == nil || *p.From != *tx.From {
		return fmt.Errorf("number %d is of another block, transaction, place or sender", i)
	}
	if !r.hashed() {
		return nil
	}
	got := new(types.Receipt)
	if err := got.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("number %d: %w", i, err)
	}
	if got.Type != r.rawBlock.decoded[i].Type() {
		return fmt.Errorf("number %d is of another type than its transaction", i)
	}
	if got.CumulativeGasUsed-r.gas != got.GasUsed {
		return fmt.Errorf("number %d: gas used is not what it adds to those before", i)
	}
	r.gas = got.CumulativeGasUsed
	for _, l := range got.Logs {
		if l.BlockHash != *p.Block || l.BlockNumber != r.summary.Number || l.TxHash != *p.Tx ||
			uint64(l.TxIndex) != uint64(i) || uint64(l.Index) != r.logs || l.Removed {
			return fmt.Errorf("number %d: a log is of another block, transaction or place, or removed", i)
		}
		r.logs++
	}
	r.decoded = append(r.decoded, got)
	return nil
}
