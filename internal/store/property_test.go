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
	s := opened(t, Options{DSN: "memory", Now: func() time.Time { return time.Unix(1e9, 0) }})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	running(t, s)
	chain := uint64(0)
	rapid.Check(t, func(t *rapid.T) {
		chain++ // a fresh one for each tree
		p := &pair{t: t, s: s, chain: chain, m: &model{blocks: map[string]modelBlock{}, seen: map[string][2]string{}}}
		observers := []string{"alice", "bob", "carol"}[:rapid.IntRange(1, 3).Draw(t, "observers")]
		p.grow("r", "none", 0)
		for i := range rapid.IntRange(1, 25).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "grow") {
				parent := rapid.SampledFrom(p.m.order[max(0, len(p.m.order)-5):]).Draw(t, "parent")
				p.grow(fmt.Sprint("b", i), parent, p.m.blocks[parent].number+1)
			}
			p.see(rapid.SampledFrom(observers).Draw(t, "observer"), rapid.SampledFrom(p.m.order).Draw(t, "head"))
		}
		tip := p.m.order[len(p.m.order)-1]
		p.grow("last", tip, p.m.blocks[tip].number+1)
		for range 2 {
			for _, o := range observers {
				p.see(o, "last")
			}
		}
		if p.m.head != "last" {
			t.Fatalf("all saw the last block twice, the head is %s", p.m.head)
		}
	})
}

// pair is a store and the model that is told the same.
type pair struct {
	t     *rapid.T
	s     *Store
	chain uint64
	m     *model
}

func (p *pair) grow(name, parent string, number uint64) {
	o := blockOffer("drawer", number, name, parent)
	o.Chain = p.chain
	settled := make(chan schema.Settlement, 1)
	if err := p.s.Offer(p.t.Context(), o, func(answer schema.Settlement) { settled <- answer }); err != nil {
		p.t.Fatal(err)
	}
	if answer := <-settled; answer.Outcome != schema.First {
		p.t.Fatalf("offer of %s: %v", name, answer)
	}
	p.m.add(name, parent, number)
}

func (p *pair) see(observer, name string) {
	point := schema.Point{Number: p.m.blocks[name].number, Hash: named(name)}
	r := schema.Report{Heads: []schema.Head{{Chain: p.chain, Node: "geth", Latest: point}}}
	if err := p.s.Report(p.t.Context(), observer, r); err != nil {
		p.t.Fatal(err)
	}
	p.m.see(observer, name)
	p.compare()
}

func (p *pair) compare() {
	var rows []recordRow
	err := p.s.db.Where("chain = ? AND status = ?", p.chain, schema.StatusCanonical).Order("number DESC").Find(&rows).Error
	if err != nil {
		p.t.Fatal(err)
	}
	var got []string
	for _, r := range rows {
		got = append(got, strings.TrimSuffix(strings.TrimPrefix(string(r.Payload), "<p>"), "</p>"))
	}
	if want := p.m.path(p.m.head); !slices.Equal(got, want) {
		p.t.Fatalf("branch %v, the model's %v\nseen %v\nblocks %v", got, want, p.m.seen, p.m.blocks)
	}
}
