package client

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/internal/spool"
)

// Client is one observer of one chain. It is made by New and run once.
type Client struct {
	o     Options
	nodes *nodepool.Pool
	board *board
	tally *tally

	mu  sync.Mutex // guards the rest
	box box        // another one after damage
}

// New validates the options, opens the spool if there is one, and registers the metrics. It connects to nothing yet.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("client options: %w", err)
	}
	o = o.withDefaults()
	o.Log = o.Log.WithField("observer", o.Name)
	box, err := newBox(o)
	if err != nil {
		return nil, err
	}
	if b, ok := box.(spoolBox); ok && b.Counts().SetAside {
		o.StartOver = false // it has started: what the damaged spool had comes before, as far as a server knows
	}
	c, err := assemble(o, box)
	if err != nil {
		_ = box.Close() // the error that kept it from starting is the one to tell
		return nil, err
	}
	return c, nil
}

// assemble puts the parts together. A box that was begun by an earlier process settles which chain it is.
func assemble(o Options, box box) (*Client, error) {
	at, began := box.Begun()
	switch {
	case began && o.Chain != 0 && o.Chain != at.chain:
		return nil, fmt.Errorf("spool %s belongs to chain %d, not %d: use another file", o.Spool, at.chain, o.Chain)
	case began:
		o.Chain = at.chain
	}
	nodes, err := nodepool.New(o.pool())
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	now := time.Now()
	c := &Client{o: o, nodes: nodes, box: box, board: newBoard(now), tally: newTally(now)}
	if o.Registerer != nil {
		if err := o.Registerer.Register(newCollector(c)); err != nil {
			return nil, fmt.Errorf("client metrics: %w", err)
		}
	}
	return c, nil
}

// Run observes until ctx ends. Then it reads no more of the chain, and delivers what is waiting for at most
// Options.Drain, with a few seconds more for parting in good order; what is left is in Stats.Waiting. It stays in the
// spool, or without one is read from the chain again by the next Run, since the server knows how far it got.
//
// Trouble with nodes and servers is waited out, never returned. The one error is a server's final word: E stop, such as
// for a token that is not accepted.
func (c *Client) Run(ctx context.Context) error {
	pooling, stop := context.WithCancel(ctx)
	var pool sync.WaitGroup
	pool.Go(func() { _ = c.nodes.Run(pooling) }) // only ever ends with the context
	err := c.relay(ctx)
	for errors.Is(err, spool.ErrDamaged) && ctx.Err() == nil {
		if err = c.replace(); err == nil {
			err = c.relay(ctx)
		}
	}
	stop()
	pool.Wait()
	c.tellWaiting()
	return errors.Join(err, c.outbox().Close())
}

// relay follows and delivers until ctx ends, a server says stop, or the spool turns out to be damaged.
func (c *Client) relay(ctx context.Context) error {
	box, meet := c.outbox(), c.meeting()
	following, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan struct{})
	f := &follower{o: c.o, log: c.o.Log, nodes: c.nodes, box: box, board: c.board, tally: c.tally, meet: meet}
	go func() { defer close(followed); f.run(following) }()
	// The link drains only after the follower has added its last block.
	linking, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	linked := make(chan error, 1)
	go func() { linked <- newLink(c.o, box, c.board, c.tally, meet, c.nodes).run(linking) }()

	var damage error
	select {
	case err := <-linked:
		stop()
		<-followed
		return err
	case <-box.Damaged():
		damage = spool.ErrDamaged
		stop()
	case <-ctx.Done():
	}
	<-followed
	drain()
	return errors.Join(damage, <-linked)
}

// replace opens the spool again, which puts a damaged file aside: what waited in it is read from the chain once more.
func (c *Client) replace() error {
	c.startAgain()
	_ = c.outbox().Close() // what it could not write is among what is read again
	box, err := newBox(c.o)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.box = box
	return nil
}

// startAgain has the next follower begin where the oldest block waits, if no server says from where on to read: where it
// began first may be the tip, which has moved. A block that took no place, or one on a branch, makes that a little lower.
func (c *Client) startAgain() {
	n := c.tally.read()
	last := n.last
	if at, _ := c.outbox().Begun(); last == 0 && len(at.finished) > 0 {
		last = at.finished[len(at.finished)-1].Number
	}
	if last == 0 {
		return
	}
	waiting, _, _ := c.outbox().Depth()
	c.o.StartOver = false
	c.o.Start = strconv.FormatUint(last+1-min(last+1, uint64(waiting)+n.leftOut), 10)
}

// meeting is a new one, as far as is known what it is about.
func (c *Client) meeting() *meeting {
	m := newMeeting()
	if at, began := c.outbox().Begun(); began { // what waits can be delivered before any node answers
		m.name(at.chain)
	}
	if c.o.Bare {
		m.welcome(nil) // such a server says nothing, so there is nothing to wait for
	}
	return m
}

func (c *Client) outbox() box {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.box
}

// tellWaiting logs what is not delivered at the end.
func (c *Client) tellWaiting() {
	n, _, _ := c.outbox().Depth()
	if n == 0 {
		return
	}
	log := c.o.Log.WithField("blocks", n)
	switch {
	case c.o.Spool != "":
		log.Info("not delivered yet: kept in the spool")
	case c.o.Bare:
		log.Warn("not delivered and given up: without a spool, bare mode has no memory of what was sent")
	default:
		log.Warn("not delivered: the next run reads them from the chain again")
	}
}

// Cordon keeps a node from being used until Uncordon; it is still probed. The error says that no node has that name.
func (c *Client) Cordon(node string) error { return c.nodes.Cordon(node) }

// Uncordon ends a Cordon, and has a node looked at anew that was found on another chain or is in quarantine.
func (c *Client) Uncordon(node string) error { return c.nodes.Uncordon(node) }
