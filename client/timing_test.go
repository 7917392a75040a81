package client

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// noNodes is a pool that has nothing to tell.
type noNodes struct{}

func (noNodes) Views() []schema.NodeView      { return nil }
func (noNodes) Events(int) []schema.NodeEvent { return nil }

// timed runs a link inside a bubble of fake time. serve plays the server on each connection, over an in-memory pipe.
type timed struct {
	*link
	cancel context.CancelFunc
	done   chan error
	peers  sync.WaitGroup
}

func runTimed(t *testing.T, serve func(c net.Conn)) *timed {
	t.Helper()
	log := logrus.New()
	log.SetOutput(t.Output())
	o := Options{Name: "watcher", Servers: []string{"server:1"}, Log: log, Rand: func() float64 { return 0.5 }}.withDefaults()
	now := time.Now()
	meet := newMeeting()
	meet.name(7)
	r := &timed{done: make(chan error, 1)}
	l := newLink(o, newMemoryBox(o), newBoard(now), newTally(now), meet, noNodes{})
	l.dial.lookup = func(context.Context, string) ([]string, error) { return []string{"10.0.0.1"}, nil }
	l.dial.connect = func(context.Context, string, string) (net.Conn, error) {
		if serve == nil {
			return nil, errors.New("refused")
		}
		ours, theirs := net.Pipe()
		r.peers.Go(func() { defer theirs.Close(); serve(theirs) })
		return ours, nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.link, r.cancel = l, cancel
	go func() { r.done <- l.run(ctx) }()
	return r
}

func (r *timed) end(t *testing.T) {
	t.Helper()
	r.cancel()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	r.peers.Wait()
}

// greet answers HELLO and returns the decoder for what follows.
func greet(c net.Conn) *netstring.Decoder {
	dec := netstring.NewDecoder(c, wire.MaxFrame)
	if _, err := dec.Next(); err != nil {
		return dec
	}
	w, err := wire.AppendWelcome(nil, wire.Welcome{Server: "fake", Session: "s", WindowFrames: wire.WindowFrames,
		WindowBytes: wire.WindowBytes, MaxFrame: wire.MaxFrame, PingMillis: 10_000, DeadMillis: 25_000,
		Chains: []schema.Position{}, Caps: []string{}})
	if err != nil {
		panic(err)
	}
	send(c, w)
	return dec
}

func send(c net.Conn, content []byte) { _, _ = c.Write(netstring.Append(nil, content)) }

// listenTo reads frames until the connection ends.
func listenTo(dec *netstring.Decoder, each func(frame []byte)) {
	for {
		frame, err := dec.Next()
		if err != nil {
			return
		}
		each(frame)
	}
}

func TestNoWelcomeInFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := runTimed(t, func(c net.Conn) { listenTo(netstring.NewDecoder(c, wire.MaxFrame), func([]byte) {}) })
		time.Sleep(wire.WelcomeTimeout - time.Millisecond)
		if why := l.tally.read().lastError; why != "" {
			t.Error("gave up too early:", why)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if why := l.tally.read().lastError; !strings.Contains(why, "try --bare") || !strings.Contains(why, "within 5s") {
			t.Errorf("%q", why)
		}
		l.end(t)
	})
}

func TestSilentServerIsDeadAfter25Seconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := runTimed(t, func(c net.Conn) { listenTo(greet(c), func([]byte) {}) })
		time.Sleep(wire.DeadAfter - time.Millisecond)
		if n := l.tally.read(); n.connected != "fake" {
			t.Error("not connected", n.lastError)
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if n := l.tally.read(); !strings.Contains(n.lastError, errSilent.Error()) {
			t.Errorf("%q", n.lastError)
		}
		time.Sleep(time.Second)
		if n := l.tally.read(); n.connects != 2 {
			t.Errorf("%d connections", n.connects)
		}
		l.end(t)
	})
}

func TestFrameThatNeverEndsIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := runTimed(t, func(c net.Conn) {
			dec := greet(c)
			go listenTo(dec, func([]byte) {})
			_, _ = c.Write([]byte("900:A"))
			for {
				time.Sleep(time.Second)
				if _, err := c.Write([]byte("1")); err != nil {
					return
				}
			}
		})
		time.Sleep(wire.FrameTimeout + 2*time.Second)
		if n := l.tally.read(); n.failures != 1 {
			t.Errorf("%d failures: %s", n.failures, n.lastError)
		}
		l.end(t)
	})
}

func TestPingsKeepAConnectionUntilItIsRecycled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var pongs, reports, byes atomic.Int64
		l := runTimed(t, func(c net.Conn) {
			dec := greet(c)
			stop := make(chan struct{})
			go func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(wire.PingAfter):
						send(c, wire.AppendPing(nil))
					}
				}
			}()
			defer close(stop)
			bye := false
			for !bye {
				frame, err := dec.Next()
				if err != nil {
					return
				}
				switch wire.Type(frame) {
				case wire.TypePong:
					pongs.Add(1)
				case wire.TypeStatus:
					reports.Add(1)
				case wire.TypeBye:
					byes.Add(1)
					bye = true
				}
			}
		})
		time.Sleep(29 * time.Minute)
		synctest.Wait()
		if n := l.tally.read(); n.connects != 1 || n.failures != 0 {
			t.Fatalf("%d connections, %s", n.connects, n.lastError)
		}
		if want := int64(29 * 6); pongs.Load() < want-1 || pongs.Load() > want {
			t.Errorf("%d pongs, want %d", pongs.Load(), want)
		}
		if want := int64(29 * 12); reports.Load() < want || reports.Load() > want+2 {
			t.Errorf("%d reports, want one each 5 s: %d", reports.Load(), want)
		}
		time.Sleep(2 * time.Minute) // recycled at 30 min, rand being 0.5
		synctest.Wait()
		if n := l.tally.read(); n.connects != 2 || n.failures != 0 || byes.Load() != 1 {
			t.Errorf("%d connections, %d times B, %s", n.connects, byes.Load(), n.lastError)
		}
		l.end(t)
	})
}

func TestServerThatDoesNotReadIsWaitedForWhileItPings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := runTimed(t, func(c net.Conn) {
			greet(c) // and read no more: its store stalls
			for {
				time.Sleep(wire.PingAfter)
				if _, err := c.Write(netstring.Append(nil, wire.AppendPing(nil))); err != nil {
					return
				}
			}
		})
		if _, err := l.box.(*memoryBox).Append([]entry{{frame: []byte("D"), point: schema.Point{Number: 1}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if n := l.tally.read(); n.connects != 1 || n.failures != 0 {
			t.Errorf("%d connections, %d failures: %s", n.connects, n.failures, n.lastError)
		}
		began := time.Now()
		l.cancel() // the writer is stuck; the end must not be
		l.done <- <-l.done
		if took := time.Since(began); took > l.o.Drain+2*farewell {
			t.Errorf("took %s", took)
		}
		l.end(t)
	})
}

func TestFailingServerIsTriedWithGrowingPauses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := runTimed(t, nil)
		book := &logbook{}
		l.o.Log.(*logrus.Logger).SetOutput(book)
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := l.tally.read().failures; n < 15 || n > 18 { // pauses of 0.125 s, doubled up to 5 s: half of each bound
			t.Errorf("%d attempts in a minute", n)
		}
		if n := strings.Count(book.String(), "connection lost or not made"); n != 1 {
			t.Errorf("%d lines about one outage", n)
		}
		l.end(t)
	})
}

func TestReadyNamesWhatStandsStill(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, err := New(Options{Name: "w", Nodes: []string{"http://127.0.0.1:1"}, Servers: []string{"s:1"}, Template: plain{}})
		if err != nil {
			t.Fatal(err)
		}
		want := func(text string) {
			t.Helper()
			err := c.Ready(t.Context())
			if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
				t.Errorf("%v, want %q", err, text)
			}
		}
		want("no head yet")
		time.Sleep(patient + time.Second)
		want("no server for 16s")
		c.tally.connectedTo("fake", time.Now())
		time.Sleep(time.Second)
		want("no node gave its head for 17s")
		c.board.answered(time.Now())
		c.board.reached(schema.Head{Chain: 7, Node: "n", Latest: schema.Point{Number: 1}})
		want("")
		if _, err := c.outbox().Append([]entry{{frame: []byte("x")}}); err != nil {
			t.Fatal(err)
		}
		want("")
		time.Sleep(patient + time.Second)
		c.board.answered(time.Now())
		want("no server settled the oldest of 1 blocks in 16s")
		c.outbox().Ack(1)
		want("")
		c.board.halt("too deep")
		want("chain is not followed: too deep")
	})
}
