package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firstseen/firstseen/schema"
)

// model is the judge without a database: sets and loops over a tree that is held in memory.
type model struct {
	blocks map[string]modelBlock
	order  []string
	head   string
	seen   map[string][2]string // by observer: its head, and the one in the report before
}

type modelBlock struct {
	parent string
	number uint64
}

func (m *model) path(name string) []string {
	var path []string
	for b, ok := m.blocks[name]; ok; b, ok = m.blocks[name] {
		path = append(path, name)
		name = b.parent
	}
	return path
}

func (m *model) add(name, parent string, number uint64) {
	m.blocks[name] = modelBlock{parent, number}
	m.order = append(m.order, name)
	if m.head == "" || parent == m.head {
		m.head = name
	}
}

func (m *model) see(observer, head string) {
	m.seen[observer] = [2]string{head, m.seen[observer][0]}
	for m.extend() || m.contest() {
	}
}

func (m *model) extend() bool {
	var children []string
	for name, b := range m.blocks {
		if b.parent == m.head {
			children = append(children, name)
		}
	}
	if len(children) != 1 {
		return false
	}
	m.head = children[0]
	return true
}

func (m *model) contest() bool {
	on := m.path(m.head)
	votes := map[string]int{}
	for _, seen := range m.seen {
		before := m.path(seen[1])
		for _, name := range m.path(seen[0]) {
			if !slices.Contains(on, name) && (len(m.seen) == 1 || slices.Contains(before, name)) {
				votes[name]++
			}
		}
	}
	winner := ""
	for name, n := range votes {
		if 2*n > len(m.seen) && (winner == "" || m.blocks[name].number > m.blocks[winner].number) {
			winner = name
		}
	}
	if winner == "" {
		return false
	}
	m.head = winner
	return true
}

// TestRandomReorgsAgainstTheModel lets up to three observers walk about a random tree of blocks and compares the branch
// after each report; in the end all agree, and so must the store.
func TestRandomReorgsAgainstTheModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s, stop := propertyStore(t)
		defer stop()
		observers := []string{"alice", "bob", "carol"}[:rapid.IntRange(1, 3).Draw(t, "observers")]
		m := &model{blocks: map[string]modelBlock{}, seen: map[string][2]string{}}
		grow := func(name, parent string, number uint64) {
			propertyOffer(t, s, blockOffer("drawer", number, name, parent))
			m.add(name, parent, number)
		}
		grow("r", "none", 0)
		see := func(observer, name string) {
			propertySee(t, s, observer, m.blocks[name].number, name)
			m.see(observer, name)
			compareBranch(t, s, m)
		}
		for i := range rapid.IntRange(1, 25).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "grow") {
				parent := rapid.SampledFrom(m.order[max(0, len(m.order)-5):]).Draw(t, "parent")
				grow(fmt.Sprint("b", i), parent, m.blocks[parent].number+1)
			}
			see(rapid.SampledFrom(observers).Draw(t, "observer"), rapid.SampledFrom(m.order).Draw(t, "head"))
		}
		grow("last", m.order[len(m.order)-1], m.blocks[m.order[len(m.order)-1]].number+1)
		for range 2 {
			for _, o := range observers {
				see(o, "last")
			}
		}
		if m.head != "last" {
			t.Fatalf("all saw the last block twice, the head is %s", m.head)
		}
	})
}

func propertyStore(t *rapid.T) (*Store, func()) {
	now := func() time.Time { return time.Unix(1e9, 0) }
	s, err := Open(t.Context(), Options{DSN: "memory", Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, func() { _ = s.Close() }
}

// propertyOffer commits one block without a running committer, which rapid would start thousands of.
func propertyOffer(t *rapid.T, s *Store, o *schema.Offer) {
	c := &committer{store: s, stmts: statements{}}
	defer c.stmts.close()
	answers := map[*pending]schema.Settlement{}
	p := newPending(o, nil)
	c.answer(t.Context(), []*pending{p}, answers)
	if answers[p].Outcome != schema.First {
		t.Fatalf("offer: %v", answers[p])
	}
}

func propertySee(t *rapid.T, s *Store, observer string, n uint64, name string) {
	head := schema.Head{Chain: testChain, Node: "geth", Latest: schema.Point{Number: n, Hash: named(name)}}
	if err := s.Report(t.Context(), observer, schema.Report{Heads: []schema.Head{head}}); err != nil {
		t.Fatal(err)
	}
}

func compareBranch(t *rapid.T, s *Store, m *model) {
	var rows []recordRow
	if err := s.db.Where("status = ?", schema.StatusCanonical).Order("number DESC").Find(&rows).Error; err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, strings.TrimSuffix(strings.TrimPrefix(string(r.Payload), "<p>"), "</p>"))
	}
	if want := m.path(m.head); !slices.Equal(got, want) {
		t.Fatalf("branch %v, the model's %v\nseen %v\nblocks %v", got, want, m.seen, m.blocks)
	}
}
