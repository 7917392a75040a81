package client

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
)

// Client is one observer of one chain. It is made by New and run once.
type Client struct {
	o     Options
	nodes *nodeList
	box   *memoryBox
	board *board
	tally *tally
	meet  *meeting
}

// New validates the options and registers the metrics. It connects to nothing yet.
func New(o Options) (*Client, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("client options: %w", err)
	}
	o = o.withDefaults()
	o.Log = o.Log.WithFields(logrus.Fields{"part": "client", "observer": o.Name})
	nodes, err := newNodeList(o)
	if err != nil {
		return nil, fmt.Errorf("client options: %w", err)
	}
	now := time.Now()
	c := &Client{o: o, nodes: nodes, box: newMemoryBox(o), board: newBoard(now), tally: newTally(now), meet: newMeeting()}
	if o.Bare {
		c.meet.welcome(nil) // such a server says nothing, so there is nothing to wait for
	}
	if o.Registerer != nil {
		if err := o.Registerer.Register(newCollector(c)); err != nil {
			return nil, fmt.Errorf("client metrics: %w", err)
		}
	}
	return c, nil
}

// Run observes until ctx ends. Then it reads no more of the chain, and delivers what is waiting for at most
// Options.Drain, with a few seconds more for parting in good order; what is left is in Stats.Waiting and is read from
// the chain again by the next Run, since the server knows how far it got.
//
// Trouble with nodes and servers is waited out, never returned. The one error is a server's final word: E stop, such as
// for a token that is not accepted.
func (c *Client) Run(ctx context.Context) error {
	defer c.nodes.close()
	following, stop := context.WithCancel(ctx)
	defer stop()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		c.follower().run(following)
	}()
	// The link drains only after the follower has added its last block.
	linking, drain := context.WithCancel(context.WithoutCancel(ctx))
	defer drain()
	linked := make(chan error, 1)
	go func() { linked <- newLink(c.o, c.box, c.board, c.tally, c.meet, c.nodes.Views).run(linking) }()

	var err error
	select {
	case err = <-linked:
		stop()
		<-followed
	case <-ctx.Done():
		<-followed
		drain()
		err = <-linked
	}
	if n, _, _ := c.box.Depth(); n > 0 {
		c.o.Log.WithField("blocks", n).Warn("not delivered: the next run reads them from the chain again")
	}
	return err
}

func (c *Client) follower() *follower {
	return &follower{o: c.o, log: c.o.Log, nodes: c.nodes, box: c.box, board: c.board, tally: c.tally, meet: c.meet}
}
