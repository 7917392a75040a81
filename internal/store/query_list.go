package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// ListBlocks returns up to limit blocks of the given chains in the order that schema.BlockPlace describes, from after
// the given place or, when that is nil, from the newest.
//
// Each chain is read along its own index and the results are merged, because no index orders the blocks of all chains.
func (s *Store) ListBlocks(
	ctx context.Context, chains []uint64, after *schema.BlockPlace, limit int,
) ([]schema.Record, error) {
	var all []schema.Record
	for _, chain := range chains {
		part, err := s.listChain(ctx, chain, after, limit)
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	if len(chains) > 1 {
		slices.SortFunc(all, comparePlaces)
	}
	return all[:min(limit, len(all))], nil
}

func comparePlaces(a, b schema.Record) int {
	return cmp.Or(
		cmp.Compare(b.Header.Number, a.Header.Number),
		cmp.Compare(a.Chain, b.Chain),
		cmp.Compare(b.ID, a.ID),
	)
}

func (s *Store) listChain(
	ctx context.Context, chain uint64, after *schema.BlockPlace, limit int,
) ([]schema.Record, error) {
	query := s.metadata(ctx).Where("chain = ?", chain)
	switch {
	case after == nil:
		query = query.Where("number IS NOT NULL")
	case chain > after.Chain: // at the same height, this chain comes after the other
		query = query.Where("number <= ?", after.Number)
	case chain < after.Chain:
		query = query.Where("number < ?", after.Number)
	default:
		// The first condition is implied by the second: it gives the index its range.
		query = query.Where("number <= ?", after.Number).
			Where("(number < ? OR id < ?)", after.Number, after.ID)
	}
	var rows []recordRow
	if err := query.Order("number DESC, id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list blocks: %w", err)
	}
	return records(rows)
}

// PageBlocks returns up to limit blocks of one chain, newest first, after skipping some. Skipping walks the index:
// it costs more the farther it goes, where ListBlocks costs the same everywhere.
func (s *Store) PageBlocks(ctx context.Context, chain uint64, skip, limit int) ([]schema.Record, error) {
	var ids []uint64
	err := s.db.WithContext(ctx).Model(&recordRow{}).Where("chain = ? AND number IS NOT NULL", chain).
		Order("number DESC, id DESC").Offset(skip).Limit(limit).Pluck("id", &ids).Error
	if err != nil {
		return nil, fmt.Errorf("page blocks: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []recordRow
	if err := s.metadata(ctx).Where("id IN ?", ids).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read page of blocks: %w", err)
	}
	out, err := records(rows)
	slices.SortFunc(out, comparePlaces)
	return out, err
}
