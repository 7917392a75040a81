package client

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/sirupsen/logrus"

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
		return f.goOn(ctx, n, at)
	}
	p, ok := f.meet.position(f.chain)
	if !ok {
		return errNotYet
	}
	at, err := f.fresh(ctx, n, p, head)
	if err != nil {
		return err
	}
	return f.start(at)
}

// start makes a beginning durable and takes it over.
func (f *follower) start(at begun) error {
	if err := f.box.Begin(at); err != nil {
		return err
	}
	if at.halted != nil {
		if err := f.box.Halt(*at.halted); err != nil {
			return err
		}
		f.logHalt(*at.halted)
	}
	f.apply(at)
	return nil
}

// goOn continues what an earlier process began. One that was halted stays so, unless the operator has it resumed.
func (f *follower) goOn(ctx context.Context, n asker, at begun) error {
	if at.halted != nil && f.o.ResumeHalted {
		at, err := f.takeUp(ctx, n, at.points(), at.floor)
		if err != nil {
			return err
		}
		return f.start(at)
	}
	f.apply(at)
	f.log.WithField("number", f.next).Info("going on after the last block in the spool")
	return nil
}

// fresh is the beginning of an observer that remembers nothing.
func (f *follower) fresh(ctx context.Context, n asker, p *schema.Position, head schema.Header) (begun, error) {
	if p != nil && !f.o.StartOver {
		return f.resume(ctx, n, *p, head)
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
		h, err := n.Trust().DecodeHead(raw)
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
func (f *follower) resume(ctx context.Context, n asker, p schema.Position, head schema.Header) (begun, error) {
	log := f.log.WithFields(logrus.Fields{"stored": p.Number, "head": head.Number})
	switch {
	case head.Number < p.Number: // whether its branch is the stored one cannot be told yet
		f.reach(ctx, n, head)
		return begun{}, errAtHead
	case head.Number-p.Number > f.o.Backfill:
		floor := head.Number - f.o.Backfill + 1
		g := schema.Gap{Chain: f.chain, From: p.Number + 1, To: floor - 1,
			Reason: fmt.Sprintf("longer ago than the %d blocks that are fetched after a pause", f.o.Backfill)}
		log.WithFields(logrus.Fields{"from": g.From, "to": g.To}).Error("blocks since the last one stored are left out")
		return begun{chain: f.chain, floor: floor, gaps: []schema.Gap{g}}, nil
	}
	points := append([]schema.Point{p.Point}, p.Back...)
	off, err := f.leftAt(ctx, n, points)
	if err != nil {
		return begun{}, err
	}
	oldest := points[len(points)-1]
	switch {
	case off == 0:
		log.Info("going on after the last block stored")
		return f.from(ctx, n, points[0])
	case len(p.Back) == 0:
		// What is below the stored block is sent again, down to the floor: its hashes are not known here, and a duplicate
		// costs less than a gap.
		log.Info("the last block stored is on a branch that was left: sending again from below it")
		return begun{chain: f.chain, floor: p.Number - min(p.Number, reorgDepth-1), known: &p.Point}, nil
	case off == len(points) && p.Number-oldest.Number < reorgDepth:
		log.WithField("from", oldest.Number).Info("another branch has replaced all that is stored: sending it from there")
		return begun{chain: f.chain, floor: oldest.Number}, nil
	case off < len(points) && p.Number-points[off].Number <= reorgDepth:
		log.WithField("from", points[off].Number+1).Info("the last block stored is on a branch that was left: going on from the fork")
		return f.from(ctx, n, points[off])
	case f.o.ResumeHalted:
		return f.takeUp(ctx, n, points, 0)
	}
	slices.Reverse(points)
	return begun{chain: f.chain, finished: points,
		halted: f.deepGap(points[len(points)-off].Number, head.Number)}, nil
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
		f.next, f.hold, f.resumed = p.Number+1, 0, 0
	}
	for _, g := range at.gaps {
		f.board.gap(g)
	}
	if at.halted != nil {
		f.halted = true
		f.board.gap(*at.halted)
		f.board.halt(at.halted.Reason)
	}
	f.tally.begins(f.next)
}
