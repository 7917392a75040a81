package replica

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

var update = flag.Bool("update", false, "write golden files anew")

func ptr[T any](v T) *T { return &v }

func hashOf(b byte) (h schema.Hash) {
	for i := range h {
		h[i] = b
	}
	return h
}

var testTime = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

// testRecord is a block with all that a record can have.
func testRecord(number uint64, b byte) *schema.ShippedRecord {
	parent, recipient := hashOf(b-1), schema.Address{1, 2, 3}
	return &schema.ShippedRecord{
		ID: 7 + number, Chain: 1, Key: hashOf(b).Key(), Number: &number, Parent: &parent, Time: ptr(testTime.Truncate(time.Second)),
		FeeRecipient: &recipient, Header: schema.Bytes{0xc0, b}, ContentType: "text/html", Payload: []byte("<p>\xff\x00</p>"),
		Observer: "paris", Node: "geth", Origin: schema.OriginHead, Server: "s1", Remote: "192.0.2.1",
		ObservedAt: ptr(testTime), ReceivedAt: testTime.Add(time.Millisecond),
		Transactions: []schema.Transaction{
			{Hash: hashOf(0xaa), From: schema.Address{9}, To: &recipient, Value: "115792089237316195423570985008687907853269984665640564039457584007913129639935"},
			{Hash: hashOf(0xbb), Index: 1, Value: "0", GasUsed: ptr(uint64(21000)), Status: ptr(uint8(0)), Contract: &recipient},
		},
		Raw: []byte{0x1f, 0x8b, 0},
	}
}

func blockRow(seq, number uint64, b byte) Row {
	r := testRecord(number, b)
	return Row{Record: r, Event: schema.FeedEvent{
		Seq: seq, Kind: schema.FeedBlock, Chain: r.Chain, Key: r.Key, Number: r.Number, Status: schema.StatusCanonical, At: testTime,
	}}
}

// testSegment has every kind of row, and every kind of line.
func testSegment() *Segment {
	bare := &schema.ShippedRecord{ID: 9, Key: schema.PayloadKey(nil), ContentType: "text/plain", Server: "s1", Remote: "192.0.2.2", ReceivedAt: testTime}
	return &Segment{
		Head: Head{Env: "prod", Role: "primary", Epoch: 3, Source: "0011223344556677", First: 41, Prev: hashOf(4), At: testTime},
		Rows: []Row{
			blockRow(41, 100, 0x11),
			{Event: schema.FeedEvent{Seq: 42, Kind: schema.FeedStatus, Chain: 1, Key: hashOf(0x11).Key(), Number: ptr(uint64(100)), Status: schema.StatusSafe, Was: schema.StatusCanonical, At: testTime}},
			{Event: schema.FeedEvent{Seq: 43, Kind: schema.FeedBare, Key: bare.Key, At: testTime}, Record: bare},
			{Event: schema.FeedEvent{Seq: 44, Kind: schema.FeedGap, Chain: 1, Number: ptr(uint64(101)), To: ptr(uint64(200)), Note: "pruned <&\u2028>", At: testTime}},
			{Event: schema.FeedEvent{Seq: 45, Kind: schema.FeedBlock, Chain: 1, Key: hashOf(0x12).Key(), Number: ptr(uint64(201)), Status: schema.StatusNonCanonical, At: testTime}, Object: hashOf(0xee)},
			{Event: schema.FeedEvent{Seq: 46, Kind: schema.FeedAlarm, Chain: 1, Note: "contradicts", At: testTime}},
		},
		Sightings: []schema.ShippedSighting{{Chain: 1, Key: hashOf(0x11).Key(), Observer: "oslo", Node: "reth", Server: "s2", Origin: schema.OriginBackfill, ObservedAt: testTime, ReceivedAt: testTime}},
		Digests:   []schema.RangeDigest{{Chain: 1, From: 0, To: 999, Seq: 46, Blocks: 12, Facts: hashOf(5), Payloads: ptr(hashOf(6))}},
		Chains:    []schema.ChainState{{Chain: 1, Root: schema.Point{Number: 1, Hash: hashOf(1)}, Head: schema.Point{Number: 100, Hash: hashOf(0x11)}, Safe: ptr(uint64(100)), Halted: "contradicts"}},
	}
}

func encoded(t testing.TB, s *Segment) []byte {
	t.Helper()
	stored, err := EncodeSegment(s)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func segmentText(t testing.TB, stored []byte) []byte {
	t.Helper()
	text, err := decompress(stored, MaxSegment)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestSegmentIsAsTheGoldenFileHasIt(t *testing.T) {
	t.Parallel()
	s := testSegment()
	text := segmentText(t, encoded(t, s))
	golden := filepath.Join("testdata", "segment.jsonl")
	if *update {
		if err := os.WriteFile(golden, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("a segment is encoded as\n%s\nwant\n%s", text, want)
	}
	stored, err := compress(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSegment(stored)
	if err != nil {
		t.Fatal(err)
	}
	for i := range s.Rows {
		s.Rows[i].body = nil
	}
	if diff := cmp.Diff(s, got, cmp.AllowUnexported(Row{}, Segment{})); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

func TestLinksAreTheSameHoweverRowsAreCut(t *testing.T) {
	t.Parallel()
	whole := testSegment()
	encoded(t, whole)
	for cut := 1; cut < len(whole.Rows); cut++ {
		first := &Segment{Head: whole.Head, Rows: whole.Rows[:cut:cut]}
		encoded(t, first)
		second := &Segment{Head: whole.Head, Rows: whole.Rows[cut:]}
		second.First, second.Prev = first.Last+1, first.Link
		encoded(t, second)
		if second.Link != whole.Link || second.Last != whole.Last {
			t.Errorf("cut after %d rows: ends with %d %s, want %d %s", cut, second.Last, second.Link, whole.Last, whole.Link)
		}
	}
}

func TestEncodeSegmentRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Segment){
		"no rows":                   func(s *Segment) { s.Rows = nil },
		"rows with a hole":          func(s *Segment) { s.Rows[3].Event.Seq++ },
		"rows from elsewhere":       func(s *Segment) { s.First++ },
		"a block without an object": func(s *Segment) { s.Rows[4].Object = schema.Hash{} },
		"a status with an object":   func(s *Segment) { s.Rows[1].Object = hashOf(1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := testSegment()
			change(s)
			if _, err := EncodeSegment(s); err == nil {
				t.Error("was encoded")
			}
		})
	}
}

func TestDecodeSegmentRefusesWhatIsNotAsWritten(t *testing.T) {
	t.Parallel()
	text := string(segmentText(t, encoded(t, testSegment())))
	for name, change := range map[string]func(string) string{
		"nothing":                 func(string) string { return "" },
		"another format":          func(s string) string { return strings.Replace(s, `"format":1`, `"format":2`, 1) },
		"an unknown member":       func(s string) string { return strings.Replace(s, `{"format"`, `{"x":1,"format"`, 1) },
		"a doubled member":        func(s string) string { return strings.Replace(s, `{"format"`, `{"env":"prod","format"`, 1) },
		"row 0":                   func(s string) string { return strings.Replace(s, `"first":41`, `"first":0`, 1) },
		"ends before it begins":   func(s string) string { return strings.Replace(s, `"last":46`, `"last":40`, 1) },
		"more rows than bytes":    func(s string) string { return strings.Replace(s, `"last":46`, `"last":9999999999`, 1) },
		"a row less":              func(s string) string { return strings.Replace(s, `"last":46`, `"last":47`, 1) },
		"a row more":              func(s string) string { return strings.Replace(s, `"last":46`, `"last":45`, 1) },
		"another link":            func(s string) string { return strings.Replace(s, `"link":"0x`, `"link":"0x00`, 1) },
		"another start":           func(s string) string { return strings.Replace(s, `"prev":"0x0404`, `"prev":"0x0405`, 1) },
		"a status changed":        func(s string) string { return strings.Replace(s, `"status":"safe"`, `"status":"finalized"`, 1) },
		"a payload changed":       func(s string) string { return strings.Replace(s, `"payload":"PHA+`, `"payload":"PHB+`, 1) },
		"an object changed":       func(s string) string { return strings.Replace(s, `"object":"0xee`, `"object":"0xef`, 1) },
		"an upper-case object":    func(s string) string { return strings.Replace(s, `"object":"0xee`, `"object":"0xEE`, 1) },
		"a space in a row":        func(s string) string { return strings.Replace(s, `,"object":`, `, "object":`, 1) },
		"bytes behind a row":      func(s string) string { return strings.Replace(s, "}}\n", "}}}\n", 1) },
		"an unknown line":         func(s string) string { return s + "{}\n" },
		"two things in a line":    func(s string) string { return strings.Replace(s, `{"digest":`, `{"chains":[],"digest":`, 1) },
		"chains twice":            func(s string) string { return s + "{\"chains\":[]}\n" },
		"no end of line":          func(s string) string { return s[:len(s)-1] },
		"a digest of another row": func(s string) string { return strings.Replace(s, `"seq":46,"blocks"`, `"seq":45,"blocks"`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			changed := change(text)
			if changed == text {
				t.Fatal("nothing was changed")
			}
			stored, err := compress([]byte(changed))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := DecodeSegment(stored); !errors.Is(err, ErrDamaged) {
				t.Errorf("got error %v, want %v", err, ErrDamaged)
			}
		})
	}
}

func TestDecodeSegmentRefusesEveryFlippedBitAndEveryCut(t *testing.T) {
	t.Parallel()
	stored := encoded(t, testSegment())
	text := segmentText(t, stored)
	for i := range stored {
		for bit := range 8 {
			flipped := bytes.Clone(stored)
			flipped[i] ^= 1 << bit
			got, err := decompress(flipped, MaxSegment)
			unused := err == nil && bytes.Equal(got, text) // one bit of zstd's frame means nothing
			if _, err := DecodeSegment(flipped); !unused && !errors.Is(err, ErrDamaged) {
				t.Fatalf("bit %d of byte %d flipped: got error %v, want %v", bit, i, err, ErrDamaged)
			}
		}
		if _, err := DecodeSegment(stored[:i]); !errors.Is(err, ErrDamaged) {
			t.Fatalf("cut off after %d bytes: got error %v, want %v", i, err, ErrDamaged)
		}
	}
	if _, err := DecodeSegment(append(stored, stored...)); !errors.Is(err, ErrDamaged) {
		t.Errorf("twice: got error %v, want %v", err, ErrDamaged)
	}
}

func TestDecompressionIsBounded(t *testing.T) {
	t.Parallel()
	stored, err := compress(make([]byte, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decompress(stored, 1<<20-1); !errors.Is(err, ErrDamaged) {
		t.Errorf("got error %v, want %v", err, ErrDamaged)
	}
	if _, err := decompress(stored, 1<<20); err != nil {
		t.Error(err)
	}
}

// storedRecord returns a record as its object is stored, and the hash that rows name it by.
func storedRecord(t testing.TB, record *schema.ShippedRecord) ([]byte, schema.Hash) {
	t.Helper()
	row := Row{Record: record}
	if err := row.encodeBody(); err != nil {
		t.Fatal(err)
	}
	stored, err := compress(row.body)
	if err != nil {
		t.Fatal(err)
	}
	return stored, row.Object
}

func TestRecordsAreVerifiedByTheirObject(t *testing.T) {
	t.Parallel()
	want := testRecord(5, 0x20)
	stored, object := storedRecord(t, want)
	got, err := DecodeRecord(stored, object)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	if _, err := DecodeRecord(stored, hashOf(1)); !errors.Is(err, ErrDamaged) {
		t.Errorf("of another hash: got error %v, want %v", err, ErrDamaged)
	}
}

func TestIndexFindsTheSegmentOfARow(t *testing.T) {
	t.Parallel()
	x := &Index{Segments: []IndexSegment{{First: 1, Last: 10, Rows: 10}, {First: 11, Last: 11, Rows: 1}, {First: 12, Last: 30, Rows: 19}}}
	stored, err := EncodeIndex(x)
	if err != nil {
		t.Fatal(err)
	}
	if x, err = DecodeIndex(stored); err != nil {
		t.Fatal(err)
	}
	for seq, first := range map[uint64]uint64{0: 0, 1: 1, 10: 1, 11: 11, 12: 12, 30: 12, 31: 0} {
		if s, ok := x.Find(seq); ok != (first > 0) || s.First != first {
			t.Errorf("row %d is found in the segment from %d, want %d", seq, s.First, first)
		}
	}
	if x.End() != 30 {
		t.Errorf("ends with %d, want 30", x.End())
	}
	for name, segments := range map[string][]IndexSegment{
		"a hole":     {{First: 1, Last: 10, Rows: 10}, {First: 12, Last: 12, Rows: 1}},
		"an overlap": {{First: 1, Last: 10, Rows: 10}, {First: 10, Last: 12, Rows: 3}},
		"backwards":  {{First: 1, Last: 0}},
	} {
		stored, err := EncodeIndex(&Index{Segments: segments})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeIndex(stored); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: got error %v, want %v", name, err, ErrDamaged)
		}
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	n := Names{Env: "prod", Role: "primary"}
	key := hashOf(0xab).Key()
	for got, want := range map[string]string{
		n.Writer():             "prod/primary/writer",
		n.Index():              "prod/primary/index",
		n.Side():               "prod/primary/side",
		n.Feed(7):              "prod/primary/feed/000000000007",
		n.Bulk(7):              "prod/primary/bulk/000000000007",
		n.Block(1, key):        "prod/1/primary/block/" + string(key),
		n.Header(1, 9, 7, key): "prod/1/primary/header/000000000009/000000000007/" + string(key),
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	number, seq, k, err := n.ParseHeader(1, n.Header(1, 9, 7, key))
	if err != nil || number != 9 || seq != 7 || k != key {
		t.Errorf("parsed to %d, %d, %s: %v", number, seq, k, err)
	}
	if _, _, _, err := n.ParseHeader(1, n.HeaderHeight(1, 9)+"7/"+string(key)); err == nil {
		t.Error("a seq without leading zeros was parsed")
	}
	for _, bad := range []Names{{Env: "", Role: "a"}, {Env: "a", Role: "a/b"}, {Env: "..", Role: "a"}, {Env: "a", Role: "17"}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
	if err := n.Validate(); err != nil {
		t.Error(err)
	}
}

func TestASegmentThatNoReaderTakesIsNotMade(t *testing.T) {
	t.Parallel()
	s := &Segment{Head: Head{First: 1}, Rows: []Row{{
		Event: schema.FeedEvent{Seq: 1, Kind: schema.FeedBare}, Object: schema.Hash{1}, body: make([]byte, MaxSegment),
	}}}
	if _, err := EncodeSegment(s); err == nil {
		t.Error("it was encoded")
	}
}

// Which branches JSON takes depends on its pools, so the fuzzer cannot make inputs smaller and spends a minute on each:
// run it with -fuzzminimizetime=1x.
func FuzzDecodeSegment(f *testing.F) {
	text := segmentText(f, encoded(f, testSegment()))
	f.Add(text)
	f.Add(text[:len(text)/2])
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parseSegment(text)
		if err != nil {
			return
		}
		again, err := s.text()
		if err != nil {
			t.Fatal(err)
		}
		twice, err := parseSegment(again)
		if err != nil {
			t.Fatalf("encoded again as\n%s\n%v", again, err)
		}
		if twice.Link != s.Link || twice.Last != s.Last {
			t.Fatalf("encoded again, it ends with %d %s, not %d %s", twice.Last, twice.Link, s.Last, s.Link)
		}
	})
}

func TestSideComesBackAsItWas(t *testing.T) {
	t.Parallel()
	want := &Side{Format: Format, Epoch: 3, Side: schema.Side{
		At: testTime,
		Nodes: []schema.ObservedNode{{Observer: "oslo", ReportedAt: testTime, NodeView: schema.NodeView{
			Name: "geth", Chain: 1, State: schema.NodeReady, Height: ptr(uint64(7)), Since: testTime,
			Latency: &schema.Latency{P50: 1.5, P99: 20},
		}}},
		Events: []schema.ObservedEvent{{Observer: "oslo", ReceivedAt: testTime, NodeEvent: schema.NodeEvent{
			Node: "geth", Chain: 1, From: schema.NodeLive, To: schema.NodeReady, Reason: "caught up", At: testTime,
		}}},
		Clients: []schema.ClientCount{{IP: "192.0.2.7", Count: 3}},
	}}
	stored, err := EncodeSide(*want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeSide(stored)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
}

func TestRecordsOfAnySizeComeBack(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 100, 255, 256, 257, 65535, 65536, 1 << 20} {
		body := bytes.Repeat([]byte{'x'}, size)
		stored, err := compress(body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := decompress(stored, MaxRecord)
		if err != nil || !bytes.Equal(got, body) {
			t.Errorf("%d bytes come back as %d: %v", size, len(got), err)
		}
	}
}
