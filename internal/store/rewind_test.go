package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/firstseen/firstseen/schema"
)

// snap is what a replica holds of one chain: where it stands, and its blocks with their statuses.
func snap(t tester, s *Store, chain uint64) []string {
	t.Helper()
	c, err := readChain(s.db, chain)
	if err != nil {
		t.Fatal(err)
	}
	out := []string{"no chain"}
	if c != nil {
		mark := func(n *uint64) string {
			if n == nil {
				return "-"
			}
			return fmt.Sprint(*n)
		}
		out[0] = fmt.Sprintf("%d %.6s to %d %.6s, safe %s, final %s, halted %q", c.RootNumber, c.RootKey, c.HeadNumber,
			c.HeadKey, mark(c.SafeNumber), mark(c.FinalizedNumber), deref(c.Halted))
	}
	for _, table := range []string{
		"SELECT id, number, substr(`key`, 1, 6), status FROM records WHERE chain = %d ORDER BY id",
		"SELECT o.record, o.observer FROM observations o JOIN records r ON r.id = o.record WHERE r.chain = %d ORDER BY 1, 2",
	} {
		for _, line := range dump(t, s, fmt.Sprintf(table, chain)) {
			out = append(out, strings.Join(line, " "))
		}
	}
	return out
}

// moveOf plans to take a chain back and to go on right behind the row that it then stands at.
func moveOf(t tester, s *Store, chain, above uint64) (Move, *Moved) {
	t.Helper()
	place, err := s.ReplicaPlace(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := Move{From: *place, To: *place, Action: "rewind", Actor: "tester@here", Detail: map[string]uint64{"to": above}}
	m.Chains = []ChainMove{{Chain: chain, Back: &Retreat{Above: above}, Told: place.Seq}}
	plan, err := s.PlanMove(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return m, plan
}

// seqOf is where the writer's feed told of a block.
func seqOf(t tester, s *Store, chain uint64, key schema.Key) uint64 {
	t.Helper()
	var seq uint64
	err := s.db.Model(&feedRow{}).Where("chain = ? AND `key` = ? AND kind = 'block'", chain, string(key)).
		Select("seq").Scan(&seq).Error
	if err != nil || seq == 0 {
		t.Fatal(seq, err)
	}
	return seq
}

// TestARewoundChainStandsAsItStoodThen draws random histories of two chains, takes one of them back to a random height
// some times, and wants it to be just as it was right before the first of the blocks that left was told. Following on from
// there, and from somewhere before, leads to the same as ever.
func TestARewoundChainStandsAsItStoodThen(t *testing.T) {
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
		m.t = t
		var both []*history
		for range 2 {
			chain++
			h := &history{t: t, s: s, chain: chain, blocks: map[string]modelBlock{"b0": {"none", 10}}, order: []string{"b0"}}
			h.store("b0")
			both = append(both, h)
		}
		then := map[uint64][]string{} // what the first chain was after each row of the writer's
		for i := range rapid.IntRange(5, 20).Draw(t, "steps") {
			both[i%2].step(i)
			m.walk(func(seq uint64) { then[seq] = snap(t, m.to, both[0].chain) })
		}
		for range rapid.IntRange(1, 3).Draw(t, "rewinds") {
			m.rewindAndFollow(t, both[0].chain, then)
			m.same(both[0].chain)
			m.same(both[1].chain)
		}
	})
}

func (m *mirror) rewindAndFollow(t *rapid.T, chain uint64, then map[uint64][]string) {
	t.Helper()
	before := snap(t, m.to, chain)
	move, plan := moveOf(t, m.to, chain, rapid.Uint64Range(9, 22).Draw(t, "height"))
	if diff := cmp.Diff(before, snap(t, m.to, chain)); diff != "" {
		t.Fatalf("a plan changed something:\n%s", diff)
	}
	first := plan.Chains[0].First
	if first == nil {
		return
	}
	at := seqOf(t, m.from, chain, first.Hash.Key()) - 1
	move.Chains[0].Told, move.Chains[0].Back.First = at, first.Hash.Key()
	move.To.Seq = rapid.Uint64Range(at-min(at, 5), at).Draw(t, "resume")
	done, err := m.to.MoveReplica(t.Context(), move)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(plan, done); diff != "" {
		t.Fatalf("not as planned:\n%s", diff)
	}
	want, ok := then[at]
	if !ok {
		want = []string{"no chain"} // the chain's first block was told next, or another rapid run's rows came before
	}
	if diff := cmp.Diff(want, snap(t, m.to, chain)); diff != "" {
		t.Fatalf("after row %d (-then +rewound):\n%s", at, diff)
	}
	m.walk(func(seq uint64) {
		want, ok := then[seq]
		if !ok || seq < at {
			return
		}
		if diff := cmp.Diff(want, snap(t, m.to, chain)); diff != "" {
			t.Fatalf("after row %d once more (-then +now):\n%s", seq, diff)
		}
	})
}

// same wants a chain to have the digests that it has at the writer, and the same sightings.
func (m *mirror) same(chain uint64) {
	m.t.Helper()
	var sums [2]schema.RangeDigest
	for i, s := range []*Store{m.from, m.to} {
		_, _, digests, err := s.Digests(m.t.Context(), schema.HeightRange{Chain: chain, From: 0, To: 999})
		if err != nil {
			m.t.Fatal(err)
		}
		sums[i] = digests[0]
		sums[i].Seq = 0
	}
	if diff := cmp.Diff(sums[0], sums[1]); diff != "" {
		m.t.Fatalf("digests (-writer +replica):\n%s", diff)
	}
}

// walk applies row by row what the replica does not have yet.
func (m *mirror) walk(seen func(seq uint64)) {
	m.t.Helper()
	for {
		place, rows := m.next(1)
		if len(rows) == 0 {
			return
		}
		m.apply(place, rows)
		seen(rows[0].Seq)
	}
}

func TestARewindTellsWhoeverFollowsTheReplica(t *testing.T) {
	t.Parallel()
	writer := running(t, opened(t, Options{DSN: "memory"}))
	if err := writer.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := &drawing{t: t, s: writer}
	d.grow("a", 1, 6, "a0")
	offerAll(t, writer, bareOffer("<p>bare</p>"))
	m := newMirror(t, writer)
	d.copy = m
	m.sync()
	was, err := m.to.FeedEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	move, plan := moveOf(t, m.to, testChain, 4)
	c := plan.Chains[0]
	if len(c.Leaving) != 2 || c.Leaving[0].Number != 5 || c.After.Head.Number != 4 || c.Before.Head.Number != 6 || c.Late != 0 {
		t.Fatalf("%+v", c)
	}
	told := make(chan uint64, 1)
	m.to.committed = func(seq uint64) { told <- seq }
	move.Chains[0].Told, move.To.Seq = 4, 4
	if _, err := m.to.MoveReplica(t.Context(), move); err != nil {
		t.Fatal(err)
	}
	if seq := <-told; seq != was.Seq+2 {
		t.Errorf("told of row %d", seq)
	}
	end, err := m.to.FeedEnd(t.Context())
	if err != nil || end.Epoch == was.Epoch || end.Was != was.Epoch || end.Since != was.Seq || end.Seq != was.Seq+2 {
		t.Errorf("%+v after %+v, %v", end, was, err)
	}
	rows, err := m.to.Feed(t.Context(), was.Seq, 10)
	if err != nil || len(rows) != 2 || *rows[0].Number != 6 || *rows[1].Number != 5 || rows[0].Status.OnBranch() ||
		!rows[0].Was.OnBranch() || rows[0].Note != noteRewound || rows[0].Record != nil {
		t.Errorf("%+v, %v", rows, err)
	}
	entries, err := m.to.Audit(t.Context(), 5)
	if err != nil || len(entries) != 1 || entries[0].Actor != "tester@here" || entries[0].Detail != `{"to":4}` {
		t.Errorf("%+v, %v", entries, err)
	}
	if _, err := m.to.MoveReplica(t.Context(), move); !errors.Is(err, ErrReplicaMoved) {
		t.Errorf("a second time: %v", err)
	}
	tally, err := m.to.Tally(t.Context(), 0, 100)
	if err != nil || tally.Blocks[testChain] != 4 || tally.Bare != 1 {
		t.Errorf("while they are away: %+v, %v", tally, err)
	}
	m.to.committed = nil
	m.sync()
	tally, err = m.to.Tally(t.Context(), 0, 100)
	if err != nil || tally.Blocks[testChain] != 6 || tally.First["drawer"] != 6 || tally.Bare != 1 {
		t.Errorf("when they are back: %+v, %v", tally, err)
	}
	if again, _ := m.to.FeedEnd(t.Context()); again.Epoch != end.Epoch || again.Seq != end.Seq+2 {
		t.Errorf("%+v after %+v", again, end)
	}
	m.same(testChain)
}

func TestOnlyAReplicaIsRewound(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{DSN: "memory"})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.MoveReplica(t.Context(), Move{}); !errors.Is(err, ErrNoReplica) {
		t.Error(err)
	}
}
