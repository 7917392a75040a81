package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// Raw returns a block as its node showed it, packed (schema.RawBlock), as its first observer sent it; chain.UnpackRaw
// opens it. It is nil, without an error, for a block that is not stored, whose first observer did not send it, or where
// retention has taken it.
func (s *Store) Raw(ctx context.Context, chain uint64, key schema.Key) ([]byte, error) {
	raws, err := s.Raws(ctx, chain, []schema.Key{key})
	return raws[key], err
}

// Raws is Raw for several blocks of one chain, those without left out. Each may be some MB: ask for few at a time.
func (s *Store) Raws(ctx context.Context, chain uint64, keys []schema.Key) (map[schema.Key][]byte, error) {
	out := make(map[schema.Key][]byte, len(keys))
	if len(keys) == 0 {
		return out, nil
	}
	var ids []recordRow
	err := s.db.WithContext(ctx).Select("id", "key").Where(map[string]any{"chain": chain, "key": keys}).Find(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("find records of raw JSON: %w", err)
	}
	if len(ids) == 0 {
		return out, nil
	}
	// Not by a join: where few blocks have raw JSON, a database may begin it with all that there is.
	byID := make(map[uint64]schema.Key, len(ids))
	for _, r := range ids {
		byID[r.ID] = schema.Key(r.Key)
	}
	var rows []rawRow
	err = s.db.WithContext(ctx).Where("record IN ?", slices.Collect(maps.Keys(byID))).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read raw JSON: %w", err)
	}
	for _, r := range rows {
		out[byID[r.Record]] = r.Body
	}
	return out, nil
}
