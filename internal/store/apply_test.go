package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/firstseen/firstseen/schema"
)

// tester is a test, random or not.
type tester interface {
	rapid.TB
	Context() context.Context
}

// mirror is a replica of a store, fed by hand.
type mirror struct {
	t     tester
	from  *Store
	to    *Store
	chain uint64             // the only one to look at; 0 for all
	cut   func(rows int) int // how many of the rows that are there the next application takes; nil takes all
}

func newMirror(t *testing.T, from *Store) *mirror {
	t.Helper()
	to := opened(t, Options{DSN: "memory"})
	if err := to.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &mirror{t: t, from: from, to: to}
}

// sync applies what the replica does not have yet.
func (m *mirror) sync() {
	m.t.Helper()
	for {
		place, rows := m.next(1000)
		if len(rows) == 0 {
			return
		}
		if m.cut != nil {
			rows = rows[:m.cut(len(rows))]
		}
		m.apply(place, rows)
	}
}

// next is where the replica is, and up to limit rows that it does not have.
func (m *mirror) next(limit int) (*ReplicaPlace, []schema.ShippedRow) {
	m.t.Helper()
	place, err := m.to.ReplicaPlace(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	after := uint64(0)
	if place != nil {
		after = place.Seq
	}
	rows, err := m.from.Shipment(m.t.Context(), after, limit, 1<<30)
	if err != nil {
		m.t.Fatal(err)
	}
	return place, rows
}

func (m *mirror) apply(place *ReplicaPlace, rows []schema.ShippedRow) {
	m.t.Helper()
	app := application1(place, rows)
	var ids []uint64
	for _, r := range rows {
		if r.Record != nil {
			ids = append(ids, r.Record.ID)
		}
	}
	var err error
	if app.Sightings, err = m.from.SightingsOf(m.t.Context(), ids); err != nil {
		m.t.Fatal(err)
	}
	end, chains, _, err := m.from.Digests(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if end.Seq == app.After.Seq {
		app.Chains = slices.DeleteFunc(chains, func(c schema.ChainState) bool { return m.chain > 0 && c.Chain != m.chain })
	}
	done, err := m.to.Apply(m.t.Context(), app)
	if err != nil {
		m.t.Fatal(err)
	}
	if len(done.Differ) > 0 {
		ours, _ := m.to.Chains(m.t.Context())
		m.t.Fatalf("after row %d chains stand at %+v, at the writer %+v", end.Seq, ours, done.Differ)
	}
}

// application1 leads on from a place.
func application1(place *ReplicaPlace, rows []schema.ShippedRow) *Application {
	after := ReplicaPlace{Env: "test", Role: "primary", Source: "0123"}
	if place != nil {
		after = *place
	}
	after.Seq = rows[len(rows)-1].Seq
	after.Link[0]++
	return &Application{Believed: place, After: after, Rows: rows}
}

// compare wants everything in the replica as it is at the writer.
func (m *mirror) compare() {
	m.t.Helper()
	for _, table := range []string{
		"SELECT id, chain, `key`, number, parent, status, block_time, observed_at, received_at, content_type, payload, " +
			"observer, node, origin, server, remote, fee_recipient, header, payload_pruned_at FROM records ORDER BY id",
		"SELECT chain, block, hash, number, tx_index, sender, recipient, value, gas_used, tx_status, contract " +
			"FROM transactions ORDER BY block, hash",
		"SELECT record, body FROM raws ORDER BY record",
		"SELECT seq, kind, chain, `key`, number, to_number, status, was, note, at FROM feed ORDER BY seq",
		"SELECT last_seq FROM feed_counter",
	} {
		if diff := cmp.Diff(dump(m.t, m.from, table), dump(m.t, m.to, table)); diff != "" {
			m.t.Fatalf("%s (-writer +replica):\n%s", table, diff)
		}
	}
	ranges := []schema.HeightRange{{Chain: testChain, From: 0, To: 999}}
	end, chains, digests, err := m.from.Digests(m.t.Context(), ranges...)
	if err != nil {
		m.t.Fatal(err)
	}
	itsEnd, itsChains, itsDigests, err := m.to.Digests(m.t.Context(), ranges...)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range chains {
		if i < len(itsChains) && sameState(itsChains[i], chains[i]) {
			itsChains[i].Root = chains[i].Root // it may be lower
		}
	}
	if diff := cmp.Diff([]any{end, chains, digests}, []any{itsEnd, itsChains, itsDigests}); diff != "" {
		m.t.Fatalf("end, chains and digests (-writer +replica):\n%s", diff)
	}
}

func dump(t tester, s *Store, query string) [][]string {
	t.Helper()
	var out [][]string
	rows, err := s.db.Raw(query).Rows()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		columns, into := make([]any, len(names)), make([]any, len(names))
		for i := range columns {
			into[i] = &columns[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = fmt.Sprintf("%s=%s", names[i], c)
			switch c.(type) {
			case int64, uint64: // the latter from MySQL
				line[i] = fmt.Sprintf("%s=%d", names[i], c)
			}
			if b, ok := c.([]byte); c == nil || ok && len(b) == 0 {
				line[i] = names[i] + "="
			}
		}
		out = append(out, line)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestReplicaOfRandomHistories lets observers walk about a random tree, some of whose blocks come late or never, tell of
// safe and finalized blocks and of gaps, and compares the replica with its writer after each step.
func TestReplicaOfRandomHistories(t *testing.T) {
	t.Parallel()
	now := time.Unix(1e9, 0)
	s := opened(t, Options{DSN: "memory", Now: func() time.Time { return now }})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	running(t, s)
	m := newMirror(t, s)
	chain := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		chain++
		m.t, m.chain = t, chain
		m.cut = func(n int) int { return rapid.IntRange(1, n).Draw(t, "cut") }
		h := &history{t: t, s: s, chain: chain, blocks: map[string]modelBlock{"b0": {"none", 10}}, order: []string{"b0"}}
		h.store("b0")
		for i := range rapid.IntRange(1, 24).Draw(t, "steps") {
			h.step(i)
			m.sync()
			m.compareChain(chain)
		}
	})
}

// compareChain is compare for one chain.
func (m *mirror) compareChain(chain uint64) {
	m.t.Helper()
	const query = "SELECT id, `key`, number, status FROM records WHERE chain = %d ORDER BY id"
	if diff := cmp.Diff(dump(m.t, m.from, fmt.Sprintf(query, chain)), dump(m.t, m.to, fmt.Sprintf(query, chain))); diff != "" {
		m.t.Fatalf("statuses (-writer +replica):\n%s", diff)
	}
	theirs, err := readChain(m.from.db, chain)
	if err != nil {
		m.t.Fatal(err)
	}
	ours, err := readChain(m.to.db, chain)
	if err != nil {
		m.t.Fatal(err)
	}
	if ours != nil && theirs != nil && ours.RootNumber < theirs.RootNumber {
		ours.RootKey, ours.RootNumber, ours.RootParent = theirs.RootKey, theirs.RootNumber, theirs.RootParent
	}
	if diff := cmp.Diff(theirs, ours); diff != "" {
		m.t.Fatalf("chain (-writer +replica):\n%s", diff)
	}
	r := schema.HeightRange{Chain: chain, From: 0, To: 999}
	_, _, want, err := m.from.Digests(m.t.Context(), r)
	if err != nil {
		m.t.Fatal(err)
	}
	_, _, got, err := m.to.Digests(m.t.Context(), r)
	if err != nil {
		m.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		m.t.Fatalf("digests (-writer +replica):\n%s", diff)
	}
}

// history is a random one on a chain.
type history struct {
	t      *rapid.T
	s      *Store
	chain  uint64
	blocks map[string]modelBlock
	order  []string // of their making
	late   []string // made, and not stored yet
}

func (h *history) step(i int) {
	switch rapid.SampledFrom([]string{"grow", "grow", "grow", "late", "arrive", "see", "see", "see", "gap"}).Draw(h.t, "what") {
	case "grow":
		h.store(h.make(i))
	case "late":
		h.late = append(h.late, h.make(i))
	case "arrive":
		if len(h.late) > 0 {
			name := rapid.SampledFrom(h.late).Draw(h.t, "name")
			h.late = slices.DeleteFunc(h.late, func(l string) bool { return l == name })
			h.store(name)
		}
	case "see":
		h.see()
	case "gap":
		from := rapid.Uint64Range(5, 20).Draw(h.t, "from")
		h.report("alice", schema.Report{Gaps: []schema.Gap{{Chain: h.chain, From: from, To: from + rapid.Uint64Range(0, 5).Draw(h.t, "more")}}})
	}
}

// make adds a block to the tree: on one of the last ones, or below all where nobody has looked yet.
func (h *history) make(i int) string {
	name := fmt.Sprint("b", i+1)
	if rapid.IntRange(0, 9).Draw(h.t, "alone") == 0 {
		h.blocks[name] = modelBlock{fmt.Sprint("none", i), rapid.Uint64Range(5, 20).Draw(h.t, "number")}
	} else {
		parent := rapid.SampledFrom(h.order[max(0, len(h.order)-5):]).Draw(h.t, "parent")
		h.blocks[name] = modelBlock{parent, h.blocks[parent].number + 1}
	}
	h.order = append(h.order, name)
	return name
}

func (h *history) store(name string) {
	b := h.blocks[name]
	unique := func(name string) string { return fmt.Sprint(h.chain, name) }
	o := blockOffer("drawer", b.number, unique(name), unique(b.parent))
	o.Chain = h.chain
	done := make(chan schema.Settlement, 1)
	if err := h.s.Offer(h.t.Context(), o, func(answer schema.Settlement) { done <- answer }); err != nil {
		h.t.Fatal(err)
	}
	if answer := <-done; answer.Outcome != schema.First {
		h.t.Fatalf("offer of %s: %v", name, answer)
	}
}

func (h *history) see() {
	name := rapid.SampledFrom(h.order[max(0, len(h.order)-6):]).Draw(h.t, "head")
	point := func(name string) *schema.Point {
		b, ok := h.blocks[name]
		if !ok {
			return nil
		}
		return &schema.Point{Number: b.number, Hash: named(fmt.Sprint(h.chain, name))}
	}
	head := schema.Head{Chain: h.chain, Node: "geth", Latest: *point(name)}
	for range rapid.IntRange(1, 4).Draw(h.t, "unsafe") {
		name = h.blocks[name].parent
	}
	if rapid.Bool().Draw(h.t, "safe") {
		head.Safe = point(name)
	}
	for range rapid.IntRange(0, 3).Draw(h.t, "not final") {
		name = h.blocks[name].parent
	}
	if rapid.IntRange(0, 3).Draw(h.t, "final") == 0 {
		head.Finalized = point(name)
	}
	observer := rapid.SampledFrom([]string{"alice", "alice", "alice", "bob"}).Draw(h.t, "observer")
	h.report(observer, schema.Report{Heads: []schema.Head{head}})
}

func (h *history) report(observer string, r schema.Report) {
	if err := h.s.Report(h.t.Context(), observer, r); err != nil {
		h.t.Fatal(err)
	}
}

func TestApplyRefusesWhatDoesNotFollow(t *testing.T) {
	t.Parallel()
	writer := told(t, sqliteDSN(t))
	rows, err := writer.Shipment(t.Context(), 0, 100, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	clone := func(change func(r *schema.ShippedRow)) []schema.ShippedRow {
		changed := slices.Clone(rows[3:])
		record := *changed[0].Record
		changed[0].Record = &record
		change(&changed[0])
		return changed
	}
	m := newMirror(t, writer)
	m.apply(nil, rows[:3])
	place, err := m.to.ReplicaPlace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for what, bad := range map[string][]schema.ShippedRow{
		"a row is missing":      rows[4:],
		"rows again":            rows[2:],
		"no record":             clone(func(r *schema.ShippedRow) { r.Record = nil }),
		"another record":        clone(func(r *schema.ShippedRow) { r.Record.Key = rows[0].Key }),
		"an id that is there":   clone(func(r *schema.ShippedRow) { r.Record.ID = 1 }),
		"a sibling as the head": clone(func(r *schema.ShippedRow) { r.Status = schema.StatusCanonical }),
		"a kind from later": clone(func(r *schema.ShippedRow) {
			r.Kind, r.Record = "fork", nil
		}),
		"a status that was another": clone(func(r *schema.ShippedRow) {
			r.Kind, r.Key, r.Was, r.Status, r.Record = schema.FeedStatus, rows[0].Key, schema.StatusSafe, schema.StatusFinalized, nil
		}),
		"a status of no block": clone(func(r *schema.ShippedRow) {
			r.Kind, r.Was, r.Status, r.Record = schema.FeedStatus, schema.StatusSafe, schema.StatusFinalized, nil
		}),
	} {
		var wrong *Contradiction
		if _, err := m.to.Apply(t.Context(), application1(place, bad)); !errors.As(err, &wrong) {
			t.Errorf("%s: %v", what, err)
		}
	}
	last := len(rows) - 1
	for rows[last].Record == nil {
		last--
	}
	again := slices.Clone(rows[3:])
	record := *rows[last].Record
	record.ID, again[last-3].Record = 1, &record
	var wrong *Contradiction
	if _, err := m.to.Apply(t.Context(), application1(place, again)); !errors.As(err, &wrong) || wrong.Event.Seq != rows[last].Seq {
		t.Errorf("the last of some records has an id that is there: %v", err)
	}
	other := *place
	other.Seq--
	if _, err := m.to.Apply(t.Context(), application1(&other, rows[2:])); !errors.Is(err, ErrReplicaMoved) {
		t.Errorf("another place: %v", err)
	}
	if _, err := m.to.Apply(t.Context(), application1(nil, rows)); !errors.Is(err, ErrReplicaMoved) {
		t.Errorf("no place: %v", err)
	}
	if _, err := writer.Apply(t.Context(), application1(nil, rows)); !errors.Is(err, ErrOwnFeed) {
		t.Errorf("a writer's database: %v", err)
	}
	m.sync()
	m.compare()
}
