package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// readStores runs a test of the read side on a migrated store of each dialect.
func readStores(t *testing.T, test func(t *testing.T, s *Store)) {
	t.Helper()
	bothDialects(t, func(t *testing.T, dsn string) { test(t, opened(t, Options{DSN: dsn})) })
}

// seedHash is a hash that differs by each of its parts.
func seedHash(chain, number, sibling uint64) schema.Hash {
	var h schema.Hash
	binary.BigEndian.PutUint64(h[0:], chain)
	binary.BigEndian.PutUint64(h[8:], number)
	binary.BigEndian.PutUint64(h[16:], sibling)
	return h
}

func ptr[T any](v T) *T { return &v }

// seed fills tables directly, so that the read side is tested against the tables and not against the writer.
type seed struct {
	t   *testing.T
	db  *gorm.DB
	seq uint64
}

func (s *seed) create(rows any) {
	s.t.Helper()
	if err := s.db.CreateInBatches(rows, 500).Error; err != nil {
		s.t.Fatal(err)
	}
}

func seedRecord(chain, number, sibling uint64, status schema.Status) recordRow {
	r := recordRow{
		Chain: chain, Key: string(seedHash(chain, number, sibling).Key()), Number: ptr(number),
		Status: ptr(string(status)), BlockTime: ptr(int64(number) * 12e6), ObservedAt: ptr(int64(number)*12e6 + 5),
		ReceivedAt: int64(number)*12e6 + int64(chain)*1000 + int64(sibling), ContentType: "text/html; charset=utf-8",
		Payload: fmt.Appendf(nil, "<p>%d</p>", number), Observer: ptr("alice"), Node: ptr("geth"),
		Origin: ptr(string(schema.OriginHead)), Server: "s1", Remote: "10.0.0.1", Token: make([]byte, 16),
		FeeRecipient: ptr(strings.Repeat("fe", 20)),
	}
	r.Parent = ptr(string(seedHash(chain, number-1, 0).Key()))
	return r
}

func bareRecord(payload string, at int64) recordRow {
	return recordRow{
		Key: string(schema.PayloadKey([]byte(payload))), ReceivedAt: at, ContentType: "application/octet-stream",
		Payload: []byte(payload), Server: "s1", Remote: "10.0.0.2", Token: make([]byte, 16),
	}
}

// feed appends a row for each record, as ingest does.
func (s *seed) feed(rows ...recordRow) {
	s.t.Helper()
	out := make([]feedRow, len(rows))
	for i, r := range rows {
		s.seq++
		out[i] = feedRow{
			Seq: s.seq, Kind: string(schema.FeedBlock), Chain: r.Chain, Key: &rows[i].Key, Number: r.Number,
			Status: r.Status, At: r.ReceivedAt,
		}
		if r.Number == nil {
			out[i].Kind = string(schema.FeedBare)
		}
	}
	s.create(out)
	if err := s.db.Table("feed_counter").Where("id = 1").Update("last_seq", s.seq).Error; err != nil {
		s.t.Fatal(err)
	}
}

func (s *seed) records(rows ...recordRow) {
	s.t.Helper()
	s.create(rows)
	s.feed(rows...)
}

type transactionRow struct {
	Chain, Number       uint64
	Block, Hash, Sender string
	Recipient, Contract *string
	TxIndex             uint32
	Value               []byte
	GasUsed             *uint64
	TxStatus            *uint8
}

func (transactionRow) TableName() string { return "transactions" }

func seedTransaction(r recordRow, index uint32) transactionRow {
	hash := seedHash(r.Chain, *r.Number, uint64(index))
	hash[31] = byte(255 - index) // so that hash order is not the block's order
	return transactionRow{
		Chain: r.Chain, Number: *r.Number, Block: r.Key, Hash: hex.EncodeToString(hash[:]), TxIndex: index,
		Sender: strings.Repeat("aa", 20), Recipient: ptr(strings.Repeat("bb", 20)), Value: make([]byte, 32),
	}
}

type observationRow struct {
	Record                         uint64
	Observer, Node, Server, Origin string
	ObservedAt, ReceivedAt         int64
}

func (observationRow) TableName() string { return "observations" }

func numbers(rows []schema.Record) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = fmt.Sprintf("%d/%d", r.Chain, r.Header.Number)
	}
	return out
}

func TestChainsTellHeadSafeFinalizedAndHalted(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		(&seed{t: t, db: s.db}).create([]chainRow{
			{
				Chain: 5, RootKey: string(seedHash(5, 1, 0).Key()), RootNumber: 1, RootParent: string(schema.Hash{}.Key()),
				HeadKey: string(seedHash(5, 9, 0).Key()), HeadNumber: 9, SafeNumber: ptr(uint64(7)),
				FinalizedNumber: ptr(uint64(5)), Halted: ptr("contradicts 5"),
			},
			{
				Chain: 1, RootKey: string(seedHash(1, 1<<62, 0).Key()), RootNumber: 1 << 62,
				RootParent: string(schema.Hash{}.Key()), HeadKey: string(seedHash(1, 1<<62, 0).Key()), HeadNumber: 1 << 62,
			},
		})
		got, err := s.Chains(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		big := schema.Point{Number: 1 << 62, Hash: seedHash(1, 1<<62, 0)}
		want := []schema.ChainState{
			{Chain: 1, Root: big, Head: big},
			{
				Chain: 5, Root: schema.Point{Number: 1, Hash: seedHash(5, 1, 0)},
				Head: schema.Point{Number: 9, Hash: seedHash(5, 9, 0)},
				Safe: ptr(uint64(7)), Finalized: ptr(uint64(5)), Halted: "contradicts 5",
			},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatal(d)
		}
	})
}

func TestBlocksAreFoundByHashAndByNumber(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		(&seed{t: t, db: s.db}).records(
			seedRecord(1, 7, 0, schema.StatusNonCanonical), seedRecord(1, 7, 1, schema.StatusCanonical),
			bareRecord("hello", 1),
		)
		key := seedHash(1, 7, 1).Key()
		got, err := s.RecordsByKey(t.Context(), key, []uint64{0, 1, 2})
		if err != nil || len(got) != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
		at := schema.FromMicros(7*12e6 + 5)
		want := schema.Record{
			ID: got[0].ID, Chain: 1, Key: key, Status: schema.StatusCanonical, ContentType: "text/html; charset=utf-8",
			Header: &schema.Header{
				Hash: seedHash(1, 7, 1), Parent: seedHash(1, 6, 0), Number: 7, Time: time.Unix(84, 0).UTC(),
				FeeRecipient: schema.Address(bytes.Repeat([]byte{0xfe}, 20)),
			},
			Observer: "alice", Node: "geth", Origin: schema.OriginHead, Server: "s1", Remote: "10.0.0.1",
			ObservedAt: &at, ReceivedAt: schema.FromMicros(7*12e6 + 1001),
		}
		if d := cmp.Diff(want, got[0]); d != "" {
			t.Fatal(d)
		}
		if payload, err := s.Payload(t.Context(), got[0].ID); err != nil || string(payload) != "<p>7</p>" {
			t.Fatalf("payload %q, %v", payload, err)
		}
		if payload, err := s.Payload(t.Context(), 1<<40); err != nil || payload != nil {
			t.Fatalf("payload of nothing: %q, %v", payload, err)
		}
		if got, err := s.RecordsByKey(t.Context(), key, []uint64{2}); err != nil || len(got) != 0 {
			t.Fatalf("on another chain: %+v, %v", got, err)
		}
		if got, err := s.RecordsByKey(t.Context(), schema.PayloadKey([]byte("hello")), []uint64{0}); err != nil ||
			len(got) != 1 || got[0].Header != nil || got[0].Status != schema.StatusNone || got[0].ObservedAt != nil {
			t.Fatalf("bare: %+v, %v", got, err)
		}
		siblings, err := s.BlocksAt(t.Context(), 1, 7)
		if err != nil || len(siblings) != 2 || siblings[0].Status != schema.StatusNonCanonical {
			t.Fatalf("siblings: %+v, %v", siblings, err)
		}
	})
}

func TestTransactionsComeInTheBlocksOrder(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		block := seedRecord(1, 7, 0, schema.StatusCanonical)
		creation := seedTransaction(block, 2)
		creation.Recipient, creation.Contract = nil, ptr(strings.Repeat("cc", 20))
		creation.GasUsed, creation.TxStatus = ptr(uint64(21000)), ptr(uint8(1))
		creation.Value = slices.Repeat([]byte{0xff}, 32)
		sd := &seed{t: t, db: s.db}
		sd.create([]transactionRow{creation, seedTransaction(block, 0), seedTransaction(block, 1)})
		got, err := s.TransactionsOf(t.Context(), schema.Key(block.Key))
		if err != nil || len(got) != 3 {
			t.Fatalf("%+v, %v", got, err)
		}
		if got[0].Index != 0 || got[1].Index != 1 || got[0].Value != "0" || got[0].GasUsed != nil || got[0].Status != nil {
			t.Fatalf("%+v", got)
		}
		if last := got[2]; last.To != nil || last.Contract.Digits() != strings.Repeat("cc", 20) || *last.GasUsed != 21000 ||
			*last.Status != 1 || last.Value !=
			"115792089237316195423570985008687907853269984665640564039457584007913129639935" {
			t.Fatalf("creation: %+v", last)
		}
		counts, err := s.TransactionCounts(t.Context(), []schema.Key{schema.Key(block.Key), seedHash(9, 9, 9).Key()})
		if d := cmp.Diff(map[schema.Key]uint64{schema.Key(block.Key): 3}, counts); d != "" || err != nil {
			t.Fatal(d, err)
		}
	})
}

func TestArrivalsComeInTheOrderReceived(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		(&seed{t: t, db: s.db}).create([]observationRow{
			{Record: 1, Observer: "alice", Node: "n1", Server: "s1", Origin: "head", ObservedAt: 50, ReceivedAt: 300},
			{Record: 1, Observer: "bob", Node: "n2", Server: "s2", Origin: "backfill", ObservedAt: 60, ReceivedAt: 200},
			{Record: 2, Observer: "bob", Node: "n2", Server: "s2", Origin: "head", ObservedAt: 60, ReceivedAt: 200},
		})
		got, err := s.Arrivals(t.Context(), 1)
		if err != nil || len(got) != 2 || got[0].Observer != "bob" || got[0].Origin != schema.OriginBackfill ||
			!got[1].ReceivedAt.Equal(time.UnixMicro(300)) {
			t.Fatalf("%+v, %v", got, err)
		}
		if n, err := s.CountObservations(t.Context()); err != nil || n != 3 {
			t.Fatalf("%d observations, %v", n, err)
		}
	})
}

func TestTallyOfRangesAddsUpToTheWhole(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		if got, err := s.Tally(t.Context(), 0, 10); err != nil || got.Seq != 0 || got.Bare != 0 {
			t.Fatalf("empty: %+v, %v", got, err)
		}
		sd := &seed{t: t, db: s.db}
		a, b, c := seedRecord(1, 1, 0, schema.StatusCanonical), seedRecord(1, 2, 0, schema.StatusCanonical),
			seedRecord(2, 2, 0, schema.StatusCanonical)
		b.Observer = ptr("bob")
		sd.records(a, bareRecord("x", 1), b, bareRecord("y", 2), c)
		// A status change of a block already counted adds nothing.
		sd.create([]feedRow{{Seq: 6, Kind: string(schema.FeedStatus), Chain: 1, Key: &a.Key, At: 9}})
		sd.db.Table("feed_counter").Where("id = 1").Update("last_seq", 6)
		sd.create([]transactionRow{seedTransaction(a, 0), seedTransaction(a, 1), seedTransaction(c, 0)})
		whole, err := s.Tally(t.Context(), 0, 100)
		end, _ := s.FeedEnd(t.Context())
		want := schema.Tally{
			Epoch: end.Epoch, Seq: 6, Blocks: map[uint64]uint64{1: 2, 2: 1}, First: map[string]uint64{"alice": 2, "bob": 1},
			Servers: map[string]uint64{"s1": 5}, Bare: 2, Transactions: 3,
		}
		if d := cmp.Diff(want, whole); d != "" || err != nil {
			t.Fatal(d, err)
		}
		// Somebody counted another database's longer feed before.
		if shorter, err := s.Tally(t.Context(), 99, 10); err != nil || shorter.Seq != 6 || shorter.Bare != 0 {
			t.Fatalf("%+v, %v", shorter, err)
		}
		var bare, transactions uint64
		for seq := uint64(0); seq < 6; {
			part, err := s.Tally(t.Context(), seq, 2)
			if err != nil || part.Seq != seq+2 {
				t.Fatalf("%+v, %v", part, err)
			}
			seq, bare, transactions = part.Seq, bare+part.Bare, transactions+part.Transactions
		}
		if bare != 2 || transactions != 3 {
			t.Fatalf("in parts: %d bare, %d transactions", bare, transactions)
		}
	})
}

func TestNewestKeysAndClients(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		sd := &seed{t: t, db: s.db}
		sd.records(seedRecord(1, 1, 0, schema.StatusCanonical), bareRecord("old", 5), bareRecord("new", 20e6))
		sd.create([]clientRow{{IP: "10.0.0.2", Count: 3}, {IP: "10.0.0.1", Count: 1}, {IP: "::1", Count: 2}})
		keys, err := s.NewestKeys(t.Context(), 2)
		if err != nil || len(keys) != 2 || keys[0].Key != schema.PayloadKey([]byte("new")) ||
			keys[1].Key != seedHash(1, 1, 0).Key() || !keys[0].ReceivedAt.Equal(time.Unix(20, 0)) {
			t.Fatalf("%+v, %v", keys, err)
		}
		clients, err := s.Clients(t.Context(), 2)
		want := []schema.ClientCount{{IP: "10.0.0.1", Count: 1}, {IP: "10.0.0.2", Count: 3}}
		if d := cmp.Diff(want, clients); d != "" || err != nil {
			t.Fatal(d, err)
		}
	})
}

func TestCorruptRowsAreErrorsNotAnswers(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		bad := seedRecord(1, 1, 0, schema.StatusCanonical)
		bad.Key = strings.Repeat("z", 64)
		(&seed{t: t, db: s.db}).records(bad)
		if got, err := s.BlocksAt(t.Context(), 1, 1); err == nil {
			t.Fatalf("answered %+v", got)
		}
	})
}
