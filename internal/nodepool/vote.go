package nodepool

import (
	"bytes"
	"slices"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// fresh tells whether the node's head is recent enough to say something. The caller holds mu.
func (p *Pool) fresh(n *Node, now time.Time) bool {
	age := p.o.Stale
	if n.reference {
		age = max(age, 3*p.o.ReferencePoll)
	}
	return !n.heard.IsZero() && now.Sub(n.heard) <= age
}

// voters are the nodes whose heads count, the reference apart. The caller holds mu.
func (p *Pool) voters(now time.Time) []*Node {
	var out []*Node
	for _, n := range p.nodes {
		if votes(n.state) && p.fresh(n, now) {
			out = append(out, n)
		}
	}
	return out
}

// witness is the reference while it has a say, else nil. The caller holds mu.
func (p *Pool) witness(now time.Time) *Node {
	if r := p.reference; r != nil && votes(r.state) && p.fresh(r, now) {
		return r
	}
	return nil
}

// vote agrees on the tip: the highest block that Options.Quorum nodes have, or that the reference has. A single voter
// is enough when it is the only one there is. The caller holds mu.
func (p *Pool) vote(now time.Time) {
	if !p.settled() {
		return
	}
	first := p.tip == nil
	voters, witness := p.voters(now), p.witness(now)
	need := p.o.Quorum
	if len(voters) == 1 && witness == nil && (len(p.nodes) == 1 || p.follows(voters[0])) {
		need = 1
	}
	best, support := p.highest(voters, witness, need)
	if support >= need && p.replaces(best, support, voters, witness) {
		p.leapt = support < p.o.Quorum && len(p.nodes) > 1 && (p.leapt || first || voters[0].jumped)
		p.setTip(best, support >= p.o.Quorum, now)
		for _, n := range voters {
			if n.branch.has(best) {
				n.had = best
			}
		}
	}
	if p.tip != nil && (witness != nil || p.majority(voters, now)) {
		p.agreed = now
	}
	if first && p.tip != nil {
		for _, n := range voters {
			p.leap(n, false)
			p.place(n, now) // all at once, so that the order of the list decides which is used
		}
	}
	p.rescue(now)
}

// settled tells whether every node has been asked once: before, whoever answers first would be a majority of one.
func (p *Pool) settled() bool {
	for _, n := range p.nodes {
		if !n.probed && n.state != schema.NodeWrongChain {
			return false
		}
	}
	return p.reference == nil || p.reference.probed
}

// highest returns the highest block that enough voters have; of several at one height the one that most have, of these
// the present tip. The caller holds mu.
func (p *Pool) highest(voters []*Node, witness *Node, need int) (schema.Point, int) {
	count := map[schema.Point]int{}
	for _, n := range voters {
		for number, m := range n.branch.marks {
			count[schema.Point{Number: number, Hash: m.hash}]++
		}
	}
	if witness != nil {
		for number, m := range witness.branch.marks {
			count[schema.Point{Number: number, Hash: m.hash}] += p.o.Quorum
		}
	}
	var best schema.Point
	var support int
	for point, c := range count {
		if c >= need && (support == 0 || p.above(point, c, best, support)) {
			best, support = point, c
		}
	}
	return best, support
}

// above orders candidates for the tip.
func (p *Pool) above(a schema.Point, countA int, b schema.Point, countB int) bool {
	switch {
	case a.Number != b.Number:
		return a.Number > b.Number
	case countA != countB:
		return countA > countB
	case p.tip != nil && (a == *p.tip || b == *p.tip):
		return a == *p.tip
	}
	return bytes.Compare(a.Hash[:], b.Hash[:]) < 0
}

// replaces tells whether a block that enough voters have becomes the tip. A higher one does. A lower one, or another at
// the same height, only if those who had the tip have left it: that a voter went away takes nothing back. What a node
// said while it was alone, far ahead of all before, does not stand against a quorum.
func (p *Pool) replaces(best schema.Point, support int, voters []*Node, witness *Node) bool {
	if p.tip == nil || best.Number > p.tip.Number || best == *p.tip {
		return true
	}
	held := func(n *Node) bool { return n.branch.has(*p.tip) }
	if p.leapt && (support >= p.o.Quorum || !slices.ContainsFunc(voters, held)) {
		return true
	}
	var left, stayed int
	for _, n := range voters {
		switch {
		case n.branch.has(*p.tip):
			stayed++
		case n.had == *p.tip && n.branch.lacks(*p.tip):
			left++
		}
	}
	if witness != nil {
		return witness.branch.lacks(*p.tip)
	}
	return left > 0 && left >= min(support, p.o.Quorum) && left > stayed
}

// follows tells whether a node that is left alone can carry the tip on: it has the tip, or comes from it.
func (p *Pool) follows(n *Node) bool {
	return p.tip == nil || !n.jumped || n.branch.has(*p.tip)
}

// setTip notes the block that was agreed on. The caller holds mu.
func (p *Pool) setTip(tip schema.Point, corroborated bool, now time.Time) {
	if p.tip == nil || *p.tip != tip {
		p.agreed = now
	}
	if p.tip != nil && p.corroborated && !corroborated && len(p.nodes) > 1 {
		p.log.Warn("one node is left: the tip is what it says")
	}
	p.tip, p.corroborated = &tip, corroborated
	if !p.leapt {
		p.known.add(tip.Hash)
	}
}

// majority tells whether more than half of the voters have heads near the tip, on either side of it. Those whose latest
// probe failed or is overdue have not been asked. The caller holds mu.
func (p *Pool) majority(voters []*Node, now time.Time) bool {
	if p.tip == nil {
		return false
	}
	var agree, asked int
	for _, n := range voters {
		if p.late(n, now) {
			continue
		}
		asked++
		if n.head.Number < p.tip.Number+p.o.Lag && n.head.Number+p.o.Lag > p.tip.Number {
			agree++
		}
	}
	return 2*agree > asked
}

// known remembers hashes of blocks that lead to the tip. The oldest is forgotten for the newest.
type known struct {
	has  map[schema.Hash]bool
	ring [1024]schema.Hash
	next int
}

func (k *known) add(h schema.Hash) {
	if k.has == nil {
		k.has = map[schema.Hash]bool{}
	}
	if k.has[h] {
		return
	}
	delete(k.has, k.ring[k.next])
	k.ring[k.next] = h
	k.has[h] = true
	k.next = (k.next + 1) % len(k.ring)
}
