package store

import (
	"context"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// Branch passes on the blocks on a chain's branch from one height to another, both included, in order, as one moment had
// them. It ends early with an error of each.
func (s *Store) Branch(ctx context.Context, chain, from, to uint64, each func(schema.BranchHeader) error) error {
	w := walk{table: "records", index: "records_chain_number"}
	rows, err := s.db.WithContext(ctx).Table(w.from(s.dialect)).Select("number, `key`, header").
		Where("chain = ? AND number BETWEEN ? AND ? AND status IN ?", chain, from, to, branchStatuses()).
		Order("number").Rows()
	if err != nil {
		return fmt.Errorf("read branch: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var h schema.BranchHeader
		if err := rows.Scan(&h.Number, &h.Key, &h.RLP); err != nil {
			return fmt.Errorf("read branch: %w", err)
		}
		if err := each(h); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read branch: %w", err)
	}
	return nil
}
