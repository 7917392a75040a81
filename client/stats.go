package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// Stats are what a client has done since New, and how it stands.
type Stats struct {
	Behind    bool              // still fetching blocks far below the head
	Head      *schema.Head      // of the node in use; nil before one was seen
	Nodes     []schema.NodeView // in the order of Options.Nodes
	NodeFault map[string]uint64 // by node name: how often it could not be used
	Gaps      []schema.Gap      // heights that will not be delivered
	Halted    string            // why the chain is not followed; empty: it is

	From         uint64            // height at which this run went on, 0 before that is known
	Observed     uint64            // blocks taken from the chain, those left out included
	LeftOut      uint64            // blocks that could not be rendered or encoded; each is a gap
	Last         uint64            // height of the one taken last, 0 before
	Reorgs       uint64            // branches that replaced blocks already taken
	DeepestReorg uint64            // blocks that one of them replaced, at most
	NoReceipts   map[string]uint64 // blocks sent without receipts, by reason
	NoRaw        map[string]uint64 // blocks sent without raw JSON although Options.Raw wants it, or without its receipts, by reason

	Server      string            // connected to; empty: to none
	Connections uint64            // made
	Sent        uint64            // frames, those sent again included
	First       uint64            // acked as the first (relay mode)
	Duplicate   uint64            // acked as stored before
	Refused     map[string]uint64 // never to be stored, by the server's code
	DeadLetters []Letter          // the latest of them
	Waiting     int               // blocks in the outbox: unsent or not acked yet
	OutboxFull  uint64            // times the outbox took no more
	LastError   string            // why there is no connection, or was none the last time
}

// Degraded says what needs an operator although the client goes on: blocks refused, left out or not delivered. It is
// empty if nothing does.
func (s Stats) Degraded() string {
	var all []string
	add := func(n int, what string) {
		if n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, what))
		}
	}
	add(max(len(s.DeadLetters), s.refusals()), "blocks that no server takes, see dead letters")
	add(len(s.Gaps), "gaps of heights that are not delivered")
	if s.Halted != "" {
		all = append(all, "chain is not followed: "+s.Halted)
	}
	return strings.Join(all, "; ")
}

// refusals counts the blocks refused in this run.
func (s Stats) refusals() (n int) {
	for _, count := range s.Refused {
		n += int(count)
	}
	return n
}

// Stats returns the present figures. They are read one after the other, so a sum may be off by what happens meanwhile.
func (c *Client) Stats() Stats {
	n, b := c.tally.read(), c.board.state()
	report := c.board.report()
	s := Stats{
		Behind: b.behind, Halted: b.halted,
		Nodes: c.nodes.Views(), NodeFault: c.nodes.Failures(), Gaps: report.Gaps,
		From: n.from, Observed: n.observed, LeftOut: n.leftOut, Last: n.last, Reorgs: n.reorgs, DeepestReorg: n.deepest,
		NoReceipts: n.unknown, NoRaw: n.rawless, Server: n.connected, Connections: n.connects, Sent: n.sent, First: n.first,
		Duplicate: n.duplicate, Refused: map[string]uint64{}, DeadLetters: c.outbox().Letters(),
		OutboxFull: n.fulls, LastError: n.lastError,
	}
	if len(report.Heads) == 1 {
		s.Head = &report.Heads[0]
	}
	for code, count := range n.refused {
		s.Refused[string(code)] = count
	}
	s.Waiting, _, _ = c.outbox().Depth()
	return s
}

// patient is how long progress may stand still before Ready says so.
const patient = 15 * time.Second

// Ready returns nil while blocks can flow: a node answers, the chain is followed, a server takes what is sent, and the
// nodes agree on the tip. Its error names the first of these that has not been so for 15 s, or of a halted chain at once.
func (c *Client) Ready(context.Context) error {
	now := time.Now()
	b, n := c.board.state(), c.tally.read()
	entries, _, oldest := c.outbox().Depth()
	waits := now.Sub(oldest).Round(time.Second)
	if err := c.outbox().Ready(); err != nil {
		return err
	}
	switch {
	case b.halted != "":
		return fmt.Errorf("chain is not followed: %s", b.halted)
	case n.connected == "" && now.Sub(n.since) > patient && (!c.o.Bare || n.lastError != ""):
		return fmt.Errorf("no server for %s: %s", now.Sub(n.since).Round(time.Second), orUnknown(n.lastError))
	case entries > 0 && waits > patient:
		return fmt.Errorf("no server settled the oldest of %d blocks in %s", entries, waits)
	case now.Sub(b.good) > c.o.Poll+patient:
		return fmt.Errorf("no node gave its head for %s: %s", now.Sub(b.good).Round(time.Second), orUnknown(b.bad))
	}
	if c.board.report().Heads == nil {
		return errors.New("no head yet")
	}
	return c.nodes.Agreed()
}

func orUnknown(why string) string {
	if why == "" {
		return "not known why"
	}
	return why
}
