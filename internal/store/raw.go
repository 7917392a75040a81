package store

import (
	"context"
	"fmt"

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
	var rows []struct {
		Key  string
		Body []byte
	}
	err := s.db.WithContext(ctx).Table("records").Select("records.key", "raws.body").
		Joins("JOIN raws ON raws.record = records.id").
		Where(map[string]any{"records.chain": chain, "records.key": keys}).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read raw JSON: %w", err)
	}
	for _, r := range rows {
		out[schema.Key(r.Key)] = r.Body
	}
	return out, nil
}
