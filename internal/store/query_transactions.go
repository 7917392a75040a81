package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// maxPlaces bounds in how many blocks a transaction is looked for. More than a few means that somebody makes blocks up.
const maxPlaces = 100

// branchStatuses are those of blocks on the branch of their chain's head.
func branchStatuses() []schema.Status {
	return []schema.Status{schema.StatusCanonical, schema.StatusSafe, schema.StatusFinalized}
}

// placedRow is a row of transactions beside the status of its block.
type placedRow struct {
	Transaction storedTransaction `gorm:"embedded"`
	Chain       uint64
	Block       string
	Number      uint64
	Status      string
}

// placed joins transactions with the blocks that hold them.
func (s *Store) placed(ctx context.Context) *gorm.DB {
	return s.db.WithContext(ctx).Table("transactions t").Joins("JOIN records r ON r.chain = t.chain AND r.`key` = t.block")
}

const placedColumns = "t.hash, t.tx_index, t.sender, t.recipient, t.value, t.gas_used, t.tx_status, t.contract, t.chain, " +
	"t.block, t.number, r.status"

// PlacesOf returns a transaction in each block that holds it, those stored earlier first.
func (s *Store) PlacesOf(ctx context.Context, hash schema.Hash) ([]schema.PlacedTransaction, error) {
	var rows []placedRow
	err := s.placed(ctx).Select(placedColumns).Where("t.hash = ?", string(hash.Key())).Limit(maxPlaces).Order("t.id").
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read places of a transaction: %w", err)
	}
	return placedTransactions(rows)
}

// SentBy returns the transactions on a chain's branch that an account sent, newest first, after skipping some. Skipping
// walks the index: it costs more the farther it goes.
func (s *Store) SentBy(
	ctx context.Context, chain uint64, account schema.Address, skip, limit int,
) ([]schema.PlacedTransaction, error) {
	var rows []placedRow
	err := s.sent(ctx, chain, account).Select(placedColumns).Order("t.number DESC, t.tx_index DESC").
		Offset(skip).Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read transactions of an account: %w", err)
	}
	return placedTransactions(rows)
}

// CountSentBy counts what SentBy lists, up to a limit beyond which it does not look.
func (s *Store) CountSentBy(ctx context.Context, chain uint64, account schema.Address, limit int) (uint64, error) {
	var n int64
	some := s.sent(ctx, chain, account).Select("t.id").Limit(limit)
	if err := s.db.WithContext(ctx).Table("(?) AS some", some).Count(&n).Error; err != nil {
		return 0, fmt.Errorf("count transactions of an account: %w", err)
	}
	return uint64(n), nil
}

func (s *Store) sent(ctx context.Context, chain uint64, account schema.Address) *gorm.DB {
	return s.placed(ctx).Where("t.chain = ? AND t.sender = ? AND r.status IN ?", chain, account.Digits(), branchStatuses())
}

// TransactionHashes returns the hashes of each block's transactions in the block's order; a block without any is left
// out.
func (s *Store) TransactionHashes(ctx context.Context, blocks []schema.Key) (map[schema.Key][]schema.Hash, error) {
	out := make(map[schema.Key][]schema.Hash, len(blocks))
	type row struct {
		Hash    string
		TxIndex uint32
	}
	for _, block := range blocks {
		var rows []row
		// Block by block: for many at once there is no index that has them in order.
		err := s.db.WithContext(ctx).Table("transactions").Select("hash, tx_index").Where("block = ?", string(block)).
			Find(&rows).Error
		if err != nil {
			return nil, fmt.Errorf("read hashes of transactions: %w", err)
		}
		slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.TxIndex, b.TxIndex) })
		for _, r := range rows {
			hash, err := schema.ParseHash(r.Hash)
			if err != nil {
				return nil, fmt.Errorf("stored transaction hash %q: %w", r.Hash, err)
			}
			out[block] = append(out[block], hash)
		}
	}
	return out, nil
}

func placedTransactions(rows []placedRow) ([]schema.PlacedTransaction, error) {
	out := make([]schema.PlacedTransaction, len(rows))
	for i, r := range rows {
		t, err := r.Transaction.transaction()
		if err != nil {
			return nil, err
		}
		block, err := point(r.Number, r.Block)
		if err != nil {
			return nil, err
		}
		out[i] = schema.PlacedTransaction{
			Transaction: t, Chain: r.Chain, Block: block, BlockStatus: schema.Status(r.Status),
		}
	}
	return out, nil
}
