package nodepool

import (
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

var (
	errWrongChain   = errors.New("node is on another chain")
	errInconsistent = errors.New("node contradicts itself")
)

// isForged tells whether an error shows that a node's answer cannot be true, rather than that there was none.
func isForged(err error) bool {
	return errors.Is(err, chain.ErrHashMismatch) || errors.Is(err, errInconsistent)
}

// heard takes in a head that was decoded and hashed. linked tells whether it was found to come from the tip.
func (p *Pool) heard(n *Node, h schema.Header, linked bool) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.state == schema.NodeWrongChain {
		return
	}
	if err := p.consistent(n, h, now); err != nil {
		p.fail(n, now, err)
		return
	}
	n.probed, n.misses, n.heard = true, 0, now
	if n.head.Hash != h.Hash {
		signal(p.changed)
	}
	n.head = h
	n.branch.grow(h)
	p.leap(n, linked)
	if n.state == schema.NodeQuarantined && n.jumped && n.overruled && now.Sub(p.agreed) <= p.o.Patience {
		p.vote(now)
		return // still where nobody else is; without a majority for long, nobody can hold that against it
	}
	p.on(n, answered, now, "answers")
	placed := p.tip != nil
	if p.vote(now); placed {
		p.place(n, now)
	}
}

// consistent holds a head against what the node showed before: a parent has the number below and is not younger.
func (p *Pool) consistent(n *Node, h schema.Header, now time.Time) error {
	const most = 24 * time.Hour // ahead of our clock, which may be wrong itself
	if h.Time.Sub(now) > most {
		return fmt.Errorf("%w: block %d is of %s, in the future", errInconsistent, h.Number, h.Time.Format(time.RFC3339))
	}
	for number, m := range n.branch.marks {
		switch {
		case m.hash != h.Parent:
		case number+1 != h.Number:
			return fmt.Errorf("%w: the parent of block %d was at %d", errInconsistent, h.Number, number)
		case h.Time.Before(m.time):
			return fmt.Errorf("%w: block %d is older than its parent", errInconsistent, h.Number)
		}
	}
	return nil
}

// leap judges whether the head is far ahead of the tip without coming from it. The caller holds mu.
func (p *Pool) leap(n *Node, linked bool) {
	if linked || p.known.has[n.head.Parent] || p.known.has[n.head.Hash] {
		p.known.add(n.head.Hash)
		linked = true
	}
	n.jumped = p.tip != nil && !linked && n.head.Number >= p.tip.Number+p.o.Lag
	if n.jumped {
		n.apart++
	} else {
		n.apart, n.overruled = 0, false
	}
}

// place puts a node that has just given its head where that belongs. The caller holds mu.
func (p *Pool) place(n *Node, now time.Time) {
	if p.tip == nil || n.reference {
		return
	}
	if n.jumped && n.head.Number < p.tip.Number+p.o.Lag {
		n.jumped, n.apart = false, 0 // its own vote has just moved the tip
	}
	lag := p.lag(n)
	n.trails = p.outrun(n, now)
	switch {
	case n.jumped && n.apart >= p.o.Misses && p.majority(p.voters(now), now):
		n.overruled = true
		p.on(n, forged, now, fmt.Sprintf("head %d is %d ahead of what a majority has", n.head.Number,
			n.head.Number-p.tip.Number))
	case lag >= p.o.Lag:
		n.good = 0
		if p.othersReady(n, now) {
			p.on(n, behind, now, fmt.Sprintf("%d blocks behind, the limit is %d", lag, p.o.Lag))
			return
		}
		p.on(n, alone, now, fmt.Sprintf("degraded: %d blocks behind, but no other node is ready", lag))
	case lag > p.o.Back:
		n.good = 0
		p.on(n, within, now, fmt.Sprintf("%d blocks behind", lag))
	default:
		if n.good++; n.good >= p.o.Proof {
			p.on(n, proven, now, fmt.Sprintf("%d good probes", n.good))
			return
		}
		p.on(n, near, now, "at the tip")
	}
}

// lag is how many blocks the node is behind the tip. The caller holds mu.
func (p *Pool) lag(n *Node) uint64 {
	if n.head.Number >= p.tip.Number {
		return 0
	}
	return p.tip.Number - n.head.Number
}

// othersReady tells whether a node can be spared: another is ready and not farther behind. The caller holds mu.
func (p *Pool) othersReady(n *Node, now time.Time) bool {
	for _, other := range p.nodes {
		if other != n && p.usable(other, now) && (!other.kept || other.head.Number+p.o.Back >= n.head.Number) {
			return true
		}
	}
	return false
}

// rescue takes back the best of the nodes that are out for lag alone, if none is left that may be used. The caller holds
// mu.
func (p *Pool) rescue(now time.Time) {
	var best *Node
	for _, n := range p.nodes {
		if p.usable(n, now) {
			return
		}
		if n.state == schema.NodeLagging && !n.cordoned && !now.Before(n.rest) && p.fresh(n, now) &&
			(best == nil || n.head.Number > best.head.Number) {
			best = n
		}
	}
	if best != nil {
		p.on(best, alone, now, fmt.Sprintf("degraded: %d blocks behind, but no other node is ready", p.lag(best)))
	}
}

// outrun tells whether another node that may be used is ahead by more than Options.Back. The caller holds mu.
func (p *Pool) outrun(n *Node, now time.Time) bool {
	for _, other := range p.nodes {
		if other != n && p.usable(other, now) && !other.jumped && other.head.Number > n.head.Number+p.o.Back {
			return true
		}
	}
	return false
}

// missed takes in a probe that failed.
func (p *Pool) missed(n *Node, err error) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fail(n, now, err)
	p.vote(now)
}

// fail judges a node by its error. The caller holds mu.
func (p *Pool) fail(n *Node, now time.Time, err error) {
	n.probed = true
	n.misses++
	n.good = 0
	n.failed++
	p.yield(n, now, err)
	signal(p.changed)
	switch {
	case errors.Is(err, errWrongChain):
		p.on(n, strange, now, reason(err))
	case isForged(err):
		p.on(n, forged, now, reason(err))
	case n.misses >= p.o.Misses:
		p.on(n, lost, now, fmt.Sprintf("%d probes failed, the last: %s", n.misses, reason(err)))
	case !votes(n.state):
		n.reason = reason(err)
	}
}

// yield leaves the node alone for as long as it asked for. The caller holds mu.
func (p *Pool) yield(n *Node, now time.Time, err error) {
	var asked interface{ RetryAfter() time.Duration }
	if errors.As(err, &asked) && asked.RetryAfter() > 0 {
		n.rest = now.Add(min(asked.RetryAfter(), maxRetryAfter))
	}
}

// expire puts out nodes that were not heard of for too long.
func (p *Pool) expire() {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.everyone() {
		if votes(n.state) && !p.fresh(n, now) {
			p.on(n, lost, now, fmt.Sprintf("no good answer for %s", now.Sub(n.heard).Round(10*time.Millisecond)))
		}
	}
	p.vote(now)
}

// clear is the operator's word that a node was seen to. The caller holds mu.
func (p *Pool) clear(n *Node) {
	now := p.o.Now()
	n.apart, n.overruled, n.misses, n.pauses, n.rest = 0, false, 0, 0, time.Time{}
	p.on(n, cleared, now, "an operator has seen to it")
	signal(n.wake)
}

// on carries out one event. Only a change of state is logged, counted and told. The caller holds mu.
func (p *Pool) on(n *Node, e event, now time.Time, why string) {
	from := n.state
	to := transitions[from][e]
	n.kept = e == alone && to == schema.NodeReady
	if to != schema.NodeReady || n.kept {
		if to != from || e == alone || e == lost || e == forged {
			n.reason = why
		}
	} else {
		n.reason, n.pauses = "", 0
	}
	if from == to {
		return
	}
	n.state, n.since = to, now
	switch {
	case to == schema.NodeReady:
		n.out = time.Time{}
	case n.out.IsZero():
		n.out = now
	}
	if to == schema.NodeQuarantined || to == schema.NodeWrongChain {
		n.good, n.faults = 0, 0
		n.branch.clear()
	}
	signal(p.changed)
	p.tell(n, from, to, why, now)
}

// tell logs, counts and queues a transition. The caller holds mu.
func (p *Pool) tell(n *Node, from, to schema.NodeState, why string, now time.Time) {
	log := p.log.WithFields(logrus.Fields{"node": n.name, "state": to, "was": from, "reason": why})
	if to == schema.NodeReady || to == schema.NodeLive || to == schema.NodeProbation {
		log.Info("node changed state")
	} else {
		log.Warn("node changed state")
	}
	if n.reference {
		return
	}
	p.metrics.transition(n.name, to)
	if len(p.events) == maxEvents {
		p.events = p.events[1:]
		p.overflow++
	}
	chainID := n.chain
	if chainID == 0 {
		chainID = p.chain
	}
	p.events = append(p.events, schema.NodeEvent{Node: n.name, Chain: chainID, From: from, To: to, Reason: why, At: now})
}
