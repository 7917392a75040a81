package client

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// What a converge step came to, besides progress (nil) and the fault of a node.
var (
	errAtHead    = errors.New("at the head")
	errNotYet    = errors.New("not known yet from where to follow")
	errDeepReorg = fmt.Errorf("reorg deeper than %d blocks", reorgDepth)
	errLagging   = errors.New("head is far behind what was relayed")
	errMoved     = errors.New("the chain changed while it was read")
)

// source chooses the node to ask.
type source interface {
	// Pick returns the node to use for the next step, with its latest head.
	Pick() (*nodepool.Node, schema.Header, error)
	// Chain returns the chain id that all nodes share, once Pick has returned one.
	Chain() uint64
	// Tip returns the highest block that the nodes agree on; ok is false before the first.
	Tip() (tip schema.Point, corroborated, ok bool)
	// Changed gives a signal when Pick may return something else.
	Changed() <-chan struct{}
	// Fault tells that the node could not be used for its step.
	Fault(n *nodepool.Node, err error)
	// Used tells that it could.
	Used(n *nodepool.Node)
}

// follower brings the outbox level with the chain. It belongs to one goroutine.
type follower struct {
	o     Options
	log   logrus.FieldLogger
	nodes source
	box   box
	board *board
	tally *tally
	meet  *meeting

	chain   uint64
	tagged  time.Time // when safe and finalized were asked for last
	deep    int       // steps in a row that met a reorg too deep
	unknown string    // why blocks go without receipts at present
	rawless string    // why they go without raw JSON, or with less of it
	started bool
	halted  bool // for good
	reading int  // portions of a backfill to read at once at present

	// The progress, once started. It moves only when the outbox has taken a block.
	window *window
	floor  uint64 // heights below are not this observer's to deliver
	hold   uint64 // until one block was finished, heads below wait: the server has as much already
	next   uint64 // the height after the last finished block

	resumed uint64 // the stored block that this run went on from; the window has no hashes below it. 0: none
}

// run converges until ctx ends.
func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := f.converge(ctx)
		if ctx.Err() != nil {
			return
		}
		f.pause(ctx, err)
	}
}

// pause waits for what the last step's outcome calls for.
func (f *follower) pause(ctx context.Context, err error) {
	var (
		welcomed <-chan struct{}
		wait     = f.o.Poll
	)
	switch {
	case err == nil:
		return
	case errors.Is(err, errFull): // however long it takes
		f.tally.full()
		select {
		case <-ctx.Done():
		case <-f.box.Room():
		}
		return
	case errors.Is(err, errNotYet):
		welcomed = f.meet.welcomed
	case errors.Is(err, errDeepReorg):
		f.deep++
		wait = min(f.o.Poll<<min(f.deep, 8), 30*time.Second)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	changed := f.nodes.Changed()
	if errors.Is(err, errDeepReorg) {
		changed = nil // each new head would be another walk in vain
	}
	select {
	case <-ctx.Done():
	case <-welcomed:
	case <-changed:
	case <-timer.C:
	}
}

// converge is one step towards the chain's head. It can be repeated at any time and from any state: it looks at what
// is there, delivers some of what is missing, and says in its error what the next step should wait for.
func (f *follower) converge(ctx context.Context) error {
	n, head, err := f.nodes.Pick()
	if err != nil {
		return f.noAnswer(ctx, err)
	}
	f.chain = f.nodes.Chain()
	f.meet.name(f.chain)
	f.board.answered(time.Now())
	node := asker(n)
	if f.o.Raw {
		node = keeping{n}
	}
	if err := f.begin(ctx, node, head); err != nil {
		if errors.Is(err, errNotYet) || errors.Is(err, errFull) || errors.Is(err, errAtHead) || errors.Is(err, errMoved) {
			return err
		}
		return f.fault(ctx, n, err)
	}
	if f.halted {
		return errHalted
	}
	err = f.approach(ctx, node, head)
	if deep := (deepReorg{}); errors.As(err, &deep) {
		if err = f.halt(ctx, node, head, deep); errors.Is(err, errHalted) || errors.Is(err, errFull) {
			return err
		}
	}
	if err == nil || errors.Is(err, errAtHead) || errors.Is(err, errFull) || errors.Is(err, errMoved) {
		f.nodes.Used(n)
		return err
	}
	return f.fault(ctx, n, err)
}

// approach delivers what lies between the finished blocks and the head, or the next part of it.
func (f *follower) approach(ctx context.Context, n asker, head schema.Header) error {
	switch {
	case f.window.has(head.Hash):
		f.reach(ctx, n, head)
		return errAtHead
	case head.Number+reorgDepth < f.next:
		return errLagging
	case head.Number < f.floor, head.Number < f.hold:
		f.reach(ctx, n, head)
		return errAtHead
	}
	if err := f.advance(ctx, n, head); err != nil {
		return err
	}
	if !f.window.has(head.Hash) {
		f.board.sighted(f.headOf(n, head))
		return nil
	}
	f.reach(ctx, n, head)
	return errAtHead
}

// advance delivers blocks up to the head, or many of them if it is far.
func (f *follower) advance(ctx context.Context, n asker, head schema.Header) error {
	if f.ahead(head) > near {
		return f.catchUp(ctx, n, head)
	}
	blocks, err := f.missing(ctx, n, head)
	if err != nil {
		return err
	}
	return f.finish(ctx, n, head, blocks)
}

// fault hands the node back and remembers why.
func (f *follower) fault(ctx context.Context, n *nodepool.Node, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.nodes.Fault(n, err)
	return f.noAnswer(ctx, err)
}

func (f *follower) noAnswer(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		f.board.failed(err.Error())
	}
	return err
}

// reach notes that everything up to the head is delivered.
func (f *follower) reach(ctx context.Context, n asker, head schema.Header) {
	f.deep = 0
	h := f.headOf(n, head)
	now := time.Now()
	if f.board.shows(h) && now.Sub(f.tagged) < tagsEvery {
		return
	}
	f.tagged = now
	h.Safe = taggedPoint(ctx, n, "safe")
	h.Finalized = taggedPoint(ctx, n, "finalized")
	f.board.reached(h)
}

// tagsEvery is how long safe and finalized are believed while the head stays; with a new head they are asked for anew.
const tagsEvery = 15 * time.Second

func (f *follower) headOf(n asker, head schema.Header) schema.Head {
	return schema.Head{Chain: f.chain, Node: n.Name(), Latest: schema.Point{Number: head.Number, Hash: head.Hash}}
}
