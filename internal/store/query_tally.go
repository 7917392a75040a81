package store

import (
	"context"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// Tally counts what the feed rows after seq add up to, at most limit rows. The feed has no gaps and its rows commit in
// order, so tallies of adjoining ranges add up to exact totals without ever counting a table twice. A feed that ends
// before seq, which is another database's, gives an empty tally up to its end.
func (s *Store) Tally(ctx context.Context, seq, limit uint64) (schema.Tally, error) {
	last, err := s.feedSeq(ctx)
	if err != nil {
		return schema.Tally{}, err
	}
	t := schema.Tally{
		Seq: min(last, seq+limit), Blocks: map[uint64]uint64{}, First: map[string]uint64{}, Servers: map[string]uint64{},
	}
	if last <= seq {
		return t, nil
	}
	if err := s.tallyRecords(ctx, seq, &t); err != nil {
		return schema.Tally{}, err
	}
	var transactions int64
	err = s.db.WithContext(ctx).Table("feed f").
		Joins("JOIN transactions t ON t.block = f.`key`").
		Where("f.seq > ? AND f.seq <= ? AND f.kind = ?", seq, t.Seq, schema.FeedBlock).
		Count(&transactions).Error
	if err != nil {
		return schema.Tally{}, fmt.Errorf("tally transactions: %w", err)
	}
	t.Transactions = uint64(transactions)
	return t, nil
}

func (s *Store) tallyRecords(ctx context.Context, after uint64, t *schema.Tally) error {
	var rows []struct {
		Kind     schema.FeedKind
		Chain    uint64
		Observer *string
		Server   string
		N        uint64
	}
	err := s.db.WithContext(ctx).Table("feed f").
		Joins("JOIN records r ON r.chain = f.chain AND r.`key` = f.`key`").
		Where("f.seq > ? AND f.seq <= ? AND f.kind IN ?", after, t.Seq,
			[]schema.FeedKind{schema.FeedBlock, schema.FeedBare}).
		Select("f.kind, f.chain, r.observer, r.server, COUNT(*) AS n").
		Group("f.kind, f.chain, r.observer, r.server").Find(&rows).Error
	if err != nil {
		return fmt.Errorf("tally records: %w", err)
	}
	for _, r := range rows {
		t.Servers[r.Server] += r.N
		if r.Kind == schema.FeedBare {
			t.Bare += r.N
			continue
		}
		t.Blocks[r.Chain] += r.N
		t.First[deref(r.Observer)] += r.N
	}
	return nil
}

// CountObservations returns how many times an observer was seen to have seen a block. It counts the whole index: its
// callers should not ask often.
func (s *Store) CountObservations(ctx context.Context) (uint64, error) {
	var n int64
	if err := s.db.WithContext(ctx).Table("observations").Count(&n).Error; err != nil {
		return 0, fmt.Errorf("count observations: %w", err)
	}
	return uint64(n), nil
}
