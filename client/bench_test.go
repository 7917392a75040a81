package client

import (
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkCatchUp delivers 500 blocks of 20 transactions each from a node to a server, all on loopback or with the
// node 20 ms away, and reports how many blocks a second that is.
func BenchmarkCatchUp(b *testing.B) {
	const blocks = 500
	d := draw(b).line("a", 0, blocks, "")
	for _, name := range names("a", 1, blocks) {
		d.transact(name, 20)
	}
	for name, c := range map[string]struct {
		away           time.Duration
		spool, batches bool
	}{
		"near":                      {batches: true},
		"near, spool":               {spool: true, batches: true},
		"20 ms away":                {away: 20 * time.Millisecond, batches: true},
		"200 ms away":               {away: 200 * time.Millisecond, batches: true},
		"20 ms away, one at a time": {away: 20 * time.Millisecond},
	} {
		b.Run(name, func(b *testing.B) {
			n := serveDrawing(b, d)
			n.away = c.away
			if !c.batches {
				n.misbehave(on("no such method", nil))
			}
			var took time.Duration
			for b.Loop() {
				s := serveRelay(b, d)
				s.has(0, "a0")
				began := time.Now()
				r := start(b, []string{n.URL}, []string{s.addr()}, func(o *Options) {
					if c.spool {
						o.Spool = filepath.Join(b.TempDir(), "spool")
					}
				})
				wait(b, "all blocks", func() bool { return r.Stats().First == blocks })
				took += time.Since(began)
				r.end()
				s.stop()
			}
			b.ReportMetric(blocks*float64(b.N)/took.Seconds(), "blocks/s")
		})
	}
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
