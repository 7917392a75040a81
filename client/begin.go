package client

import (
	"context"
	"fmt"
	"strconv"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// Where an observer starts that has nothing to go on from, besides a height.
const (
	StartTip      = "tip"      // at the first head it sees
	StartEarliest = "earliest" // at the oldest block that the node has
)

// begin decides once where to start: where an earlier process got to, else after the server's position, else where
// Options.Start says. It is errNotYet while the server has not been heard.
func (f *follower) begin(ctx context.Context, n asker, head schema.Header) error {
	if f.started {
		return nil
	}
	if f.window == nil {
		f.window = newWindow()
		f.floor, f.next = head.Number, head.Number
	}
	if at, ok := f.box.Begun(); ok {
		f.goOn(at)
		return nil
	}
	p, ok := f.meet.position(f.chain)
	if !ok {
		return errNotYet
	}
	at, err := f.fresh(ctx, n, p, head)
	if err != nil {
		return err
	}
	if err := f.box.Begin(at); err != nil {
		return err
	}
	f.apply(at)
	return nil
}

// goOn continues what an earlier process began.
func (f *follower) goOn(at begun) {
	f.apply(at)
	f.log.WithField("number", f.next).Info("going on after the last block in the spool")
}

// fresh is the beginning of an observer that remembers nothing.
func (f *follower) fresh(ctx context.Context, n asker, p *schema.Position, head schema.Header) (begun, error) {
	if p != nil && !f.o.StartOver {
		return f.resume(*p, head), nil
	}
	at := begun{chain: f.chain, floor: f.floor}
	log := f.log.WithField("start", f.o.Start)
	switch f.o.Start {
	case "", StartTip:
	case StartEarliest:
		const method = "eth_getBlockByNumber"
		raw, err := n.Ask(ctx, method, "earliest", false)
		if err != nil {
			return at, err
		}
		h, err := chain.DecodeHead(raw)
		if err != nil {
			return at, nodepool.BadAnswer(n.Name(), method, err)
		}
		at.floor = h.Number
	default:
		at.floor, _ = strconv.ParseUint(f.o.Start, 10, 64) // Validate has seen it
	}
	log.WithFields(logrus.Fields{"number": at.floor, "head": head.Number}).Info("starting anew")
	return at, nil
}

// resume goes on after what the server has.
func (f *follower) resume(p schema.Position, head schema.Header) begun {
	log := f.log.WithFields(logrus.Fields{"stored": p.Number, "head": head.Number})
	if head.Number > p.Number && head.Number-p.Number > f.o.Backfill {
		floor := head.Number - f.o.Backfill + 1
		g := schema.Gap{Chain: f.chain, From: p.Number + 1, To: floor - 1,
			Reason: fmt.Sprintf("longer ago than the %d blocks that are fetched after a pause", f.o.Backfill)}
		log.WithFields(logrus.Fields{"from": g.From, "to": g.To}).Error("blocks since the last one stored are left out")
		return begun{chain: f.chain, floor: floor, gaps: []schema.Gap{g}}
	}
	log.Info("going on after the last block stored")
	// If the stored block is on a branch that was left, what is below it is sent again, down to the floor: its hashes
	// are not known here, and a duplicate costs less than a gap.
	return begun{chain: f.chain, floor: p.Number - min(p.Number, reorgDepth-1), known: &p.Point}
}

// apply takes the progress over.
func (f *follower) apply(at begun) {
	f.started = true
	f.floor, f.next = at.floor, at.floor
	if at.known != nil {
		f.window.add(at.known.Hash)
		f.resumed = at.known.Number
		f.next, f.hold = at.known.Number+1, at.known.Number+1
	}
	for _, p := range at.finished {
		f.window.add(p.Hash)
		f.next, f.hold = p.Number+1, 0
	}
	for _, g := range at.gaps {
		f.board.gap(g)
	}
	f.tally.begins(f.next)
}
