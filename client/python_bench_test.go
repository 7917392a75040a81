package client

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// BenchmarkCatchUpPython is BenchmarkCatchUp for the observer in Python, beside ours over the same node and server. Both
// are timed from their connection to the server on, because an interpreter takes a while to start.
func BenchmarkCatchUpPython(b *testing.B) {
	const blocks = 500
	withPython, err := filepath.Abs("../deploy/dev/with-python")
	if err != nil {
		b.Fatal(err)
	}
	if out, err := exec.CommandContext(b.Context(), withPython, "true").CombinedOutput(); err != nil {
		b.Skipf("needs Python 3.11: %v: %s", err, out)
	}
	d := draw(b).line("a", 0, blocks, "")
	for _, name := range names("a", 1, blocks) {
		d.transact(name, 20)
	}
	n := serveDrawing(b, d)
	timed := func(b *testing.B, begin func(server string) (end func())) {
		var took time.Duration
		for b.Loop() {
			s := serveRelay(b, d)
			s.has(0, "a0")
			end := begin(s.addr())
			wait(b, "a connection", func() bool { return s.connections() > 0 })
			began := time.Now()
			wait(b, "all blocks", func() bool { return len(s.blocks()) == blocks })
			took += time.Since(began)
			end()
			s.stop()
		}
		b.ReportMetric(blocks*float64(b.N)/took.Seconds(), "blocks/s")
	}
	b.Run("Go", func(b *testing.B) {
		timed(b, func(server string) func() {
			r := start(b, []string{n.URL}, []string{server}, func(o *Options) { o.Spool = filepath.Join(b.TempDir(), "spool") })
			return r.end
		})
	})
	b.Run("Python", func(b *testing.B) {
		timed(b, func(server string) func() {
			cmd := exec.CommandContext(b.Context(), withPython, "python", "-m", "firstseen", "client", "--name", "py-1",
				"--node", "n1="+n.URL, "--server", server, "--spool", filepath.Join(b.TempDir(), "spool"), "--poll", "100ms")
			cmd.Stderr = os.Stderr
			if err := cmd.Start(); err != nil {
				b.Fatal(err)
			}
			return func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
		})
	})
}
