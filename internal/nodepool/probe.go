package nodepool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

const (
	hintsEvery = 15 * time.Second // between looks at eth_syncing and net_peerCount
	reach      = 128              // parents to walk from a head that is far ahead of the tip
)

// survey finds out the chain id if none is configured: that of most nodes, of the first in the list among equals. It
// repeats until a node answers; false is the end of ctx.
func (p *Pool) survey(ctx context.Context) bool {
	for p.Chain() == 0 {
		ids := p.askChains(ctx)
		if ctx.Err() != nil {
			return false
		}
		var best uint64
		votes := map[uint64]int{}
		for _, id := range ids {
			if id != 0 {
				votes[id]++
			}
		}
		for _, id := range ids { // in the order of the list
			if votes[id] > votes[best] {
				best = id
			}
		}
		if best != 0 {
			p.mu.Lock()
			p.chain = best
			p.mu.Unlock()
			p.log.WithField("chain", best).Info("chain id taken from the nodes")
			return true
		}
		if !sleep(ctx, p.o.Poll) {
			return false
		}
	}
	return ctx.Err() == nil
}

// askChains asks every node for its chain id, until one has a majority or all have answered or failed. The ids are in
// the order of the nodes, 0 for none.
func (p *Pool) askChains(ctx context.Context) []uint64 {
	type answer struct {
		i  int
		id uint64
	}
	ctx, cancel := context.WithTimeout(ctx, quickCall)
	answers := make(chan answer, len(p.nodes))
	for i, n := range p.nodes {
		go func() { // ends with its call; its owner reads one answer of each
			var id uint64
			if p.resting(n) {
				answers <- answer{i, 0}
				return
			}
			err := n.verify(ctx, p.o.Now(), func(got uint64) error { id = got; return nil })
			if err != nil && ctx.Err() == nil {
				p.missed(n, err)
			}
			n.doubt() // it was not compared with anything yet
			answers <- answer{i, id}
		}()
	}
	ids := make([]uint64, len(p.nodes))
	count := map[uint64]int{}
	for range p.nodes {
		a := <-answers
		ids[a.i] = a.id
		if count[a.id]++; a.id != 0 && 2*count[a.id] > len(p.nodes) {
			cancel() // the others need not be waited for
		}
	}
	cancel()
	return ids
}

// resting tells whether the node asked to be left alone.
func (p *Pool) resting(n *Node) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.o.Now().Before(n.rest)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// watch probes one node until ctx ends: by polling, and in between by what the node tells of itself over WebSocket.
func (p *Pool) watch(ctx context.Context, n *Node) {
	heads := make(chan schema.Header)
	subscribed := make(chan struct{})
	go func() {
		defer close(subscribed)
		if n.ws != "" {
			p.subscribe(ctx, n, heads)
		}
	}()
	defer func() { <-subscribed }()
	var hinted time.Time
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-heads:
			p.take(ctx, n, h)
		case <-n.wake:
			p.probe(ctx, n, &hinted)
		case <-timer.C:
			p.probe(ctx, n, &hinted)
		}
		timer.Reset(p.pause(n))
	}
}

// pause is how long to wait before the next probe.
func (p *Pool) pause(n *Node) time.Duration {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	wait := p.o.Poll
	if n.reference {
		wait = p.o.ReferencePoll
	}
	switch {
	case n.state == schema.NodeWrongChain:
		wait = math.MaxInt64 // until an operator has seen to it
	case !slices.ContainsFunc(p.nodes, func(other *Node) bool { return p.usable(other, now) }):
		// There is nothing else to do than to wait for the first to come back.
	case n.state == schema.NodeQuarantined || n.state == schema.NodeUnknown && n.misses >= p.o.Misses:
		n.pauses++
		wait = max(wait, p.jitter(min(wait<<min(n.pauses, 10), p.o.Pause)))
	}
	return max(wait, n.rest.Sub(now))
}

// probe looks at the node once.
func (p *Pool) probe(ctx context.Context, n *Node, hinted *time.Time) {
	p.mu.Lock()
	over := n.state == schema.NodeWrongChain
	p.mu.Unlock()
	if over {
		return
	}
	limited, cancel := context.WithTimeout(ctx, max(quickCall, min(p.o.Stale, p.o.CallTimeout)))
	defer cancel()
	h, linked, err := p.look(limited, n)
	if ctx.Err() != nil {
		return
	}
	p.metrics.probe(n.name, err)
	if err != nil {
		var answered interface{ ErrorCode() int }
		if !errors.As(err, &answered) {
			n.hangUp()
		}
		p.missed(n, err)
		return
	}
	p.heard(n, h, linked)
	p.confirm(limited, n)
	if now := p.o.Now(); now.Sub(*hinted) >= hintsEvery {
		*hinted = now
		p.hint(limited, n)
	}
}

// look reads the node's latest head and what is needed to judge it.
func (p *Pool) look(ctx context.Context, n *Node) (h schema.Header, linked bool, err error) {
	if err = n.verify(ctx, p.o.Now(), func(id uint64) error { return p.compare(n, id) }); err != nil {
		return h, false, err
	}
	began := time.Now()
	if h, err = header(ctx, n, "eth_getBlockByNumber", "latest"); err != nil {
		return h, false, err
	}
	p.timed(n, time.Since(began))
	linked, err = p.link(ctx, n, h)
	return h, linked, err
}

func (p *Pool) timed(n *Node, took time.Duration) {
	p.metrics.took(n.name, took)
	p.mu.Lock()
	defer p.mu.Unlock()
	n.latency.add(took)
}

// compare holds a node's chain id against everyone's.
func (p *Pool) compare(n *Node, id uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.chain = id
	n.believed.Store(slices.Contains(p.o.Unverified, id))
	if id == p.chain {
		return nil
	}
	whose := "that of most nodes"
	if p.o.Chain != 0 {
		whose = "configured"
	}
	return &callError{node: n.name, method: "eth_chainId", cause: errWrongChain,
		text: fmt.Sprintf("chain %d, but %d is %s: not used", id, p.chain, whose)}
}

// header asks for a block and recomputes its hash.
func header(ctx context.Context, n *Node, method, which string) (schema.Header, error) {
	raw, err := n.Ask(ctx, method, which, false)
	if err != nil {
		return schema.Header{}, err
	}
	h, err := n.Trust().DecodeHead(raw)
	if err != nil {
		return h, BadAnswer(n.name, method, err)
	}
	return h, nil
}

// link tells whether a head that is far ahead of the tip comes from it, by walking its parents. What a walk has met is
// kept: one that takes longer than a probe may is gone on with by the next, not begun anew.
func (p *Pool) link(ctx context.Context, n *Node, h schema.Header) (bool, error) {
	const method = "eth_getBlockByHash"
	if !p.mustWalk(h) {
		return false, nil
	}
	walked := []schema.Hash{h.Hash}
	for range reach {
		parent, err := p.parentOf(ctx, n, method, h)
		switch {
		case errors.Is(err, chain.ErrNoBlock):
			return false, nil // it knows no parent of its own head: nothing is proved
		case err != nil:
			return false, err
		case parent.Hash != h.Parent:
			return false, BadAnswer(n.name, method, fmt.Errorf("%w: asked for %s, got %s", errInconsistent, h.Parent, parent.Hash))
		case parent.Number+1 != h.Number || parent.Time.After(h.Time):
			return false, BadAnswer(n.name, method, fmt.Errorf("%w: the parent of block %d is %d, of %s", errInconsistent,
				h.Number, parent.Number, parent.Time.Format(time.RFC3339)))
		}
		h = parent
		walked = append(walked, h.Hash)
		if p.linked(n, walked, h) {
			return true, nil
		}
	}
	return false, nil
}

// parentOf asks for a block's parent, unless an earlier walk has met it.
func (p *Pool) parentOf(ctx context.Context, n *Node, method string, h schema.Header) (schema.Header, error) {
	p.mu.Lock()
	parent, met := n.trail[h.Parent]
	p.mu.Unlock()
	if met {
		return parent, nil
	}
	parent, err := patiently(ctx, n, method, h.Parent.String())
	if err != nil || parent.Hash != h.Parent {
		return parent, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.trail == nil || len(n.trail) >= 2*reach {
		n.trail = map[schema.Hash]schema.Header{}
	}
	n.trail[parent.Hash] = parent
	return parent, nil
}

// patiently is header, tried again when a call fails: a walk takes so many that a node which drops one in five would
// hardly ever come to its end.
func patiently(ctx context.Context, n *Node, method, which string) (h schema.Header, err error) {
	for range 4 {
		h, err = header(ctx, n, method, which)
		if err == nil || isForged(err) || errors.Is(err, chain.ErrNoBlock) || ctx.Err() != nil {
			break
		}
	}
	return h, err
}

// mustWalk tells whether it matters where a head comes from and can be found out.
func (p *Pool) mustWalk(h schema.Header) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tip != nil && h.Number >= p.tip.Number+p.o.Lag && h.Number <= p.tip.Number+reach &&
		!p.known.has[h.Hash] && !p.known.has[h.Parent]
}

// linked notes blocks that a walk has brought down to one whose parent is known.
func (p *Pool) linked(n *Node, walked []schema.Hash, last schema.Header) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known.has[last.Hash] && !p.known.has[last.Parent] {
		return false
	}
	for _, hash := range walked {
		p.known.add(hash)
	}
	n.trail = nil
	return true
}

// confirm asks the node for the block at the height of another's head, if it matters for the tip and is not known.
func (p *Pool) confirm(ctx context.Context, n *Node) {
	number, ok := p.question(n)
	if !ok {
		return
	}
	h, err := header(ctx, n, "eth_getBlockByNumber", hexutil.EncodeUint64(number))
	if err == nil && h.Number != number {
		err = BadAnswer(n.name, "eth_getBlockByNumber", fmt.Errorf("%w: asked for block %d, got %d", errInconsistent, number, h.Number))
	}
	switch {
	case isForged(err):
		p.missed(n, err)
	case err == nil:
		p.mu.Lock()
		defer p.mu.Unlock()
		if votes(n.state) {
			n.branch.add(h)
			p.vote(p.o.Now())
		}
	}
}

// question returns the height that the node is to confirm: the highest head of another voter that is not above its own.
func (p *Pool) question(n *Node) (number uint64, ok bool) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !votes(n.state) {
		return 0, false
	}
	others := p.voters(now)
	if w := p.witness(now); w != nil {
		others = append(others, w)
	}
	for _, other := range others {
		h := other.head.Number
		if _, asked := n.branch.marks[h]; other == n || h > n.head.Number || asked || p.tip != nil && h <= p.tip.Number {
			continue
		}
		if !ok || h > number {
			number, ok = h, true
		}
	}
	return number, ok
}

// hint asks what the node thinks of itself. Neither answer decides anything, and a node need have neither method.
func (p *Pool) hint(ctx context.Context, n *Node) {
	raw, err := n.Ask(ctx, "eth_syncing")
	syncing := err == nil && len(raw) > 0 && raw[0] == '{'
	var count hexutil.Uint64
	var peers *uint64
	if raw, err = n.Ask(ctx, "net_peerCount"); err == nil && json.Unmarshal(raw, &count) == nil {
		peers = (*uint64)(&count)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.syncing != syncing {
		p.log.WithFields(logrus.Fields{"node": n.name, "syncing": syncing}).Info("node says whether it is syncing")
	}
	n.syncing, n.peers = syncing, peers
}
