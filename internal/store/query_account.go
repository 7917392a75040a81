package store

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// heldRow is a transaction in one block, without the block's status.
type heldRow struct {
	ID     uint64
	Placed placedRow `gorm:"embedded"`
}

const heldColumns = "id, chain, block, number, hash, tx_index, sender, recipient, value, gas_used, tx_status, contract"

// place looks up the statuses of the blocks that rows of transactions are in.
func (s *Store) place(ctx context.Context, rows []heldRow) ([]schema.PlacedTransaction, error) {
	keys := map[uint64][]string{} // by chain
	for _, r := range rows {
		keys[r.Placed.Chain] = append(keys[r.Placed.Chain], r.Placed.Block)
	}
	type block struct {
		chain uint64
		key   string
	}
	statuses := map[block]string{}
	for chain, of := range keys {
		var found []recordRow
		err := s.db.WithContext(ctx).Select("key", "status").Where(map[string]any{"chain": chain, "key": of}).
			Find(&found).Error
		if err != nil {
			return nil, fmt.Errorf("read blocks of transactions: %w", err)
		}
		for _, r := range found {
			statuses[block{chain, r.Key}] = deref(r.Status)
		}
	}
	placed := make([]placedRow, len(rows))
	for i, r := range rows {
		placed[i] = r.Placed
		placed[i].Status = statuses[block{r.Placed.Chain, r.Placed.Block}]
	}
	return placedTransactions(placed)
}

// ListTransactions returns up to limit transactions of an account in the order that schema.TransactionPlace describes, after
// a place or from the start. Next and short answers are as with ListBlocks.
//
// Each role is read along its own index on each chain.
func (s *Store) ListTransactions(
	ctx context.Context, f schema.TransactionFilter, ascending bool, after *schema.TransactionPlace, limit int,
) ([]schema.PlacedTransaction, *schema.TransactionPlace, error) {
	rows, next, err := s.heldBy(ctx, f, ascending, after, limit, heldColumns)
	if err != nil {
		return nil, nil, err
	}
	out, err := s.place(ctx, rows)
	return out, next, err
}

// heldBy reads columns of the rows that ListTransactions lists.
func (s *Store) heldBy(
	ctx context.Context, f schema.TransactionFilter, ascending bool, after *schema.TransactionPlace, limit int,
	columns string,
) ([]heldRow, *schema.TransactionPlace, error) {
	var (
		parts  []part[heldRow]
		chains []uint64 // of each part
	)
	for _, chain := range f.Chains {
		for _, w := range accountWalks(chain, f, ascending) {
			found, err := walked(ctx, s, w, startOfTransactions(chain, after, ascending), limit,
				func(db *gorm.DB) *gorm.DB { return db.Select(columns) },
				func(r *heldRow) []uint64 {
					return []uint64{r.Placed.Number, uint64(r.Placed.Transaction.TxIndex), r.ID}
				})
			if err != nil {
				return nil, nil, fmt.Errorf("list transactions of account: %w", err)
			}
			parts, chains = append(parts, found), append(chains, chain)
		}
	}
	rows, next := merge(parts, limit,
		func(r *heldRow) schema.TransactionPlace {
			p := r.Placed
			return schema.TransactionPlace{
				Number: p.Number, Chain: p.Chain, Index: uint64(p.Transaction.TxIndex), ID: r.ID,
			}
		},
		func(i int, next []uint64) schema.TransactionPlace {
			return schema.TransactionPlace{Number: next[0], Chain: chains[i], Index: next[1], ID: next[2]}
		},
		func(a, b schema.TransactionPlace) int {
			return cmp.Or(
				directed(cmp.Compare(a.Number, b.Number), ascending), cmp.Compare(a.Chain, b.Chain),
				directed(cmp.Compare(a.Index, b.Index), ascending), directed(cmp.Compare(a.ID, b.ID), ascending),
			)
		})
	return rows, next, nil
}

// accountWalks are the walks that find an account's transactions on one chain, one for each role.
func accountWalks(chain uint64, f schema.TransactionFilter, ascending bool) []walk {
	columns := map[schema.AccountRole]string{
		schema.RoleSender: "sender", schema.RoleRecipient: "recipient", schema.RoleContract: "contract",
	}
	roles := f.Roles
	if len(roles) == 0 {
		roles = []schema.AccountRole{schema.RoleSender, schema.RoleRecipient, schema.RoleContract}
	}
	var filter condition
	if f.Sender != nil {
		filter.and("sender = ?", f.Sender.Digits())
	}
	if f.Recipient != nil {
		filter.and("recipient = ?", f.Recipient.Digits())
	}
	if f.MinValue != nil {
		filter.and("value >= ?", f.MinValue)
	}
	if len(f.Statuses) > 0 {
		filter.and("EXISTS (SELECT 1 FROM records r WHERE r.chain = transactions.chain AND r.`key` = transactions.block "+
			"AND r.status IN ?)", f.Statuses)
	}
	bounds := heights(schema.RecordFilter{From: f.From, To: f.To})
	out := make([]walk, len(roles))
	for i, role := range roles {
		out[i] = walk{
			table: "transactions", index: "transactions_" + columns[role], order: []string{"number", "tx_index", "id"},
			ascending: ascending, bounds: bounds, filter: filter,
			fixed: condition{"chain = ? AND " + columns[role] + " = ?", []any{chain, f.Account.Digits()}},
		}
	}
	return out
}

// startOfTransactions is where a place among the transactions of all chains lies among those of one.
func startOfTransactions(chain uint64, after *schema.TransactionPlace, ascending bool) []uint64 {
	if after == nil {
		return nil
	}
	if chain == after.Chain {
		return []uint64{after.Number, after.Index, after.ID}
	}
	block := startOnChain(chain, &schema.BlockPlace{Number: after.Number, Chain: after.Chain}, ascending)
	return []uint64{block[0], block[1], block[1]}
}

// AccountOn returns what is known of an account on a chain, or nil if nothing is. Counts go up to most.
func (s *Store) AccountOn(
	ctx context.Context, chain uint64, account schema.Address, most int,
) (*schema.AccountState, error) {
	out := &schema.AccountState{Chain: chain}
	known := false
	for i, w := range accountWalks(chain, schema.TransactionFilter{Account: account}, false) {
		first, last, err := s.ends(ctx, w)
		if err != nil {
			return nil, err
		}
		if first == nil {
			continue
		}
		if !known || first.Placed.Number < out.FirstSeen {
			out.FirstSeen = first.Placed.Number
		}
		out.LastSeen = max(out.LastSeen, last.Placed.Number)
		known = true
		switch i {
		case 0:
			out.Sent, err = s.countAlong(ctx, w, most)
		case 1:
			out.Received, err = s.countAlong(ctx, w, most)
		default:
			out.Created, err = s.creation(ctx, w)
		}
		if err != nil {
			return nil, err
		}
	}
	if !known {
		return nil, nil
	}
	return out, nil
}

// ends returns the first and the last row of a walk; nil if it has none.
func (s *Store) ends(ctx context.Context, w walk) (first, last *heldRow, err error) {
	for _, end := range []**heldRow{&last, &first} {
		var rows []heldRow
		err := s.along(ctx, w, nil).Select("id, number").Order(w.by()).Limit(1).Find(&rows).Error
		if err != nil {
			return nil, nil, fmt.Errorf("read ends of account: %w", err)
		}
		if len(rows) == 0 {
			return nil, nil, nil
		}
		*end = &rows[0]
		w.ascending = !w.ascending
	}
	return first, last, nil
}

// countAlong counts the rows of a walk up to most.
func (s *Store) countAlong(ctx context.Context, w walk, most int) (uint64, error) {
	var n int64
	err := s.db.WithContext(ctx).Table("(?) AS part", s.along(ctx, w, nil).Select("1 AS one").Limit(most)).
		Count(&n).Error
	if err != nil {
		return 0, fmt.Errorf("count transactions of account: %w", err)
	}
	return uint64(n), nil
}

// creation returns the transaction that created a contract; where siblings contain several, that on the branch.
func (s *Store) creation(ctx context.Context, w walk) (*schema.PlacedTransaction, error) {
	var rows []heldRow
	err := s.along(ctx, w, nil).Select(heldColumns).Order(w.by()).Limit(maxPlaces).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read creation of contract: %w", err)
	}
	found, err := s.place(ctx, rows)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	i := max(0, slices.IndexFunc(found, func(i schema.PlacedTransaction) bool { return i.BlockStatus.OnBranch() }))
	return &found[i], nil
}

// PageTransactions is ListTransactions after skipping some, which reads the indexes that far: it costs more the farther
// it goes. Of the filter only account, chains, roles and heights count.
func (s *Store) PageTransactions(
	ctx context.Context, f schema.TransactionFilter, ascending bool, skip, limit int,
) ([]schema.PlacedTransaction, *schema.TransactionPlace, error) {
	f = schema.TransactionFilter{Account: f.Account, Chains: f.Chains, Roles: f.Roles, From: f.From, To: f.To}
	rows, next, err := s.heldBy(ctx, f, ascending, nil, skip+limit, "id, chain, number, tx_index")
	if err != nil || len(rows) <= skip {
		return nil, nil, err
	}
	order := make(map[uint64]int, limit)
	for i, r := range rows[skip:] {
		order[r.ID] = i
	}
	var found []heldRow
	err = s.db.WithContext(ctx).Table("transactions").Select(heldColumns).Where("id IN ?", slices.Collect(maps.Keys(order))).
		Find(&found).Error
	if err != nil {
		return nil, nil, fmt.Errorf("read page of transactions: %w", err)
	}
	slices.SortFunc(found, func(a, b heldRow) int { return cmp.Compare(order[a.ID], order[b.ID]) })
	out, err := s.place(ctx, found)
	return out, next, err
}

// CountTransactions counts what PageTransactions pages through, up to most.
func (s *Store) CountTransactions(ctx context.Context, f schema.TransactionFilter, most int) (uint64, error) {
	total := uint64(0)
	for _, chain := range f.Chains {
		for _, w := range accountWalks(chain, f, false) {
			if w.index == "transactions_recipient" && len(f.Roles) == 0 {
				w.fixed.and("sender <> ?", f.Account.Digits()) // those have been counted
			}
			n, err := s.countAlong(ctx, w, most)
			if err != nil {
				return 0, err
			}
			total += n
		}
	}
	return min(total, uint64(most)), nil
}
