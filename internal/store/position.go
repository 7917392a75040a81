package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/firstseen/firstseen/schema"
)

// farthestBack is how far below the head the last of a position's ancestors lies at most, the chain's first block apart.
const farthestBack = 8192

// backs remembers the ancestors that were looked up last, so that a crowd of observers that comes back at once asks for
// them once a block.
type backs struct {
	mu     sync.Mutex // guards the rest
	chains map[uint64]ancestry
}

// ancestry is what was found for a head.
type ancestry struct {
	head   string
	points []schema.Point
}

// back returns ancestors of a chain's head for its position.
func (s *Store) back(ctx context.Context, c chainRow) ([]schema.Point, error) {
	s.backs.mu.Lock()
	known, ok := s.backs.chains[c.Chain]
	s.backs.mu.Unlock()
	if ok && known.head == c.HeadKey {
		return known.points, nil
	}
	numbers := []uint64{c.RootNumber}
	for down := uint64(1); down <= farthestBack && c.HeadNumber >= c.RootNumber+down; down *= 2 {
		numbers = append(numbers, c.HeadNumber-down)
	}
	var rows []recordRow
	err := s.db.WithContext(ctx).Select("key", "number").Order("number DESC").
		Where("chain = ? AND number IN ? AND number < ? AND status IN ?", c.Chain, numbers, c.HeadNumber, onBranch()).
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read positions: ancestors on chain %d: %w", c.Chain, err)
	}
	points := make([]schema.Point, 0, len(rows))
	for _, r := range rows {
		hash, err := schema.Key(r.Key).Hash()
		if err != nil {
			return nil, fmt.Errorf("read positions: ancestor on chain %d: %w", c.Chain, err)
		}
		points = append(points, schema.Point{Number: *r.Number, Hash: hash})
	}
	s.backs.mu.Lock()
	defer s.backs.mu.Unlock()
	if s.backs.chains == nil {
		s.backs.chains = map[uint64]ancestry{}
	}
	s.backs.chains[c.Chain] = ancestry{c.HeadKey, points}
	return points, nil
}
