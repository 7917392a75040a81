package store

import (
	stdcmp "cmp"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func byPlace(a, b schema.Record) int {
	return stdcmp.Or(
		stdcmp.Compare(b.Header.Number, a.Header.Number), stdcmp.Compare(a.Chain, b.Chain), stdcmp.Compare(b.ID, a.ID),
	)
}

func byPlaceAscending(a, b schema.Record) int {
	return stdcmp.Or(
		stdcmp.Compare(a.Header.Number, b.Header.Number), stdcmp.Compare(a.Chain, b.Chain), stdcmp.Compare(a.ID, b.ID),
	)
}

// collect follows a list to its end in parts of limit.
func collect[T, P any](t *testing.T, limit int, list func(after *P, limit int) ([]T, *P, error)) []T {
	t.Helper()
	var (
		all   []T
		after *P
	)
	for range 1000 {
		part, next, err := list(after, limit)
		if err != nil {
			t.Fatal(err)
		}
		if len(part) > limit {
			t.Fatalf("%d rows of at most %d", len(part), limit)
		}
		all = append(all, part...)
		if next == nil {
			return all
		}
		after = next
	}
	t.Fatal("the list has no end")
	return nil
}

func TestListingWalksEveryBlockOnceAcrossChains(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		var rows []recordRow
		for n := uint64(1); n <= 10; n++ {
			rows = append(rows, seedRecord(1, n, 0, schema.StatusCanonical), seedRecord(2, n+5, 0, schema.StatusCanonical))
		}
		// Heights far apart, from the tables' largest down to 0: the list must find its way across.
		for _, n := range []uint64{1<<63 - 1, 1 << 40, 100_000, 99_000, 0} {
			rows = append(rows, seedRecord(1, n, 0, schema.StatusCanonical))
		}
		rows = append(rows, seedRecord(1, 8, 1, schema.StatusNonCanonical), seedRecord(2, 8, 1, schema.StatusNonCanonical))
		slices.Reverse(rows) // ids do not follow numbers
		sd := &seed{t: t, db: s.db}
		sd.records(rows...)
		sd.records(bareRecord("hello", 1))
		for _, order := range []struct {
			ascending bool
			compare   func(a, b schema.Record) int
		}{{false, byPlace}, {true, byPlaceAscending}} {
			list := func(after *schema.BlockPlace, limit int) ([]schema.Record, *schema.BlockPlace, error) {
				return s.ListBlocks(t.Context(), []uint64{1, 2}, schema.RecordFilter{}, order.ascending, after, limit)
			}
			all, next, err := list(nil, len(rows))
			if err != nil || len(all) != len(rows) || next != nil {
				t.Fatalf("%d blocks, %v, %v", len(all), next, err)
			}
			if !slices.IsSortedFunc(all, order.compare) {
				t.Fatalf("order: %v", numbers(all))
			}
			for limit := 1; limit <= 7; limit++ {
				if d := cmp.Diff(all, collect(t, limit, list)); d != "" {
					t.Fatalf("by %d: %s", limit, d)
				}
			}
		}
		page, err := s.PageBlocks(t.Context(), 2, 2, 3)
		if d := cmp.Diff([]string{"2/13", "2/12", "2/11"}, numbers(page)); d != "" || err != nil {
			t.Fatal(d, err)
		}
		if page, err := s.PageBlocks(t.Context(), 2, 200, 3); err != nil || len(page) != 0 {
			t.Fatalf("past the end: %v, %v", numbers(page), err)
		}
	})
}

// variedRecords are blocks of two chains, some siblings and some bare payloads that differ in all that is filtered by.
func variedRecords() []recordRow {
	var rows []recordRow
	statuses := []schema.Status{schema.StatusFinalized, schema.StatusSafe, schema.StatusCanonical}
	for chain := uint64(1); chain <= 2; chain++ {
		for n := uint64(1); n <= 60; n++ {
			r := seedRecord(chain, n, 0, statuses[n/21])
			r.Observer, r.Node = ptr([]string{"alice", "bob", "carol"}[n%3]), ptr(fmt.Sprint("geth-", n%2))
			r.Server = fmt.Sprint("s", n%4)
			rows = append(rows, r)
			if n%10 == 0 {
				rows = append(rows, seedRecord(chain, n, 1, schema.StatusOrphaned))
			}
		}
	}
	for i := range 5 {
		rows = append(rows, bareRecord(fmt.Sprint("bare ", i), int64(i)*100e6))
	}
	return rows
}

// selects tells whether a filter wants a record, in the plainest way.
func selects(f schema.RecordFilter, r recordRow) bool {
	number := func() uint64 { return *r.Number }
	switch {
	case f.Chain != nil && *f.Chain != r.Chain, f.Blocks && r.Number == nil:
	case len(f.Statuses) > 0 && (r.Status == nil || !slices.Contains(f.Statuses, schema.Status(*r.Status))):
	case (f.From != nil || f.To != nil) && r.Number == nil, f.From != nil && number() < *f.From:
	case f.To != nil && number() > *f.To:
	case f.Since != nil && r.ReceivedAt < schema.Micros(*f.Since), f.Until != nil && r.ReceivedAt >= schema.Micros(*f.Until):
	case f.Observer != "" && deref(r.Observer) != f.Observer, f.Node != "" && deref(r.Node) != f.Node:
	case f.Server != "" && r.Server != f.Server:
	default:
		return true
	}
	return false
}

func filters() map[string]schema.RecordFilter {
	since, until := schema.FromMicros(100e6), schema.FromMicros(400e6)
	return map[string]schema.RecordFilter{
		"nothing":      {},
		"chain":        {Chain: ptr(uint64(2))},
		"bare":         {Chain: ptr(schema.BareChain)},
		"blocks":       {Blocks: true},
		"status":       {Statuses: []schema.Status{schema.StatusOrphaned}},
		"two statuses": {Statuses: []schema.Status{schema.StatusSafe, schema.StatusCanonical}},
		"from":         {From: ptr(uint64(50))},
		"to":           {To: ptr(uint64(3))},
		"range":        {From: ptr(uint64(10)), To: ptr(uint64(20))},
		"empty range":  {From: ptr(uint64(20)), To: ptr(uint64(10))},
		"time":         {Since: &since, Until: &until},
		"observer":     {Observer: "bob"},
		"node":         {Node: "geth-1", Observer: "carol"},
		"server":       {Server: "s3"},
		"nobody":       {Observer: "nobody"},
		"everything": {
			Blocks: true, Chain: ptr(uint64(1)), Statuses: []schema.Status{schema.StatusSafe}, From: ptr(uint64(2)),
			To: ptr(uint64(55)), Since: &since, Until: &until, Observer: "alice", Node: "geth-1", Server: "s3",
		},
	}
}

func TestFiltersSelectWhatTheySay(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		rows := variedRecords()
		sd := &seed{t: t, db: s.db}
		sd.records(rows...)
		for name, f := range filters() {
			var want, wantBlocks []string
			for _, r := range rows {
				if selects(f, r) {
					want = append(want, r.Key)
					if r.Number != nil {
						wantBlocks = append(wantBlocks, r.Key)
					}
				}
			}
			slices.Sort(want)
			slices.Sort(wantBlocks)
			chains := []uint64{1, 2}
			if f.Chain != nil {
				chains = []uint64{*f.Chain}
			}
			for _, ascending := range []bool{false, true} {
				for _, limit := range []int{9, 200} {
					got := collect(t, limit, func(after *schema.BlockPlace, limit int) ([]schema.Record, *schema.BlockPlace, error) {
						return s.ListBlocks(t.Context(), chains, f, ascending, after, limit)
					})
					if d := cmp.Diff(wantBlocks, sortedKeys(got)); d != "" {
						t.Errorf("blocks by %s, %d, ascending %v: %s", name, limit, ascending, d)
					}
					got = collect(t, limit, func(after *schema.RecordPlace, limit int) ([]schema.Record, *schema.RecordPlace, error) {
						return s.ListRecords(t.Context(), f, ascending, after, limit)
					})
					if d := cmp.Diff(want, sortedKeys(got)); d != "" {
						t.Errorf("records by %s, %d, ascending %v: %s", name, limit, ascending, d)
					}
					if !slices.IsSortedFunc(got, func(a, b schema.Record) int {
						return directed(stdcmp.Or(a.ReceivedAt.Compare(b.ReceivedAt), stdcmp.Compare(a.ID, b.ID)), ascending)
					}) {
						t.Errorf("records by %s, ascending %v: order %v", name, ascending, numbers(got))
					}
				}
			}
		}
		page, err := s.PageRecords(t.Context(), len(rows)-2, 5)
		if err != nil || len(page) != 2 || page[1].ReceivedAt.UnixMicro() != 0 {
			t.Errorf("last page: %+v, %v", page, err)
		}
	})
}

func sortedKeys(records []schema.Record) []string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Key))
	}
	slices.Sort(out)
	return out
}

func TestAnswerToARareConditionIsShortAndSaysWhereToGoOn(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{DSN: "memory"})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	var rows []recordRow
	const blocks = walkRows + 100
	for n := uint64(1); n <= blocks; n++ {
		rows = append(rows, seedRecord(1, n, 0, schema.StatusFinalized))
	}
	rows[0].Observer = ptr("bob")
	(&seed{t: t, db: s.db}).create(rows)
	f := schema.RecordFilter{Observer: "bob"}
	got, next, err := s.ListBlocks(t.Context(), []uint64{1}, f, false, nil, 20)
	if err != nil || len(got) != 0 || next == nil || next.Number != blocks-walkRows+1 {
		t.Fatalf("%d rows, next %+v, %v", len(got), next, err)
	}
	got, next, err = s.ListBlocks(t.Context(), []uint64{1}, f, false, next, 20)
	if err != nil || len(got) != 1 || next != nil || got[0].Header.Number != 1 {
		t.Fatalf("%d rows, next %+v, %v", len(got), next, err)
	}
}

// account is an address that consists of one byte.
func account(b byte) schema.Address { return schema.Address(slices.Repeat([]byte{b}, 20)) }

// trades are transactions among three accounts on two chains; one block has a sibling with the same transactions.
func trades(s *seed) []transactionRow {
	var (
		blocks []recordRow
		out    []transactionRow
	)
	add := func(r recordRow, index uint32, from, to byte, value byte) {
		row := seedTransaction(r, index)
		row.Sender = account(from).Digits()
		row.Recipient = ptr(account(to).Digits())
		row.Value = append(make([]byte, 31), value)
		out = append(out, row)
	}
	for chain := uint64(1); chain <= 2; chain++ {
		for n := uint64(1); n <= 20; n++ {
			r := seedRecord(chain, n, 0, schema.StatusCanonical)
			blocks = append(blocks, r)
			add(r, 0, 0xa1, 0xb2, byte(n))
			add(r, 1, 0xb2, 0xa1, byte(2*n))
			add(r, 2, 0xa1, 0xa1, 1)
			add(r, 3, 0xc3, 0xb2, 1)
		}
	}
	fork := seedRecord(1, 20, 1, schema.StatusOrphaned)
	blocks = append(blocks, fork)
	add(fork, 0, 0xa1, 0xb2, 20)
	creation := seedTransaction(fork, 5)
	creation.Sender, creation.Recipient, creation.Contract = account(0xc3).Digits(), nil, ptr(account(0xd4).Digits())
	out = append(out, creation)
	s.records(blocks...)
	s.create(out)
	return out
}

func TestAccountsTransactionsAreListedOnceEach(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		rows := trades(&seed{t: t, db: s.db})
		a, b := account(0xa1), account(0xb2)
		both := []uint64{1, 2}
		sender, recipient := schema.RoleSender, schema.RoleRecipient
		for name, test := range map[string]struct {
			filter schema.TransactionFilter
			wanted func(r transactionRow) bool
		}{
			"all": {schema.TransactionFilter{Account: a, Chains: both}, func(transactionRow) bool { return true }},
			"sent": {schema.TransactionFilter{Account: a, Chains: both, Roles: []schema.AccountRole{sender}},
				func(r transactionRow) bool { return r.Sender == a.Digits() }},
			"received": {schema.TransactionFilter{Account: a, Chains: both, Roles: []schema.AccountRole{recipient}},
				func(r transactionRow) bool { return deref(r.Recipient) == a.Digits() }},
			"chain": {schema.TransactionFilter{Account: a, Chains: both[1:]}, func(r transactionRow) bool { return r.Chain == 2 }},
			"value": {schema.TransactionFilter{Account: a, Chains: both, MinValue: append(make([]byte, 31), 15)},
				func(r transactionRow) bool { return r.Value[31] >= 15 }},
			"counterparty": {schema.TransactionFilter{Account: a, Chains: both, Recipient: &b},
				func(r transactionRow) bool { return deref(r.Recipient) == b.Digits() }},
			"from": {schema.TransactionFilter{Account: a, Chains: both, Sender: &b},
				func(r transactionRow) bool { return r.Sender == b.Digits() }},
			"heights": {schema.TransactionFilter{Account: a, Chains: both, From: ptr(uint64(5)), To: ptr(uint64(6))},
				func(r transactionRow) bool { return r.Number == 5 || r.Number == 6 }},
			"status": {schema.TransactionFilter{Account: a, Chains: both, Statuses: []schema.Status{schema.StatusOrphaned}},
				func(r transactionRow) bool { return r.Block == string(seedHash(1, 20, 1).Key()) }},
			"no chain": {schema.TransactionFilter{Account: a}, func(transactionRow) bool { return false }},
		} {
			var want []string
			for _, r := range rows {
				if (r.Sender == a.Digits() || deref(r.Recipient) == a.Digits()) && test.wanted(r) {
					want = append(want, r.Block+" "+r.Hash)
				}
			}
			slices.Sort(want)
			for _, ascending := range []bool{false, true} {
				for _, limit := range []int{9, 200} {
					got := collect(t, limit, func(after *schema.TransactionPlace, limit int) ([]schema.PlacedTransaction, *schema.TransactionPlace, error) {
						return s.ListTransactions(t.Context(), test.filter, ascending, after, limit)
					})
					var names []string
					for _, g := range got {
						names = append(names, string(g.Block.Hash.Key())+" "+string(g.Hash.Key()))
					}
					if !slices.IsSortedFunc(got, func(a, b schema.PlacedTransaction) int {
						return directed(stdcmp.Compare(a.Block.Number, b.Block.Number), ascending)
					}) {
						t.Errorf("%s, ascending %v: order %v", name, ascending, names)
					}
					slices.Sort(names)
					if d := cmp.Diff(want, names); d != "" {
						t.Errorf("%s, %d, ascending %v: %s", name, limit, ascending, d)
					}
				}
			}
		}
	})
}

func TestPagesOfAnAccountsTransactionsAreThoseOfTheList(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		trades(&seed{t: t, db: s.db})
		f := schema.TransactionFilter{Account: account(0xa1), Chains: []uint64{1, 2}}
		for _, ascending := range []bool{false, true} {
			all, _, err := s.ListTransactions(t.Context(), f, ascending, nil, 1000)
			if err != nil {
				t.Fatal(err)
			}
			if n, err := s.CountTransactions(t.Context(), f, 1000); err != nil || int(n) != len(all) {
				t.Errorf("counted %d of %d, %v", n, len(all), err)
			}
			var paged []schema.PlacedTransaction
			for more := true; more; {
				page, next, err := s.PageTransactions(t.Context(), f, ascending, len(paged), 50)
				if err != nil {
					t.Fatal(err)
				}
				paged, more = append(paged, page...), next != nil
			}
			if d := cmp.Diff(all, paged); d != "" {
				t.Error(d)
			}
		}
		if n, err := s.CountTransactions(t.Context(), f, 7); err != nil || n != 7 {
			t.Errorf("counted to 7: %d, %v", n, err)
		}
		if page, next, err := s.PageTransactions(t.Context(), f, false, 5000, 50); err != nil || len(page) != 0 || next != nil {
			t.Errorf("past the end: %v, %v, %v", page, next, err)
		}
	})
}

func TestAccountIsWhatItsTransactionsTell(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		trades(&seed{t: t, db: s.db})
		got, err := s.AccountOn(t.Context(), 1, account(0xa1), 1000)
		if err != nil || got.Sent != 41 || got.Received != 40 || got.FirstSeen != 1 || got.LastSeen != 20 || got.Created != nil {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err = s.AccountOn(t.Context(), 1, account(0xa1), 7); err != nil || got.Sent != 7 {
			t.Errorf("counted to 7: %+v, %v", got, err)
		}
		got, err = s.AccountOn(t.Context(), 1, account(0xd4), 7)
		if err != nil || got.Created == nil || got.Created.From != account(0xc3) || got.FirstSeen != 20 || got.Sent != 0 {
			t.Errorf("contract: %+v, %v", got, err)
		}
		for _, unknown := range []func() (*schema.AccountState, error){
			func() (*schema.AccountState, error) { return s.AccountOn(t.Context(), 2, account(0xd4), 7) },
			func() (*schema.AccountState, error) { return s.AccountOn(t.Context(), 1, account(0xee), 7) },
		} {
			if got, err := unknown(); err != nil || got != nil {
				t.Errorf("unknown: %+v, %v", got, err)
			}
		}
	})
}

func TestRecentIsCountedByWhoAndWhere(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		sd := &seed{t: t, db: s.db}
		var rows []recordRow
		for n := uint64(1); n <= 10; n++ { // received at 12 s times n and a little
			r := seedRecord(1, n, 0, schema.StatusCanonical)
			rows = append(rows, r)
			sd.create([]transactionRow{seedTransaction(r, 0), seedTransaction(r, 1)})
		}
		rows[9].Observer = ptr("bob")
		sd.records(rows...)
		sd.records(bareRecord("hello", 119e6))
		got, err := s.Recent(t.Context(), schema.FromMicros(100e6), 100)
		slices.SortFunc(got.Groups, func(a, b schema.RecentGroup) int { return stdcmp.Compare(a.Observer, b.Observer) })
		want := schema.Recent{
			Since: schema.FromMicros(100e6),
			Groups: []schema.RecentGroup{
				{Server: "s1", Records: 1}, {Chain: 1, Server: "s1", Observer: "alice", Records: 1},
				{Chain: 1, Server: "s1", Observer: "bob", Records: 1},
			},
			Transactions: map[uint64]uint64{1: 4},
		}
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Error(d, err)
		}
		got, err = s.Recent(t.Context(), schema.FromMicros(0), 3)
		if err != nil || got.Since.UnixMicro() != *rows[7].BlockTime+1001 || got.Transactions[1] != 4 {
			t.Errorf("the last 3: %+v, %v", got, err)
		}
	})
}

func TestSightingsAreThoseOfTheNewestBlocks(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		sd := &seed{t: t, db: s.db}
		sd.records(seedRecord(1, 1, 0, schema.StatusCanonical), seedRecord(1, 2, 0, schema.StatusCanonical))
		sd.records(seedRecord(2, 1, 0, schema.StatusCanonical), bareRecord("hello", 119e6))
		stored, _, err := s.ListRecords(t.Context(), schema.RecordFilter{}, true, nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range stored {
			if r.Header != nil {
				sd.create([]observationRow{
					{Record: r.ID, Observer: "alice", Node: "a", Origin: "head", ReceivedAt: 5},
					{Record: r.ID, Observer: "bob", Node: "b", Origin: "backfill", ReceivedAt: 6},
				})
			}
		}
		for name, test := range map[string]struct {
			chain        *uint64
			blocks, want int
		}{
			"all": {nil, 10, 6}, "newest two, one of them bare": {nil, 2, 2}, "chain": {ptr(uint64(1)), 10, 4},
			"chain's newest": {ptr(uint64(1)), 1, 2}, "unknown chain": {ptr(uint64(9)), 10, 0},
		} {
			got, err := s.Sightings(t.Context(), test.chain, test.blocks)
			if err != nil || len(got) != test.want {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}
	})
}
