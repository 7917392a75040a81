package store

import (
	"context"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// Headers returns the headers of blocks of one chain in RLP, as their observers sent them. Blocks that are not stored,
// or were stored before headers were kept, are left out.
func (s *Store) Headers(ctx context.Context, chain uint64, blocks []schema.Key) (map[schema.Key][]byte, error) {
	out := make(map[schema.Key][]byte, len(blocks))
	if len(blocks) == 0 {
		return out, nil
	}
	var rows []struct {
		Key    string
		Header []byte
	}
	err := s.db.WithContext(ctx).Table("records").Select("`key`, header").
		Where("chain = ? AND `key` IN ? AND header IS NOT NULL", chain, blocks).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read headers: %w", err)
	}
	for _, r := range rows {
		out[schema.Key(r.Key)] = r.Header
	}
	return out, nil
}
