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
	end, err := s.FeedEnd(ctx)
	if err != nil {
		return schema.Tally{}, err
	}
	last := end.Seq
	t := schema.Tally{
		Epoch: end.Epoch, Seq: min(last, seq+limit), Blocks: map[uint64]uint64{}, First: map[string]uint64{}, Servers: map[string]uint64{},
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
		Where("f.seq > ? AND f.seq <= ? AND "+counted, seq, t.Seq, schema.FeedBlock, noteRewound).
		Select("COALESCE(SUM(" + counts + "), 0)").Scan(&transactions).Error
	if err != nil {
		return schema.Tally{}, fmt.Errorf("tally transactions: %w", err)
	}
	t.Transactions = uint64(transactions) // below 0 where the blocks themselves are in another range
	return t, nil
}

// A block that a rewind took out of a replica is counted again when it comes back, so the row that told of its leaving
// counts against it. While it is away none of its rows count: they find no record.
const (
	counted = "(f.kind = ? OR f.kind = 'status' AND f.note = ?)"
	counts  = "CASE f.kind WHEN 'status' THEN -1 ELSE 1 END"
)

func (s *Store) tallyRecords(ctx context.Context, after uint64, t *schema.Tally) error {
	var rows []struct {
		Kind     schema.FeedKind
		Chain    uint64
		Observer *string
		Server   string
		N        int64
	}
	err := s.db.WithContext(ctx).Table("feed f").
		Joins("JOIN records r ON r.chain = f.chain AND r.`key` = f.`key`").
		Where("f.seq > ? AND f.seq <= ? AND (f.kind = 'bare' OR "+counted+")", after, t.Seq, schema.FeedBlock, noteRewound).
		Select("f.kind, f.chain, r.observer, r.server, SUM(" + counts + ") AS n").
		Group("f.kind, f.chain, r.observer, r.server").Find(&rows).Error
	if err != nil {
		return fmt.Errorf("tally records: %w", err)
	}
	for _, r := range rows {
		n := uint64(r.N) // what counts against a block follows on what counted for it: sums of all ranges are never below 0
		t.Servers[r.Server] += n
		if r.Kind == schema.FeedBare {
			t.Bare += n
			continue
		}
		t.Blocks[r.Chain] += n
		t.First[deref(r.Observer)] += n
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
