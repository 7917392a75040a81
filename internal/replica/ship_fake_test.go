package replica

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// drawnFeed is a writer's store that is drawn row by row.
type drawnFeed struct {
	epoch string

	mu        sync.Mutex
	rows      []schema.ShippedRow
	sightings []schema.ShippedSighting
	head      uint64
	asked     []schema.HeightRange // digests
	clients   uint64
}

func newDrawnFeed() *drawnFeed { return &drawnFeed{epoch: "drawn"} }

func drawnTime(seq uint64) time.Time { return testTime.Add(time.Duration(seq) * time.Second) }

func (f *drawnFeed) add(r schema.ShippedRow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Seq = uint64(len(f.rows)) + 1
	r.At = drawnTime(r.Seq)
	f.rows = append(f.rows, r)
}

// block adds a block of a height, whose payload has a size.
func (f *drawnFeed) block(number uint64, payload int) *schema.ShippedRecord {
	key := schema.Hash(sha256.Sum256(fmt.Appendf(nil, "%s %d %d", f.epoch, number, len(f.rows)))).Key()
	r := &schema.ShippedRecord{
		ID: uint64(len(f.rows)) + 100, Chain: 1, Key: key, Number: &number, Header: schema.Bytes(key), ContentType: "text/plain",
		Payload: []byte(strings.Repeat("x", payload)), Observer: "o1", Server: "s1", ReceivedAt: testTime,
	}
	f.add(schema.ShippedRow{Record: r, FeedEvent: schema.FeedEvent{
		Kind: schema.FeedBlock, Chain: 1, Key: key, Number: &number, Status: schema.StatusCanonical,
	}})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.head = max(f.head, number)
	return r
}

func (f *drawnFeed) status(r *schema.ShippedRecord) {
	f.add(schema.ShippedRow{FeedEvent: schema.FeedEvent{
		Kind: schema.FeedStatus, Chain: 1, Key: r.Key, Number: r.Number, Status: schema.StatusSafe, Was: schema.StatusCanonical,
	}})
}

// grow adds so many rows of every kind, the same ones always.
func (f *drawnFeed) grow(rows int) *drawnFeed {
	for range rows {
		n := uint64(len(f.rows))
		switch n % 5 {
		case 0, 1:
			f.block(n, int(n))
		case 2:
			f.status(&schema.ShippedRecord{Key: f.rows[n-1].Key, Number: f.rows[n-1].Number})
		case 3:
			payload := fmt.Append(nil, "bare ", n)
			key := schema.PayloadKey(payload)
			f.add(schema.ShippedRow{FeedEvent: schema.FeedEvent{Kind: schema.FeedBare, Key: key}, Record: &schema.ShippedRecord{
				ID: n + 100, Key: key, Payload: payload, ContentType: "text/plain", Server: "s1", ReceivedAt: testTime,
			}})
		case 4:
			to := n + 9
			f.add(schema.ShippedRow{FeedEvent: schema.FeedEvent{Kind: schema.FeedGap, Chain: 1, Number: &n, To: &to, Note: "gone"}})
		}
	}
	return f
}

// fork is another database that has the rows up to a seq.
func (f *drawnFeed) fork(seq int) *drawnFeed {
	return &drawnFeed{epoch: f.epoch, rows: slices.Clone(f.rows[:seq]), head: f.head}
}

func (f *drawnFeed) Shipment(_ context.Context, after uint64, limit, bytes int) ([]schema.ShippedRow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schema.ShippedRow
	for size := 0; len(out) < limit && size < bytes && after < uint64(len(f.rows)); after++ {
		row := f.rows[after]
		if row.Record != nil {
			record := *row.Record
			row.Record = &record
			size += len(record.Payload)
		}
		out = append(out, row)
	}
	return out, nil
}

func (f *drawnFeed) SightingsOf(_ context.Context, records []uint64) ([]schema.ShippedSighting, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schema.ShippedSighting
	for _, row := range f.rows {
		if row.Record == nil || !slices.Contains(records, row.Record.ID) {
			continue
		}
		for _, g := range f.sightings {
			if g.Key == row.Key {
				out = append(out, g)
			}
		}
	}
	return out, nil
}

func (f *drawnFeed) SightingsSince(
	_ context.Context, since time.Time, limit int,
) ([]schema.ShippedSighting, time.Time, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []schema.ShippedSighting
	for _, g := range f.sightings {
		if !g.ReceivedAt.Before(since) && len(out) < limit {
			out = append(out, g)
		}
	}
	return out, drawnTime(uint64(len(f.rows))), nil
}

func (f *drawnFeed) Side(context.Context) (*schema.Side, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &schema.Side{At: testTime, Clients: []schema.ClientCount{{IP: "192.0.2.1", Count: f.clients}}}, nil
}

func (f *drawnFeed) Digests(_ context.Context, ranges ...schema.HeightRange) (
	schema.FeedEnd, []schema.ChainState, []schema.RangeDigest, error,
) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.rows) == 0 {
		return schema.FeedEnd{}, nil, nil, nil
	}
	end := schema.FeedEnd{Epoch: f.epoch, Seq: uint64(len(f.rows))}
	var digests []schema.RangeDigest
	for _, r := range ranges {
		f.asked = append(f.asked, r)
		digests = append(digests, f.digest(r, end.Seq))
	}
	return end, []schema.ChainState{{Chain: 1, Head: schema.Point{Number: f.head}}}, digests, nil
}

// digest sums up what the first rows say of a range.
func (f *drawnFeed) digest(r schema.HeightRange, rows uint64) schema.RangeDigest {
	d := schema.RangeDigest{Chain: r.Chain, From: r.From, To: r.To, Seq: rows}
	sum := sha256.New()
	for _, row := range f.rows[:rows] {
		if row.Kind == schema.FeedGap || row.Number == nil || *row.Number < r.From || *row.Number > r.To {
			continue
		}
		if row.Kind == schema.FeedBlock {
			d.Blocks++
		}
		fmt.Fprintln(sum, row.Key, row.Status)
	}
	sum.Sum(d.Facts[:0])
	return d
}

var testNames = Names{Env: "test", Role: "primary"}

// testClock is a clock that stands still until it is moved.
type testClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *testClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now.IsZero() {
		c.now = testTime
	}
	return c.now
}

func (c *testClock) advance(d time.Duration) {
	now := c.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now.Add(d)
}

// smallSizes make few rows many segments: live ones of at most 3 rows, bulk ones of 10.
var smallSizes = sizes{liveRows: 3, liveBytes: 1 << 20, bulkRows: 10, bulkBytes: 1 << 20}

func newTestShipper(t testing.TB, f ShipStore, o ShipObjects, clock *testClock) *Shipper {
	t.Helper()
	s, err := NewShipper(ShipOptions{
		Names: testNames, Store: f, Objects: o, Holder: t.Name(), Uploads: 1, Now: clock.Now, sizes: smallSizes,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// round does once what Run does again and again.
func (s *Shipper) round(ctx context.Context) error {
	if s.look().epoch == 0 {
		if err := s.start(ctx); err != nil {
			return err
		}
	}
	for more := true; more; {
		var err error
		if more, err = s.step(ctx); err != nil {
			return err
		}
	}
	return cmp.Or(s.beat(ctx), s.compactIfDue(ctx), s.digestIfDue(ctx), s.writeSide(ctx))
}

func shipped(t testing.TB, s *Shipper) {
	t.Helper()
	if err := s.round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// readAll reads what is shipped as a replica does that begins: bulk segments by the index, then live ones.
func readAll(t testing.TB, o ShipObjects) []*Segment {
	t.Helper()
	get := func(key string) ([]byte, bool) {
		body, _, err := o.Get(t.Context(), key)
		if errors.Is(err, objects.ErrNotFound) {
			return nil, false
		}
		if err != nil {
			t.Fatal(err)
		}
		return body, true
	}
	var all []*Segment
	next, link := uint64(1), schema.Hash{}
	add := func(key string) bool {
		body, ok := get(key)
		if !ok {
			return false
		}
		segment, err := DecodeSegment(body)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		if segment.First != next || segment.Prev != link {
			t.Fatalf("%s begins with row %d behind %s, want %d behind %s", key, segment.First, segment.Prev, next, link)
		}
		for i := range segment.Rows {
			r := &segment.Rows[i]
			if r.Object.IsZero() || r.Record != nil {
				continue
			}
			stored, _ := get(testNames.Block(r.Event.Chain, r.Event.Key))
			if r.Record, err = DecodeRecord(stored, r.Object); err != nil {
				t.Fatalf("record of row %d: %v", r.Event.Seq, err)
			}
		}
		all, next, link = append(all, segment), segment.Last+1, segment.Link
		return true
	}
	if body, ok := get(testNames.Index()); ok {
		index, err := DecodeIndex(body)
		if err != nil {
			t.Fatal(err)
		}
		for _, bulk := range index.Segments {
			if !add(testNames.Bulk(bulk.First)) || next != bulk.Last+1 {
				t.Fatalf("bulk segment %d is not as the index says", bulk.First)
			}
		}
	}
	for add(testNames.Feed(next)) {
		continue
	}
	return all
}

// holdsAll checks that every row of the feed is shipped once, with its record and header, and that the checkpoint says so.
func holdsAll(t testing.TB, f *drawnFeed, o *shelf) {
	t.Helper()
	seq, link := uint64(0), schema.Hash{}
	for _, segment := range readAll(t, o) {
		for _, r := range segment.Rows {
			want := f.rows[seq]
			seq++
			if diff := diffJSON(want.FeedEvent, r.Event); diff != "" {
				t.Fatalf("row %d:\n%s", seq, diff)
			}
			if diff := diffJSON(want.Record, r.Record); diff != "" {
				t.Fatalf("record of row %d:\n%s", seq, diff)
			}
			if want.Kind == schema.FeedBlock {
				if header := o.held[testNames.Header(1, *want.Number, seq, want.Key)]; header != string(want.Record.Header) {
					t.Fatalf("header of row %d is %q", seq, header)
				}
			}
		}
		link = segment.Link
	}
	if seq != uint64(len(f.rows)) {
		t.Fatalf("%d rows are shipped of %d", seq, len(f.rows))
	}
	c, err := DecodeCheckpoint([]byte(o.held[testNames.Writer()]))
	if err != nil {
		t.Fatal(err)
	}
	if c.Seq != seq || c.Link != link || c.End != seq {
		t.Fatalf("checkpoint is at row %d of %d, link %s, want %d, %s", c.Seq, c.End, c.Link, seq, link)
	}
}

func diffJSON(want, got any) string {
	left, right := mustJSON(want), mustJSON(got)
	if left == right {
		return ""
	}
	return "want " + left + "\ngot  " + right
}

// told collects hints.
type told struct {
	mu       sync.Mutex
	pointers []broker.Pointer
}

func (b *told) Tell(_ context.Context, p broker.Pointer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pointers = append(b.pointers, p)
}
