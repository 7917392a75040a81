package client

import (
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// original serves connections as the original demo server does: one at a time, one frame each, no answer, close.
func original(t *testing.T, d *drawing, after func(net.Conn)) (addr string, got func() []string, most *atomic.Int64) {
	t.Helper()
	var (
		mu     sync.Mutex
		blocks []string
		open   atomic.Int64
	)
	most = new(atomic.Int64)
	addr = listen(t, func(c net.Conn) {
		most.Store(max(most.Load(), open.Add(1)))
		defer open.Add(-1)
		content, err := netstring.NewDecoder(c, 1<<20).Next()
		if err != nil {
			t.Errorf("frame: %v", err)
			return
		}
		h, err := schema.ParseHash(strings.TrimPrefix(string(content), "block "))
		if err != nil {
			t.Errorf("payload %q", content)
		}
		mu.Lock()
		blocks = append(blocks, d.name(h))
		mu.Unlock()
		after(c)
	})
	return addr, func() []string { mu.Lock(); defer mu.Unlock(); return slices.Clone(blocks) }, most
}

func TestBareSendsOneFramePerConnectionInOrder(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]func(net.Conn){
		"closes at once":    func(net.Conn) {},
		"reads to the end":  func(c net.Conn) { _, _ = io.Copy(io.Discard, c) },
		"is slow to answer": func(net.Conn) { <-time.After(5 * time.Millisecond) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 10, "")
			addr, got, most := original(t, d, after)
			c := start(t, []string{serveDrawing(t, d).URL}, []string{addr}, func(o *Options) { o.Bare, o.Name = true, "" })
			wait(t, "the head", func() bool { return len(got()) == 1 })
			d.line("a", 11, 60, "a10")
			wait(t, "all blocks", func() bool { return len(got()) == 51 })
			if want := names("a", 10, 60); !slices.Equal(got(), want) {
				t.Errorf("got %v", got())
			}
			wait(t, "count", func() bool { return c.Stats().Sent == 51 })
			if most.Load() != 1 || c.Stats().Waiting != 0 {
				t.Errorf("%d connections at once, %d waiting", most.Load(), c.Stats().Waiting)
			}
			if err := c.Ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBareSendsAgainAfterAReset(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	var resets atomic.Int64
	addr, got, _ := original(t, d, func(c net.Conn) {
		if resets.Add(1) == 1 {
			_ = c.(*net.TCPConn).SetLinger(0) // close becomes a reset
		}
	})
	c := start(t, []string{serveDrawing(t, d).URL}, []string{addr}, func(o *Options) { o.Bare = true })
	wait(t, "the block again", func() bool { return slices.Equal(got(), []string{"a3", "a3"}) })
	wait(t, "count", func() bool { return c.Stats().Sent == 1 && c.Stats().Waiting == 0 })
}

func TestBareEndDeliversWhatIsWaiting(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	hold := make(chan struct{})
	var once sync.Once
	addr, got, _ := original(t, d, func(net.Conn) { once.Do(func() { <-hold }) })
	c := start(t, []string{serveDrawing(t, d).URL}, []string{addr}, func(o *Options) { o.Bare = true })
	wait(t, "the first", func() bool { return len(got()) == 1 })
	d.line("a", 4, 9, "a3")
	wait(t, "all observed", func() bool { return c.Stats().Observed == 7 })
	c.stop()
	close(hold)
	<-c.done
	if want := names("a", 3, 9); !slices.Equal(got(), want) {
		t.Errorf("got %v, want %v", got(), want)
	}
}
