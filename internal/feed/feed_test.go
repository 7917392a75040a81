package feed

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a feed's table in memory.
type table struct {
	mu    sync.Mutex // guards what follows
	epoch string
	was   string // the epoch before, up to since
	since uint64
	first uint64 // rows before it were pruned
	rows  []schema.FeedEntry
	err   error
	who   map[schema.Key][]schema.Address
}

func newTable() *table { return &table{epoch: "e0", first: 1} }

func (t *table) add(rows ...schema.FeedEntry) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range rows {
		r.Seq = uint64(len(t.rows)) + 1
		t.rows = append(t.rows, r)
	}
	return uint64(len(t.rows))
}

func (t *table) change(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

func (t *table) Feed(_ context.Context, after uint64, limit int) ([]schema.FeedEntry, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	from := max(after, t.first-1)
	if t.err != nil || from >= uint64(len(t.rows)) {
		return nil, t.err
	}
	to := min(from+uint64(limit), uint64(len(t.rows)))
	return append([]schema.FeedEntry(nil), t.rows[from:to]...), nil
}

func (t *table) FeedEnd(context.Context) (schema.FeedEnd, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.rows) == 0 {
		return schema.FeedEnd{}, t.err
	}
	return schema.FeedEnd{Epoch: t.epoch, Seq: uint64(len(t.rows)), Was: t.was, Since: t.since}, t.err
}

func (t *table) BlockAddresses(context.Context, []schema.Key) (map[schema.Key][]schema.Address, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.who, t.err
}

// block is a row that adds a block to chain 1.
func block(n uint64) schema.FeedEntry {
	return schema.FeedEntry{FeedEvent: schema.FeedEvent{
		Kind: schema.FeedBlock, Chain: 1, Key: schema.Key(fmt.Sprint("k", n)), Number: &n, Status: schema.StatusCanonical,
	}}
}

func blocks(n int) []schema.FeedEntry {
	var out []schema.FeedEntry
	for i := range n {
		out = append(out, block(uint64(i+1)))
	}
	return out
}

func running(t *testing.T, o Options) *Feed {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	run(t, f.Run)
	return f
}

// run runs f until the test ends, and waits for it.
func run(t *testing.T, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func subscribe(t *testing.T, f *Feed, filter Filter, from Place) *Subscription {
	t.Helper()
	s, err := f.Subscribe(t.Context(), filter, from)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// take returns the next n events in short: their seqs, and missing ones as [from-to].
func take(t *testing.T, s *Subscription, n int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var out []string
	for len(out) < n {
		events, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("after %v: %v", out, err)
		}
		for _, e := range events {
			if e.Missing != nil {
				out = append(out, fmt.Sprintf("[%d-%d]", e.Missing.From, e.Missing.To))
				continue
			}
			out = append(out, fmt.Sprint(e.Seq))
		}
	}
	return strings.Join(out, " ")
}

func TestReadersGetHistoryThenLiveEvents(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(5)...)
	hints := NewHints(HintsOptions{})
	f := running(t, Options{Source: rows, Hints: hints})
	all := subscribe(t, f, Filter{}, Place{})
	late := subscribe(t, f, Filter{}, Place{Cursor: Cursor{"e0", 3}})
	now := subscribe(t, f, Filter{}, Place{Latest: true})
	if got := take(t, all, 5) + "|" + take(t, late, 2); got != "1 2 3 4 5|4 5" {
		t.Errorf("history %s", got)
	}
	hints.Tell(rows.add(block(6)))
	if got := take(t, all, 1) + take(t, late, 1) + take(t, now, 1); got != "666" {
		t.Errorf("live %s", got)
	}
	if got := now.Cursor().String(); got != "e0.6" {
		t.Errorf("cursor %s", got)
	}
}

func TestPollingFindsWhatNoHintTold(t *testing.T) {
	t.Parallel()
	rows := newTable()
	f := running(t, Options{Source: rows, Poll: 10 * time.Millisecond})
	s := subscribe(t, f, Filter{}, Place{Latest: true})
	rows.add(blocks(3)...)
	if got := take(t, s, 3); got != "1 2 3" {
		t.Error(got)
	}
	if got := s.Cursor().String(); got != "e0.3" {
		t.Errorf("cursor %s", got)
	}
}

func TestHistoryBeyondMemoryComesFromTheTable(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(2000)...)
	f := running(t, Options{Source: rows, Recent: 10})
	s := subscribe(t, f, Filter{}, Place{Cursor: Cursor{"e0", 100}})
	got := strings.Fields(take(t, s, 1900))
	for i, seq := range got {
		if seq != fmt.Sprint(101+i) {
			t.Fatalf("event %d is %s", i, seq)
		}
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(20)...)
	rows.first = 15
	f := running(t, Options{Source: rows, Recent: 2, Poll: 10 * time.Millisecond})
	for name, c := range map[string]struct {
		from Cursor
		n    int
		want string
	}{
		"rows that were pruned":           {Cursor{"e0", 3}, 7, "[4-14] 15 16 17 18 19 20"},
		"from the beginning":              {Cursor{}, 7, "[1-14] 15 16 17 18 19 20"},
		"a cursor of another database":    {Cursor{"ff", 3}, 8, "[0-0] [1-14] 15 16 17 18 19 20"},
		"a cursor beyond the feed's end":  {Cursor{"e0", 22}, 1, "[21-22]"},
		"nothing, when nothing is amiss":  {Cursor{"e0", 18}, 2, "19 20"},
		"nothing, right behind a pruning": {Cursor{"e0", 14}, 6, "15 16 17 18 19 20"},
	} {
		s := subscribe(t, f, Filter{}, Place{Cursor: c.from})
		if got := take(t, s, c.n); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestReadersHearThatTheDatabaseWasReplacedOrSetBack(t *testing.T) {
	t.Parallel()
	rows := newTable()
	rows.add(blocks(5)...)
	f := running(t, Options{Source: rows, Poll: 10 * time.Millisecond})
	s := subscribe(t, f, Filter{}, Place{Cursor: Cursor{"e0", 4}})
	if got := take(t, s, 1); got != "5" {
		t.Fatal(got)
	}
	rows.change(func() { rows.rows = rows.rows[:3] })
	if got := take(t, s, 1); got != "[4-5]" {
		t.Errorf("set back: %s", got)
	}
	rows.add(block(9))
	if got := take(t, s, 1); got != "4" {
		t.Errorf("after it was set back: %s", got)
	}
	rows.change(func() { rows.epoch, rows.rows = "e1", nil })
	rows.add(blocks(2)...)
	if got := take(t, s, 3); got != "[0-0] 1 2" || s.Cursor().String() != "e1.2" {
		t.Errorf("replaced: %s, cursor %s", got, s.Cursor())
	}
}

func TestASlowReaderIsCutOffWithItsPlace(t *testing.T) {
	t.Parallel()
	rows := newTable()
	f := running(t, Options{Source: rows, Buffer: 8, Poll: 5 * time.Millisecond})
	slow := subscribe(t, f, Filter{}, Place{Latest: true})
	fast := subscribe(t, f, Filter{}, Place{Latest: true})
	rows.add(block(1))
	take(t, slow, 1)
	take(t, fast, 1)
	for n := range 40 {
		rows.add(block(uint64(n + 2)))
		take(t, fast, 1)
	}
	_, err := slow.Next(t.Context())
	var tooSlow *SlowError
	if !errors.As(err, &tooSlow) || tooSlow.Cursor.String() != "e0.1" {
		t.Errorf("slow reader got %v", err)
	}
}

func TestFiltersLetThroughWhatTheyName(t *testing.T) {
	t.Parallel()
	n, a := uint64(7), schema.Address{1}
	row := func(kind schema.FeedKind, chain uint64, was, is schema.Status) *Event {
		e := newEvent("e0", schema.FeedEntry{FeedEvent: schema.FeedEvent{
			Kind: kind, Chain: chain, Number: &n, Was: was, Status: is,
		}})
		e.addresses, e.addressed = []schema.Address{a}, true
		return e
	}
	added := row(schema.FeedBlock, 1, "", schema.StatusCanonical)
	final := row(schema.FeedStatus, 1, schema.StatusSafe, schema.StatusFinalized)
	gap := row(schema.FeedGap, 1, "", "")
	bare := row(schema.FeedBare, 0, "", "")
	lost := missing(Cursor{}, Missing{})
	for name, c := range map[string]struct {
		filter Filter
		want   []bool // added, final, gap, bare, lost
	}{
		"all":              {Filter{}, []bool{true, true, true, true, true}},
		"a chain":          {Filter{Chains: []uint64{1}}, []bool{true, true, true, false, true}},
		"another chain":    {Filter{Chains: []uint64{2, 3}}, []bool{false, false, false, false, true}},
		"a kind":           {Filter{Kinds: []schema.FeedKind{"block"}}, []bool{true, false, false, false, true}},
		"a status":         {Filter{Statuses: []schema.Status{"canonical"}}, []bool{true, false, true, false, true}},
		"what is final":    {Filter{Finalized: true}, []bool{false, true, true, false, true}},
		"an address":       {Filter{Addresses: []schema.Address{{2}, a}}, []bool{true, true, true, true, true}},
		"another address":  {Filter{Addresses: []schema.Address{{2}}}, []bool{false, false, true, false, true}},
		"a chain's blocks": {Filter{Chains: []uint64{1}, Kinds: []schema.FeedKind{"block", "bare"}}, []bool{true, false, false, false, true}},
	} {
		for i, e := range []*Event{added, final, gap, bare, lost} {
			if got := c.filter.match(e); got != c.want[i] {
				t.Errorf("%s: %s let through: %v", name, e.Kind, got)
			}
		}
	}
	x := Filter{Chains: []uint64{2, 1, 2}, Addresses: []schema.Address{{2}, a}}
	y := Filter{Chains: []uint64{1, 2}, Addresses: []schema.Address{a, {2}, a}}
	if x.key() != y.key() || x.key() == (Filter{}).key() {
		t.Errorf("keys %s, %s", x.key(), y.key())
	}
}

func TestEffectsSayWhatHappensToTheBranch(t *testing.T) {
	t.Parallel()
	h := newHub(8, 8)
	seq := uint64(0)
	for _, c := range []struct {
		what    string
		was, is schema.Status
		number  uint64
		effect  Effect
		head    bool
	}{
		{"the first block", "", schema.StatusCanonical, 5, Apply, true},
		{"a block on top", "", schema.StatusCanonical, 6, Apply, true},
		{"its sibling", "", schema.StatusNonCanonical, 6, NoEffect, false},
		{"a mark moves", schema.StatusCanonical, schema.StatusSafe, 5, NoEffect, false},
		{"the tip is replaced", schema.StatusCanonical, schema.StatusNonCanonical, 6, Undo, false},
		{"by its sibling", schema.StatusNonCanonical, schema.StatusCanonical, 6, Apply, true},
		{"an ancestor is filled in", "", schema.StatusCanonical, 4, Apply, false},
	} {
		seq++
		e := newEvent("e0", schema.FeedEntry{FeedEvent: schema.FeedEvent{
			Seq: seq, Kind: schema.FeedStatus, Chain: 1, Number: &c.number, Was: c.was, Status: c.is,
		}})
		h.publish([]*Event{e})
		if e.Effect != c.effect || e.Head != c.head {
			t.Errorf("%s: effect %q, head %v", c.what, e.Effect, e.Head)
		}
	}
}

func TestAnEncodingIsMadeOnce(t *testing.T) {
	t.Parallel()
	e, made := &Event{}, 0
	encode := func(*Event) ([]byte, error) { made++; return []byte("x"), nil }
	if _, err := e.Form(1, func(*Event) ([]byte, error) { return nil, errors.New("not now") }); err == nil {
		t.Error("the error is lost")
	}
	var readers sync.WaitGroup
	for range 8 {
		readers.Go(func() {
			if text, err := e.Form(1, encode); err != nil || string(text) != "x" {
				t.Errorf("%s, %v", text, err)
			}
		})
	}
	readers.Wait()
	if made != 1 {
		t.Errorf("made %d times", made)
	}
}

func TestCursorsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []Cursor{{}, {"e0", 0}, {"0a", 1 << 62}} {
		if got, err := ParseCursor(c.String()); err != nil || got != c {
			t.Errorf("%s: %v, %v", c, got, err)
		}
	}
	for _, bad := range []string{"", "5", "e0", "e0.", "e0.-1", "e0.+1", "e0.01", "E0.1", "g.1", "e0.1 ", "e0.9223372036854775808",
		strings.Repeat("a", 65) + ".1", "e0.1.1"} {
		if c, err := ParseCursor(bad); !errors.Is(err, ErrCursor) {
			t.Errorf("%q: %v, %v", bad, c, err)
		}
	}
}

// TestReadersThatComeAndGoSeeEverySeqOnce lets readers with small memories join, read some and leave again, while the
// table grows.
func TestReadersThatComeAndGoSeeEverySeqOnce(t *testing.T) {
	t.Parallel()
	const total, readers = 3000, 8
	rows := newTable()
	hints := NewHints(HintsOptions{})
	f := running(t, Options{Source: rows, Hints: hints, Recent: 64, Buffer: 32, Poll: 20 * time.Millisecond})
	var all sync.WaitGroup
	for reader := range readers {
		all.Go(func() { comeAndGo(t, f, total, rand.New(rand.NewPCG(1, uint64(reader)))) })
	}
	for n := range total {
		seq := rows.add(block(uint64(n + 1)))
		if rand.IntN(4) == 0 {
			hints.Tell(seq)
		}
	}
	all.Wait()
}

func comeAndGo(t *testing.T, f *Feed, total uint64, dice *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	at := Cursor{}
	for at.Seq < total {
		s, err := f.Subscribe(ctx, Filter{}, Place{Cursor: at})
		if err != nil {
			t.Error(err)
			return
		}
		for until := at.Seq + 1 + dice.Uint64N(400); at.Seq < min(until, total); {
			events, err := s.Next(ctx)
			var slow *SlowError
			if errors.As(err, &slow) {
				if slow.Cursor != at {
					t.Errorf("cut off at %s, had %s", slow.Cursor, at)
				}
				break
			}
			if err != nil {
				t.Error(err)
				s.Close()
				return
			}
			for _, e := range events {
				if e.Seq != at.Seq+1 {
					t.Errorf("%d after %s", e.Seq, at)
				}
				at = e.Cursor()
			}
		}
		s.Close()
	}
}

func TestUnreadableTablesMakeTheFeedUnready(t *testing.T) {
	t.Parallel()
	rows := newTable()
	var clock struct {
		sync.Mutex
		now time.Time
	}
	clock.now = time.Unix(1e9, 0)
	now := func() time.Time { clock.Lock(); defer clock.Unlock(); return clock.now }
	f := running(t, Options{Source: rows, Poll: 5 * time.Millisecond, Now: now})
	eventually(t, "ready", func() bool { return f.Ready(t.Context()) == nil })
	rows.change(func() { rows.err = errors.New("gone") })
	eventually(t, "not ready", func() bool {
		clock.Lock()
		clock.now = clock.now.Add(time.Second)
		clock.Unlock()
		return f.Ready(t.Context()) != nil
	})
	rows.change(func() { rows.err = nil })
	eventually(t, "ready again", func() bool { return f.Ready(t.Context()) == nil })
}

// eventually polls cond, which is the only way to wait for what happens elsewhere.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
