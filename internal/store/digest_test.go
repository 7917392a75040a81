package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// told fills a store with what digests have to tell apart: siblings, transactions, an empty payload, statuses.
func told(t *testing.T, dsn string) *Store {
	t.Helper()
	migrated(t, dsn)
	s := running(t, opened(t, Options{DSN: dsn, Now: func() time.Time { return time.Unix(1e9, 0) }}))
	to := schema.Address{7}
	rich := blockOffer("alice", 2, "a2", "a1")
	rich.Transactions = []schema.Transaction{
		{Hash: named("t1"), Index: 0, From: schema.Address{1}, To: &to, Value: "1000000000000000000", GasUsed: new(uint64(21000)), Status: new(uint8(1))},
		{Hash: named("t2"), Index: 1, From: schema.Address{1}, Contract: &to},
	}
	rich.HeaderRLP = []byte("header")
	empty := blockOffer("alice", 3, "a3", "a2")
	empty.Payload = nil
	for _, o := range []*schema.Offer{
		blockOffer("alice", 1, "a1", "a0"), rich, empty, blockOffer("bob", 3, "b3", "a2"), bareOffer("bare"),
		blockOffer("alice", 1000, "a1000", "a999"),
	} {
		offerAll(t, s, o) // one by one, so that ids are the same anywhere
	}
	return s
}

func digestOf(t *testing.T, s *Store, from, to uint64) schema.RangeDigest {
	t.Helper()
	_, _, got, err := s.Digests(t.Context(), schema.HeightRange{Chain: testChain, From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	return got[0]
}

func TestDigestsAreTheSameInBothDialects(t *testing.T) {
	t.Parallel()
	lite, my := told(t, sqliteDSN(t)), told(t, testenv.MySQL(t))
	ranges := []schema.HeightRange{{Chain: testChain, From: 0, To: 999}, {Chain: testChain, From: 1000, To: 1999}, {Chain: 5, From: 0, To: 9}}
	type all struct {
		End     schema.FeedEnd
		Chains  []schema.ChainState
		Digests []schema.RangeDigest
	}
	var got [2]all
	for i, s := range []*Store{lite, my} {
		var err error
		if got[i].End, got[i].Chains, got[i].Digests, err = s.Digests(t.Context(), ranges...); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" {
		t.Errorf("SQLite and MySQL (-sqlite +mysql):\n%s", diff)
	}
	if d := got[0].Digests[0]; d.Blocks != 4 || d.Seq != 6 || d.Payloads == nil {
		t.Errorf("digest of what is there: %+v", d)
	}
	if d := got[0].Digests[2]; d.Blocks != 0 || d.Payloads == nil {
		t.Errorf("digest of nothing: %+v", d)
	}
}

func TestEveryKeptFactIsInTheDigest(t *testing.T) {
	t.Parallel()
	s := told(t, sqliteDSN(t))
	for _, change := range []string{
		"UPDATE records SET status = 'orphaned' WHERE id = 4",
		"UPDATE records SET received_at = received_at + 1 WHERE id = 1",
		"UPDATE records SET observer = 'carol' WHERE id = 4",
		"UPDATE records SET header = NULL WHERE id = 2",
		"UPDATE transactions SET tx_status = 0 WHERE tx_index = 0",
		"UPDATE transactions SET contract = NULL WHERE tx_index = 1",
		"DELETE FROM transactions WHERE tx_index = 1",
		"DELETE FROM records WHERE id = 4",
	} {
		before := digestOf(t, s, 1, 999)
		if err := s.db.Exec(change).Error; err != nil {
			t.Fatal(err)
		}
		after := digestOf(t, s, 1, 999)
		if before.Facts == after.Facts {
			t.Errorf("%s changes nothing", change)
		}
	}
}

func TestWhatRetentionTakesIsNotAmongTheFacts(t *testing.T) {
	t.Parallel()
	s := told(t, sqliteDSN(t))
	before := digestOf(t, s, 1, 999)
	if err := s.db.Exec("UPDATE records SET payload = x'00' WHERE id = 1").Error; err != nil {
		t.Fatal(err)
	}
	other := digestOf(t, s, 1, 999)
	if other.Facts != before.Facts || *other.Payloads == *before.Payloads {
		t.Errorf("a payload changed: %+v, was %+v", other, before)
	}
	for _, change := range []string{
		"INSERT INTO raws (record, body) VALUES (1, x'01')",
		"UPDATE raws SET body = x'02'",
	} {
		was := digestOf(t, s, 1, 999)
		if err := s.db.Exec(change).Error; err != nil {
			t.Fatal(err)
		}
		if is := digestOf(t, s, 1, 999); is.Facts != before.Facts || *is.Payloads == *was.Payloads {
			t.Errorf("%s: %+v, was %+v", change, is, was)
		}
	}
	if err := s.db.Exec("UPDATE records SET payload = x'', payload_pruned_at = 1 WHERE id = 1; DELETE FROM observations").Error; err != nil {
		t.Fatal(err)
	}
	if pruned := digestOf(t, s, 1, 999); pruned.Facts != before.Facts || pruned.Payloads != nil {
		t.Errorf("after retention: %+v, was %+v", pruned, before)
	}
}
