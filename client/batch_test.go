package client

import "testing"

func TestBackfillAsksForManyBlocksInFewRequests(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 400, "")
	for _, name := range names("a", 1, 400) {
		d.transact(name, 2)
	}
	n := serveDrawing(t, d)
	s := serveRelay(t, d)
	s.has(0, "a0")
	c := start(t, []string{n.URL}, []string{s.addr()}, nil)
	s.wants(names("a", 1, 400)...)
	c.at(d, "a400")
	if got := n.called("batch"); got < 2*400/32 || got > 2*400/together+20 {
		t.Errorf("%d batches for 400 blocks and their receipts", got)
	}
	if got := n.called("eth_getBlockReceipts"); got != 400 {
		t.Errorf("receipts asked for %d times", got)
	}
	if got := c.Stats().NoReceipts; len(got) != 0 {
		t.Errorf("without receipts: %v", got)
	}
}

func TestNodeThatTakesNoBatchesIsAskedOneThingAtATime(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 200, "")
	n := serveDrawing(t, d)
	n.misbehave(on("no such method", nil)) // a node with a fault takes none
	s := serveRelay(t, d)
	s.has(0, "a0")
	start(t, []string{n.URL}, []string{s.addr()}, nil)
	s.wants(names("a", 1, 200)...)
	if got := n.called("batch"); got < 1 || got > fetchers {
		t.Errorf("batches were tried %d times", got)
	}
}
