package client

import (
	"slices"
	"testing"
	"time"
)

// BenchmarkCatchUp delivers 500 blocks of 20 transactions each from a node to a server, all on loopback, and reports
// how long one block takes.
func BenchmarkCatchUp(b *testing.B) {
	const blocks = 500
	d := draw(b).line("a", 0, blocks, "")
	for _, name := range names("a", 1, blocks) {
		d.transact(name, 20)
	}
	n := serveDrawing(b, d)
	for b.Loop() {
		s := serveRelay(b, d)
		s.has(0, "a0")
		c := start(b, []string{n.URL}, []string{s.addr()}, nil)
		wait(b, "all blocks", func() bool { return c.Stats().First == blocks })
		c.end()
		s.stop()
	}
	b.ReportMetric(float64(b.Elapsed())/float64(time.Microsecond)/float64(b.N)/blocks, "µs/block")
}

// BenchmarkHeadToServer measures from a new head at the node to its block at the server, with polls 5 ms apart.
func BenchmarkHeadToServer(b *testing.B) {
	d := draw(b).line("a", 0, 1, "")
	s := serveRelay(b, d)
	c := start(b, []string{serveDrawing(b, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a1")
	var took []time.Duration
	for n := uint64(2); b.Loop(); n++ {
		began := time.Now()
		d.line("a", n, n, "a"+itoa(int(n-1)))
		for c.Stats().First < n {
			time.Sleep(100 * time.Microsecond)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
