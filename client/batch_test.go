package client

import (
	"testing"
	"time"
)

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

// The next portions are asked for while one is on its way, but no more than a few.
func TestBackfillReadsAhead(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 900, "")
	n := serveDrawing(t, d)
	n.crowd = make(chan struct{})
	s := serveRelay(t, d)
	s.has(0, "a0")
	start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) { o.CallTimeout = time.Minute })
	under := func() (now, most int) {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.under, n.most
	}
	done := make(chan struct{})
	go func() { // lets a batch pass when as many as there can be are waiting
		defer close(done)
		for _, atLeast := range []int{4, 3, 2, 1, 8} {
			wait(t, "batches under way", func() bool { now, _ := under(); return now >= atLeast })
			if atLeast < 8 {
				n.crowd <- struct{}{}
			}
		}
		close(n.crowd)
	}()
	s.wants(names("a", 1, 900)...)
	<-done
	if _, most := under(); most <= fetchers || most > readAhead*fetchers {
		t.Errorf("%d batches at once", most)
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
