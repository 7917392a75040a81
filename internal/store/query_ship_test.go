package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firstseen/firstseen/schema"
)

// shippedOffer is a block with all that a record can have.
func shippedOffer(observer string, n uint64, hash, parent string) *schema.Offer {
	o := blockOffer(observer, n, hash, parent)
	o.HeaderRLP = []byte("header of " + hash)
	o.Raw = []byte("raw " + hash)
	o.Header.FeeRecipient = schema.Address{7}
	gas, status := uint64(21000), uint8(1)
	o.Transactions = []schema.Transaction{
		{Hash: named(hash + " 1"), Index: 1, From: schema.Address{1}, Value: "0", Contract: &schema.Address{3}},
		{Hash: named(hash + " 0"), From: schema.Address{2}, To: &schema.Address{4}, Value: "5", GasUsed: &gas, Status: &status},
	}
	return o
}

func TestShipmentHasAllOfItsRecords(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		block, bare := shippedOffer("o1", 1, "a", "root"), bareOffer("")
		offerAll(t, s, block)
		offerAll(t, s, bare)
		offerAll(t, s, bareOffer("more"))
		rows, err := s.Shipment(t.Context(), 0, 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 3 {
			t.Fatalf("got %d rows, want 3", len(rows))
		}
		number, parent, when, observed := uint64(1), named("root"), block.Header.Time.UTC(), block.ObservedAt.UTC()
		want := &schema.ShippedRecord{
			ID: 1, Chain: testChain, Key: block.Key, Number: &number, Parent: &parent, Time: &when,
			FeeRecipient: &schema.Address{7}, Header: block.HeaderRLP, ContentType: block.ContentType, Payload: block.Payload,
			Observer: "o1", Node: "geth", Origin: schema.OriginHead, Server: "s1", Remote: "127.0.0.1", ObservedAt: &observed,
			ReceivedAt: block.ReceivedAt.UTC(), Transactions: []schema.Transaction{block.Transactions[1], block.Transactions[0]},
			Raw: block.Raw,
		}
		if diff := cmp.Diff(want, rows[0].Record); diff != "" {
			t.Errorf("block (-want +got):\n%s", diff)
		}
		wantBare := &schema.ShippedRecord{
			ID: rows[1].Record.ID, Key: bare.Key, ContentType: bare.ContentType, Server: "s1", Remote: "10.0.0.1",
			ReceivedAt: bare.ReceivedAt.UTC(),
		}
		if diff := cmp.Diff(wantBare, rows[1].Record, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("bare payload (-want +got):\n%s", diff)
		}
		entries, err := s.Feed(t.Context(), 0, 100)
		if err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			if diff := cmp.Diff(entries[i].FeedEvent, rows[i].FeedEvent); diff != "" {
				t.Errorf("row %d (-feed +shipment):\n%s", i+1, diff)
			}
		}
	})
}

func TestShipmentCarriesNoRecordWithAStatus(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		offerAll(t, s, blockOffer("o1", 1, "a", "root"))
		offerAll(t, s, blockOffer("o1", 2, "b", "a"))
		if err := s.Report(t.Context(), "o1", schema.Report{Heads: []schema.Head{{
			Chain: testChain, Node: "geth", Latest: schema.Point{Number: 2, Hash: named("b")},
			Finalized: &schema.Point{Number: 1, Hash: named("a")},
		}}}); err != nil {
			t.Fatal(err)
		}
		rows, err := s.Shipment(t.Context(), 0, 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		statuses := 0
		for _, r := range rows {
			if r.Kind == schema.FeedStatus {
				statuses++
			}
			if (r.Kind == schema.FeedBlock) != (r.Record != nil) {
				t.Errorf("row %d of kind %s has record %v", r.Seq, r.Kind, r.Record)
			}
		}
		if statuses == 0 {
			t.Error("no status changed")
		}
	})
}

func TestShipmentsAreBoundedAndFollowEachOther(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		const blocks = 100
		offers := make([]*schema.Offer, blocks)
		parent := "root"
		for i := range offers {
			name := string(rune('a'+i%26)) + string(rune('a'+i/26))
			offers[i] = blockOffer("o1", uint64(i+1), name, parent)
			offers[i].Payload = make([]byte, 1000)
			parent = name
		}
		offerAll(t, s, offers...)
		for name, bound := range map[string]struct{ limit, bytes, most int }{
			"by rows":            {limit: 7, bytes: 1 << 20, most: 7},
			"by bytes":           {limit: 1000, bytes: 10_000, most: 10},
			"by bytes, too few":  {limit: 1000, bytes: 1, most: 1},
			"not at all":         {limit: 1000, bytes: 1 << 20, most: blocks},
			"by rows, beyond 32": {limit: 40, bytes: 1 << 20, most: 40},
		} {
			for after := 0; after < blocks; {
				rows, err := s.Shipment(t.Context(), uint64(after), bound.limit, bound.bytes)
				if err != nil {
					t.Fatal(err)
				}
				if len(rows) == 0 || len(rows) > bound.most || len(rows) < min(bound.most, blocks-after) {
					t.Fatalf("bounded %s: got %d rows after %d, want %d", name, len(rows), after, bound.most)
				}
				for _, r := range rows {
					if after++; r.Seq != uint64(after) || r.Record == nil {
						t.Fatalf("bounded %s: got row %d with record %v, want row %d with one", name, r.Seq, r.Record, after)
					}
				}
			}
		}
		if rows, err := s.Shipment(t.Context(), blocks, 10, 1000); err != nil || len(rows) > 0 {
			t.Errorf("got %d rows after the end and error %v", len(rows), err)
		}
	})
}

func TestRawJSONCountsBeforeItIsRead(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		offers := make([]*schema.Offer, 80)
		parent := "root"
		for i := range offers {
			name := fmt.Sprint("block ", i)
			offers[i] = blockOffer("o1", uint64(i+1), name, parent)
			if i >= 40 {
				offers[i].Raw = make([]byte, 10_000)
			}
			parent = name
		}
		offerAll(t, s, offers...)
		rows, err := s.Shipment(t.Context(), 0, 1000, 50_000)
		if err != nil {
			t.Fatal(err)
		}
		size := 0
		for _, r := range rows {
			size += len(r.Record.Raw)
		}
		if size == 0 || size > 50_000 {
			t.Errorf("got %d rows with %d bytes of raw JSON", len(rows), size)
		}
	})
}

func TestSightingsAreOfWhoWasNotFirst(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		start := time.Unix(2e9, 0)
		offer := func(observer, hash string, after time.Duration) {
			o := blockOffer(observer, 1, hash, "root")
			o.ReceivedAt = start.Add(after)
			offerAll(t, s, o)
		}
		offer("o1", "a", 0)
		offer("o2", "b", time.Second)
		offer("o2", "a", 2*time.Second)
		offer("o3", "a", 3*time.Second)
		offer("o1", "b", 4*time.Second)
		sighting := func(observer, hash string, after time.Duration) schema.ShippedSighting {
			return schema.ShippedSighting{
				Chain: testChain, Key: named(hash).Key(), Observer: observer, Node: "geth", Server: "s1", Origin: schema.OriginHead,
				ObservedAt: time.Unix(1e9, 0).UTC(), ReceivedAt: start.Add(after).UTC(),
			}
		}
		a2, a3, b1 := sighting("o2", "a", 2*time.Second), sighting("o3", "a", 3*time.Second), sighting("o1", "b", 4*time.Second)
		got, err := s.SightingsOf(t.Context(), []uint64{1, 2, 99})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]schema.ShippedSighting{a2, a3, b1}, got); diff != "" {
			t.Errorf("of both blocks (-want +got):\n%s", diff)
		}
		got, now, err := s.SightingsSince(t.Context(), start.Add(3*time.Second), 10)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]schema.ShippedSighting{a3, b1}, got); diff != "" {
			t.Errorf("since the third second (-want +got):\n%s", diff)
		}
		if ago := time.Since(now).Abs(); ago > time.Hour {
			t.Errorf("the clock is %s off", ago)
		}
		got, _, err = s.SightingsSince(t.Context(), start, 1)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]schema.ShippedSighting{a2}, got); diff != "" {
			t.Errorf("the first (-want +got):\n%s", diff)
		}
	})
}

func TestSideTellsWhatTheFeedDoesNot(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		now := time.Unix(2e9, 0).UTC()
		s := running(t, opened(t, Options{DSN: dsn, Now: func() time.Time { return now }}))
		if side, err := s.Side(t.Context()); err != nil || len(side.Nodes)+len(side.Events)+len(side.Clients) > 0 {
			t.Fatalf("of an empty store: %+v, error %v", side, err)
		}
		offerAll(t, s, bareOffer("one"), bareOffer("two"))
		event := func(to schema.NodeState, after time.Duration) schema.NodeEvent {
			return schema.NodeEvent{Node: "geth", Chain: testChain, From: schema.NodeLive, To: to, Reason: "why", At: now.Add(after)}
		}
		if err := s.Report(t.Context(), "o1", schema.Report{
			Nodes:  []schema.NodeView{{Name: "geth", Chain: testChain, State: schema.NodeReady, Since: now}},
			Events: []schema.NodeEvent{event(schema.NodeReady, 0), event(schema.NodeLagging, 1)},
		}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Side(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		want := &schema.Side{
			At:      now,
			Clients: []schema.ClientCount{{IP: "10.0.0.1", Count: 2}},
			Nodes: []schema.ObservedNode{{Observer: "o1", ReportedAt: now, NodeView: schema.NodeView{
				Name: "geth", Chain: testChain, State: schema.NodeReady, Since: now}}},
			Events: []schema.ObservedEvent{
				{Observer: "o1", NodeEvent: event(schema.NodeReady, 0), ReceivedAt: now},
				{Observer: "o1", NodeEvent: event(schema.NodeLagging, 1), ReceivedAt: now},
			},
		}
		cut := cmp.Transformer("micros", func(t time.Time) int64 { return t.UnixMicro() })
		if diff := cmp.Diff(want, got, cut); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}
