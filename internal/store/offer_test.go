package store

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func TestOneKeyHasOneFirst(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		const stores, each = 3, 20
		answers := &settlements{t: t}
		var offering sync.WaitGroup
		for i := range stores {
			s := running(t, opened(t, Options{DSN: dsn}))
			for j := range each {
				offering.Go(func() {
					answers.offer(s, blockOffer(fmt.Sprintf("o%d-%d", i, j), 7, "a7", "a6"))
				})
			}
		}
		offering.Wait()
		got := answers.wait()
		if f, d := count(got, schema.First), count(got, schema.Duplicate); f != 1 || d != stores*each-1 {
			t.Errorf("%d first and %d duplicate of %d", f, d, len(got))
		}
		s := opened(t, Options{DSN: dsn})
		if n := s.countRows(t, "observations"); n != stores*each {
			t.Errorf("%d observations, want one of each of %d observers", n, stores*each)
		}
		feedIsWhole(t, s, 1)
	})
}

func TestThreeObserversOnTwoStoresWithTheSameTenThousandKeys(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("stores 30,000 offers: leave out -short")
	}
	bothDialects(t, func(t *testing.T, dsn string) {
		const keys, observers = 10000, 3
		stores := []*Store{running(t, opened(t, Options{DSN: dsn})), running(t, opened(t, Options{DSN: dsn}))}
		answers := &settlements{t: t}
		var offering sync.WaitGroup
		for i := range observers {
			offering.Go(func() {
				for n := range uint64(keys) {
					o := blockOffer(fmt.Sprintf("observer-%d", i), n, fmt.Sprint("a", n), fmt.Sprint("a", int(n)-1))
					answers.offer(stores[i%len(stores)], o)
				}
			})
		}
		offering.Wait()
		got := answers.wait()
		if f, d := count(got, schema.First), count(got, schema.Duplicate); f != keys || d != (observers-1)*keys {
			t.Errorf("%d first and %d duplicate, want %d and %d", f, d, keys, (observers-1)*keys)
		}
		s := stores[0]
		if n := s.countRows(t, "records"); n != keys {
			t.Errorf("%d records", n)
		}
		if n := s.countRows(t, "observations"); n != observers*keys {
			t.Errorf("%d observations", n)
		}
		feedIsWhole(t, s, keys)
		var canonical int64
		if err := s.db.Model(&recordRow{}).Where("status = ?", schema.StatusCanonical).Count(&canonical).Error; err != nil {
			t.Fatal(err)
		}
		// The stores race, so a few blocks may come before their parents: the next report settles those.
		see(t, s, "observer-0", keys-1, fmt.Sprint("a", keys-1))
		if c, err := readChain(s.db, testChain); err != nil || c.HeadNumber != keys-1 {
			t.Errorf("head %+v after %d were canonical at once: %v", c, canonical, err)
		}
	})
}

func TestFirstArrivalOfEachObserverIsKept(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		offer := func(observer string, at int64) *schema.Offer {
			o := blockOffer(observer, 1, "a1", "a0")
			o.ReceivedAt = time.Unix(at, 0)
			return o
		}
		offerAll(t, s, offer("bob", 10), offer("bob", 11), offer("alice", 12))
		offerAll(t, s, offer("alice", 13), offer("carol", 14), offer("bob", 15))
		var rows []struct {
			Observer   string
			ReceivedAt int64
		}
		if err := s.db.Table("observations").Order("observer").Find(&rows).Error; err != nil {
			t.Fatal(err)
		}
		got := fmt.Sprint(rows)
		if want := "[{alice 12000000} {bob 10000000} {carol 14000000}]"; got != want {
			t.Errorf("observations %s, want %s", got, want)
		}
		var first recordRow
		if err := s.db.Take(&first).Error; err != nil || *first.Observer != "bob" || first.ReceivedAt != 10e6 {
			t.Errorf("first seen by %v at %d: %v", first.Observer, first.ReceivedAt, err)
		}
	})
}

func TestBytesAreStoredExactly(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		payloads := []string{
			"", "\x00", "a\x00b", "\xff\xfe", "\u202eevil", "😀", `'); DROP TABLE records; --`, `\`, `\'`, "100% _ *",
			"trailing space ", "<script>", strings.Repeat("\x00\xff", 1<<19),
		}
		var offers []*schema.Offer
		for _, p := range payloads {
			offers = append(offers, bareOffer(p))
		}
		if got := offerAll(t, s, offers...); count(got, schema.First) != len(payloads) {
			t.Fatalf("settled %v", got)
		}
		for _, p := range payloads {
			var row recordRow
			if err := s.db.Take(&row, "`key` = ?", schema.PayloadKey([]byte(p))).Error; err != nil {
				t.Fatal(err)
			}
			if string(row.Payload) != p {
				t.Errorf("payload %.20q came back as %.20q", p, row.Payload)
			}
			if row.Status != nil || row.Observer != nil || row.Number != nil {
				t.Errorf("bare row has status %v, observer %v, number %v", row.Status, row.Observer, row.Number)
			}
		}
	})
}

func TestTransactionsKeepWhatIsKnown(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		o := blockOffer("alice", 1, "a1", "a0")
		to := schema.Address{2}
		highest := "115792089237316195423570985008687907853269984665640564039457584007913129639935"
		o.Transactions = []schema.Transaction{
			{Hash: named("t0"), Index: 0, From: schema.Address{1}, To: &to, Value: highest},
			{Hash: named("t1"), Index: 1, From: schema.Address{1}, Value: "0", GasUsed: new(uint64(21000)),
				Status: new(uint8(0)), Contract: &schema.Address{3}},
		}
		offerAll(t, s, o, o)
		got, err := s.TransactionsOf(t.Context(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o.Transactions, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWhatTheTablesCannotHoldIsRefusedWhole(t *testing.T) {
	t.Parallel()
	block := func(change func(o *schema.Offer)) *schema.Offer {
		o := blockOffer("alice", 5, "x5", "x4")
		change(o)
		return o
	}
	cases := map[string]*schema.Offer{
		"content type over-long":  block(func(o *schema.Offer) { o.ContentType = strings.Repeat("a", 129) }),
		"content type not ASCII":  block(func(o *schema.Offer) { o.ContentType = "text/hÿml" }),
		"key in capitals":         block(func(o *schema.Offer) { o.Key = schema.Key(strings.Repeat("A", 64)) }),
		"key of another block":    block(func(o *schema.Offer) { o.Key = named("y").Key() }),
		"observer with a quote":   block(func(o *schema.Offer) { o.Observer = "a'b" }),
		"no observer":             block(func(o *schema.Offer) { o.Observer = "" }),
		"chain above 2^63":        block(func(o *schema.Offer) { o.Chain = 1 << 63 }),
		"block on no chain":       block(func(o *schema.Offer) { o.Chain = 0 }),
		"number above 2^63":       block(func(o *schema.Offer) { o.Header.Number = 1 << 63 }),
		"remote over-long":        block(func(o *schema.Offer) { o.Remote = strings.Repeat("1", 65) }),
		"value above 2^256":       block(func(o *schema.Offer) { o.Transactions = []schema.Transaction{{Value: "1" + strings.Repeat("0", 78)}} }),
		"value below zero":        block(func(o *schema.Offer) { o.Transactions = []schema.Transaction{{Value: "-1"}} }),
		"value not a number":      block(func(o *schema.Offer) { o.Transactions = []schema.Transaction{{Value: "0x1"}} }),
		"payload of 16 MiB":       {Key: schema.PayloadKey(nil), Payload: make([]byte, 1<<24)},
		"bare with a chain":       {Key: schema.PayloadKey(nil), Chain: 5},
		"bare with transactions":  {Key: schema.PayloadKey(nil), Transactions: make([]schema.Transaction, 1)},
		"origin with line breaks": block(func(o *schema.Offer) { o.Origin = "a\nb" }),
	}
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		for name, o := range cases {
			got := offerAll(t, s, bareOffer("good "+name), o, bareOffer("good "+name))
			if want := []schema.Outcome{schema.First, schema.Refused, schema.Duplicate}; !slices.Equal(outcomes(got), want) {
				t.Errorf("%s: settled %v", name, got)
			}
			if got[1].Reason == "" {
				t.Errorf("%s: refused without a reason", name)
			}
		}
		if n := s.countRows(t, "records"); n != len(cases) {
			t.Errorf("%d records, want only the %d good ones", n, len(cases))
		}
	})
}

func outcomes(answers []schema.Settlement) []schema.Outcome {
	var out []schema.Outcome
	for _, a := range answers {
		out = append(out, a.Outcome)
	}
	return out
}

func TestTheTablesThemselvesRefuseWhatIsTooLong(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := opened(t, Options{DSN: dsn})
		row := recordRow{
			Key: string(named("a").Key()), ContentType: strings.Repeat("a", 129), Payload: []byte{}, Token: make([]byte, 16),
		}
		err := s.db.Create(&row).Error
		if err == nil || !blamesRows(err) {
			t.Errorf("129 characters in 128: %v", err)
		}
	})
}

func TestClientsCountEveryBareMessage(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		other := bareOffer("a")
		other.Remote = "2001:db8::1"
		offerAll(t, s, bareOffer("a"), bareOffer("a"), other, blockOffer("alice", 1, "a1", "a0"))
		offerAll(t, s, bareOffer("a"), bareOffer("b"))
		var rows []clientRow
		if err := s.db.Order("ip").Find(&rows).Error; err != nil {
			t.Fatal(err)
		}
		if got, want := fmt.Sprint(rows), "[{10.0.0.1 4} {2001:db8::1 1}]"; got != want {
			t.Errorf("clients %s, want %s", got, want)
		}
	})
}

func TestConsecutiveBlocksChainUpWhateverTheirOrderInTheBatch(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := opened(t, Options{DSN: dsn})
		answers := &settlements{t: t}
		for _, n := range []uint64{3, 1, 4, 2} {
			answers.offer(s, blockOffer("alice", n, fmt.Sprint("a", n), fmt.Sprint("a", n-1)))
		}
		running(t, s) // only now, so that all are in one batch
		answers.wait()
		wantChain(t, s, "a1 a2 a3 a4", "")
	})
}
