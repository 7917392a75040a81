package store

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

// seedSent seeds blocks of chain 1 with two transactions each, all of one sender, and a sibling of block 2 that holds the
// first transaction of block 2, too.
func seedSent(sd *seed, blocks uint64) {
	var rows []recordRow
	var transactions []transactionRow
	for n := uint64(1); n <= blocks; n++ {
		r := seedRecord(1, n, 0, schema.StatusCanonical)
		rows = append(rows, r)
		transactions = append(transactions, seedTransaction(r, 1), seedTransaction(r, 0))
	}
	sibling := seedRecord(1, 2, 1, schema.StatusOrphaned)
	again := seedTransaction(rows[1], 0)
	again.Block = sibling.Key
	sd.records(append(rows, sibling)...)
	sd.create(append(transactions, again))
}

func places(found []schema.PlacedTransaction) []string {
	out := make([]string, len(found))
	for i, t := range found {
		out[i] = fmt.Sprintf("%d/%d.%d %s", t.Chain, t.Block.Number, t.Index, t.BlockStatus)
	}
	return out
}

func TestATransactionIsFoundInEveryBlockThatHoldsIt(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		seedSent(&seed{t: t, db: s.db}, 3)
		hash := seedHash(1, 2, 0)
		hash[31] = 255
		got, err := s.PlacesOf(t.Context(), hash)
		if d := cmp.Diff([]string{"1/2.0 canonical", "1/2.0 orphaned"}, places(got)); err != nil || d != "" {
			t.Fatal(err, d)
		}
		if got[1].Block.Hash != seedHash(1, 2, 1) || got[0].From.Digits() != strings.Repeat("aa", 20) || got[0].Hash != hash {
			t.Errorf("%+v", got)
		}
		if got, err := s.PlacesOf(t.Context(), schema.Hash{9}); err != nil || len(got) != 0 {
			t.Errorf("of nothing: %v, %v", got, err)
		}
	})
}

func TestWhatAnAccountSentIsListedOnceFromTheBranch(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		seedSent(&seed{t: t, db: s.db}, 3)
		sender := schema.Address{}
		for i := range sender {
			sender[i] = 0xaa
		}
		got, err := s.SentBy(t.Context(), 1, sender, 1, 4)
		want := []string{"1/3.0 canonical", "1/2.1 canonical", "1/2.0 canonical", "1/1.1 canonical"}
		if d := cmp.Diff(want, places(got)); err != nil || d != "" {
			t.Fatal(err, d)
		}
		for limit, want := range map[int]uint64{100: 6, 6: 6, 5: 5} {
			if n, err := s.CountSentBy(t.Context(), 1, sender, limit); err != nil || n != want {
				t.Errorf("counted %d up to %d, want %d: %v", n, limit, want, err)
			}
		}
		if n, err := s.CountSentBy(t.Context(), 2, sender, 100); err != nil || n != 0 {
			t.Errorf("counted %d on another chain: %v", n, err)
		}
	})
}

func TestTransactionHashesAreInTheBlocksOrder(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		seedSent(&seed{t: t, db: s.db}, 2)
		first, second := seedHash(1, 1, 0), seedHash(1, 1, 1)
		first[31], second[31] = 255, 254
		block, empty := seedHash(1, 1, 0).Key(), seedHash(1, 9, 0).Key()
		got, err := s.TransactionHashes(t.Context(), []schema.Key{block, empty})
		if d := cmp.Diff(map[schema.Key][]schema.Hash{block: {first, second}}, got); err != nil || d != "" {
			t.Fatal(err, d)
		}
	})
}

func TestQueriesForTransactionsUseIndexes(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		seedSent(&seed{t: t, db: s.db}, 2000)
		analyze := "ANALYZE"
		if s.dialect == dialectMySQL {
			analyze = "ANALYZE TABLE records, transactions"
		}
		if err := s.db.Exec(analyze).Error; err != nil {
			t.Fatal(err)
		}
		for name, run := range map[string]func(ctx context.Context) error{
			"places":  func(ctx context.Context) error { return errOf(s.PlacesOf(ctx, seedHash(1, 2, 0))) },
			"sent":    func(ctx context.Context) error { return errOf(s.SentBy(ctx, 1, schema.Address{0xaa}, 0, 20)) },
			"counted": func(ctx context.Context) error { return errOf(s.CountSentBy(ctx, 1, schema.Address{0xaa}, 100)) },
			"hashes": func(ctx context.Context) error {
				return errOf(s.TransactionHashes(ctx, []schema.Key{seedHash(1, 2, 0).Key()}))
			},
		} {
			for _, e := range capture(t, s, run) {
				for _, line := range e.plan {
					derived := strings.Contains(line, "SCAN some") || strings.Contains(line, "<derived") // at most the limit
					if c := complaint(s.dialect, line, name == "places"); c != "" && !derived {
						t.Errorf("%s %s: %s\n\t%s", name, c, e.sql, line)
					}
				}
			}
		}
	})
}
