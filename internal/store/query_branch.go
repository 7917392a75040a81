package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// BranchKey returns the block of one height that is on its chain's branch; empty if there is none.
func (s *Store) BranchKey(ctx context.Context, chain, number uint64) (schema.Key, error) {
	const query = "SELECT `key` FROM records WHERE chain = ? AND number = ? AND status IN (?, ?, ?) LIMIT 1"
	args := []any{chain, number}
	for _, status := range branchStatuses() {
		args = append(args, string(status))
	}
	var key schema.Key
	err := s.pool.QueryRowContext(ctx, query, args...).Scan(&key)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("read block of a height: %w", err)
	}
	return key, nil
}

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
