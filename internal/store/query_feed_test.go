package store

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func TestFeedIsReadInOrderWithItsRecords(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		empty, err := s.FeedEnd(t.Context())
		if err != nil || empty != (schema.FeedEnd{}) {
			t.Fatalf("end of an empty feed: %+v, %v", empty, err)
		}
		sd := &seed{t: t, db: s.db}
		block := seedRecord(5, 7, 0, schema.StatusSafe)
		sd.records(block, bareRecord("hello", 99e6))
		sd.create([]feedRow{
			{Seq: 3, Kind: string(schema.FeedStatus), Chain: 5, Key: &block.Key, Number: block.Number,
				Status: ptr("safe"), Was: ptr("canonical"), At: 100e6},
			{Seq: 4, Kind: string(schema.FeedGap), Chain: 5, Number: ptr(uint64(8)), ToNumber: ptr(uint64(9)),
				Note: ptr("too old"), At: 101e6},
		})
		got, err := s.Feed(t.Context(), 0, 10)
		if err != nil || len(got) != 4 {
			t.Fatalf("%d rows, %v", len(got), err)
		}
		for i, e := range got {
			if e.Seq != uint64(i)+1 {
				t.Errorf("row %d has seq %d", i, e.Seq)
			}
		}
		first, status, gap := got[0], got[2], got[3]
		if first.Kind != schema.FeedBlock || first.Record == nil || first.Record.Header.Number != 7 ||
			first.Record.Header.Parent != seedHash(5, 6, 0) || first.Record.Observer != "alice" {
			t.Errorf("block: %+v", first)
		}
		if bare := got[1]; bare.Kind != schema.FeedBare || bare.Record == nil || bare.Record.Header != nil {
			t.Errorf("bare: %+v", bare)
		}
		if status.Was != schema.StatusCanonical || status.Status != schema.StatusSafe || status.Record.ID != first.Record.ID {
			t.Errorf("status: %+v", status)
		}
		want := schema.FeedEntry{FeedEvent: schema.FeedEvent{
			Seq: 4, Kind: schema.FeedGap, Chain: 5, Number: ptr(uint64(8)), To: ptr(uint64(9)), Note: "too old",
			At: schema.FromMicros(101e6),
		}}
		if diff := cmp.Diff(want, gap); diff != "" {
			t.Error(diff)
		}
		part, err := s.Feed(t.Context(), 1, 2)
		if err != nil || len(part) != 2 || part[0].Seq != 2 {
			t.Errorf("after 1: %+v, %v", part, err)
		}
		end, err := s.FeedEnd(t.Context())
		if err != nil || end.Seq != 2 || end.Epoch == "" { // the counter was left at the records
			t.Errorf("end %+v, %v", end, err)
		}
	})
}

func TestAddressesOfBlocksAreToldOnce(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		sd := &seed{t: t, db: s.db}
		block, empty := seedRecord(5, 7, 0, schema.StatusSafe), seedRecord(5, 8, 0, schema.StatusSafe)
		creation := seedTransaction(block, 2)
		creation.Recipient, creation.Contract = nil, ptr("cccccccccccccccccccccccccccccccccccccccc")
		sd.create([]transactionRow{seedTransaction(block, 0), seedTransaction(block, 1), creation})
		got, err := s.BlockAddresses(t.Context(), []schema.Key{schema.Key(block.Key), schema.Key(empty.Key)})
		if err != nil || len(got) != 1 {
			t.Fatalf("%v, %v", got, err)
		}
		var firsts []byte
		for _, a := range got[schema.Key(block.Key)] {
			firsts = append(firsts, a[0])
		}
		slices.Sort(firsts)
		if !slices.Equal(firsts, []byte{0xaa, 0xbb, 0xcc}) {
			t.Errorf("addresses begin with %x", firsts)
		}
	})
}
