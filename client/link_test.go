package client

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
)

// relay starts a client on a drawing whose head is a10, with as many servers as given.
func relay(t *testing.T, d *drawing, change func(*Options), servers ...*fakeServer) *running {
	t.Helper()
	var addresses []string
	for _, s := range servers {
		addresses = append(addresses, s.addr())
	}
	return start(t, []string{serveDrawing(t, d).URL}, addresses, change)
}

func TestOutcomesAreCounted(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.scripted(func(p *peer, frame []byte) bool {
		if frame[0] != wire.TypeData {
			return false
		}
		switch name := p.note(frame); name {
		case "a3": // settled together with the next one
		case "a4":
			p.ack(wire.FlagFirst, wire.FlagDuplicate)
		case "a7":
			p.refuse(wire.CodeHeader, "header does not hash")
		default:
			p.ack(wire.FlagFirst)
		}
		return true
	})
	c := relay(t, d, nil, s)
	wait(t, "all settled", func() bool { st := c.Stats(); return st.First+st.Duplicate+st.Refused["header"] == 10 })
	st := c.Stats()
	if st.First != 8 || st.Duplicate != 1 || st.Refused["header"] != 1 || st.Sent != 10 || st.Waiting != 0 || st.Observed != 10 {
		t.Errorf("%+v", st)
	}
	if len(st.DeadLetters) != 1 || st.DeadLetters[0].Block.Hash != d.hash("a7") || st.Degraded() == "" {
		t.Errorf("dead letters %+v", st.DeadLetters)
	}
	if !c.log.has("refused for good") {
		t.Error("not said in the log")
	}
}

func TestReconnectResendsUnackedInOrderAndNothingRefused(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.scripted(func(p *peer, frame []byte) bool {
		if p.index > 0 || frame[0] != wire.TypeData {
			return false
		}
		switch p.note(frame) {
		case "a1", "a2":
			p.ack(wire.FlagFirst)
		case "a3":
			p.refuse(wire.CodeData, "no")
		case "a7":
			p.drop(nil)
		}
		return true
	})
	c := relay(t, d, nil, s)
	wait(t, "all settled", func() bool { return c.Stats().First == 9 })
	got := s.blocks()
	again := got[len(got)-7:]
	if want := names("a", 4, 10); !slices.Equal(again, want) {
		t.Errorf("on the second connection %v, want %v", again, want)
	}
	if c.Stats().Connections != 2 {
		t.Errorf("%d connections", c.Stats().Connections)
	}
}

func TestWindowIsNeverExceeded(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		frames, bytes, want int
	}{
		"frames":                {5, 1 << 20, 5},
		"bytes":                 {1000, 4000, 2},
		"one is always allowed": {1000, 1, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 40, "")
			s := serveRelay(t, d)
			s.has(0, "a0")
			s.welcome.WindowFrames, s.welcome.WindowBytes = tc.frames, tc.bytes
			var flight, most atomic.Int64
			s.scripted(func(p *peer, frame []byte) bool {
				if frame[0] != wire.TypeData {
					return false
				}
				p.note(frame)
				most.Store(max(most.Load(), flight.Add(1)))
				if int(flight.Load()) == tc.want { // as many as may come came: let them go
					flags := slices.Repeat([]byte{wire.FlagFirst}, tc.want)
					flight.Store(0)
					p.ack(flags...)
				}
				return true
			})
			relay(t, d, nil, s)
			s.wants(names("a", 1, 40)...)
			if got := int(most.Load()); got > tc.want {
				t.Errorf("%d frames on their way, at most %d", got, tc.want)
			}
		})
	}
}

func TestServerWithoutRelayIsNamedClearly(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(net.Conn){
		"closes":      func(net.Conn) {},
		"speaks HTTP": func(c net.Conn) { _, _ = c.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 10, "")
			ln := listen(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 4096))
				answer(c)
			})
			c := start(t, []string{serveDrawing(t, d).URL}, []string{ln}, nil)
			wait(t, "clear error", func() bool { return strings.Contains(c.Stats().LastError, "does not speak relay mode, try --bare") })
			if c.Stats().Sent != 0 {
				t.Error("sent a block before W")
			}
		})
	}
}

// listen serves each connection with f and closes it.
func listen(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			f(c)
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return ln.Addr().String()
}

func TestStopEndsRunWithTheServersWords(t *testing.T) {
	t.Parallel()
	for _, when := range []byte{0, wire.TypeData} {
		t.Run(fmt.Sprint(when), func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 10, "")
			s := serveRelay(t, d)
			s.scripted(func(p *peer, frame []byte) bool {
				if when != 0 && frame[0] != when {
					return false
				}
				p.say(wire.AppendFatal(nil, wire.Fatal{Code: wire.CodeAuth, Text: "token revoked"}))
				return true
			})
			c := relay(t, d, nil, s)
			<-c.done
			var f *wire.Fatal
			if !errors.As(c.err, &f) || f.Code != wire.CodeAuth || !strings.Contains(c.err.Error(), "server says stop") ||
				!strings.Contains(c.err.Error(), "token revoked") {
				t.Errorf("Run: %v", c.err)
			}
		})
	}
}

func TestRetryBacksOffAndComesBack(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.scripted(func(p *peer, frame []byte) bool {
		if p.index >= 3 {
			return false
		}
		p.say(wire.AppendFatal(nil, wire.Fatal{Retry: true, Code: wire.CodeBusy, Text: "too many connections"}))
		return true
	})
	c := relay(t, d, nil, s)
	wait(t, "delivery in the end", func() bool { return c.Stats().First == 1 })
	if !c.log.has("too many connections") {
		t.Error("not said in the log")
	}
}

func TestDrainMovesOnWithoutLoss(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	old := serveRelay(t, d)
	old.has(0, "a0")
	drain := func(p *peer, frame []byte) bool {
		if p.index > 0 || frame[0] != wire.TypeData {
			return false
		}
		switch p.note(frame) {
		case "a1":
			p.say(wire.AppendDrain(nil, 15*time.Second))
		case "a10": // the rest is acked once there is another connection to go on with
			wait(t, "a second connection", func() bool { old.mu.Lock(); defer old.mu.Unlock(); return len(old.peers) == 2 })
			p.ack(slices.Repeat([]byte{wire.FlagFirst}, 10)...)
		}
		return true
	}
	old.scripted(drain)
	c := relay(t, d, nil, old)
	wait(t, "all acked", func() bool { return c.Stats().First == 10 })
	wait(t, "B on the old connection", func() bool { old.mu.Lock(); defer old.mu.Unlock(); return old.byes == 1 })
	d.line("a", 11, 12, "a10")
	old.wants(names("a", 1, 12)...)
	if c.Stats().Connections != 2 || c.Stats().Sent != 12 {
		t.Errorf("%+v", c.Stats())
	}
}

func TestDrainDeadlineResendsTheRestElsewhere(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 4, "")
	one, two := serveRelay(t, d), serveRelay(t, d)
	var drained atomic.Pointer[fakeServer]
	for _, s := range []*fakeServer{one, two} {
		s.has(0, "a0")
		s.scripted(func(p *peer, frame []byte) bool {
			if frame[0] != wire.TypeData || drained.Load() != nil && drained.Load() != s {
				return false
			}
			if p.note(frame); drained.CompareAndSwap(nil, s) { // ack one, hold the rest past the deadline
				p.ack(wire.FlagFirst)
				p.say(wire.AppendDrain(nil, 100*time.Millisecond))
			}
			return true
		})
	}
	c := relay(t, d, nil, one, two)
	wait(t, "all acked", func() bool { return c.Stats().First == 4 })
	other := one
	if drained.Load() == one {
		other = two
	}
	other.wants("a2", "a3", "a4")
}

func TestPingIsAnswered(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	pongs := make(chan struct{}, 1)
	s.scripted(func(p *peer, frame []byte) bool {
		switch frame[0] {
		case wire.TypeStatus:
			p.say(wire.AppendPing(nil))
			p.say([]byte("x later addition")) // skipped
		case wire.TypePong:
			signal(pongs)
		}
		return false
	})
	relay(t, d, nil, s)
	<-pongs
}

func TestServerThatBreaksTheProtocolIsLeft(t *testing.T) {
	t.Parallel()
	for name, words := range map[string][]byte{
		"acks what was not sent":    wire.AppendAck(nil, 5, []byte("fffff")),
		"refuses what was not sent": wire.AppendRefusal(nil, wire.Refusal{N: 9, Code: wire.CodeData, Text: "x"}),
		"speaks in tongues":         []byte("Z"),
		"drains without a time":     []byte("G"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 3, "")
			s := serveRelay(t, d)
			s.scripted(func(p *peer, frame []byte) bool {
				if p.index > 0 {
					return false
				}
				p.say(words)
				return true
			})
			c := relay(t, d, nil, s)
			wait(t, "delivery on the second connection", func() bool { return c.Stats().First == 1 })
		})
	}
}

func TestEndDeliversWhatIsWaiting(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.welcome.WindowFrames = 2
	seen, hold := make(chan struct{}, 1), make(chan struct{})
	s.scripted(func(p *peer, frame []byte) bool {
		if frame[0] == wire.TypeData {
			signal(seen)
			<-hold
		}
		return false
	})
	c := relay(t, d, nil, s)
	<-seen
	wait(t, "all observed", func() bool { return c.Stats().Observed == 10 })
	c.stop()
	close(hold)
	<-c.done
	s.wants(names("a", 1, 10)...)
	if st := c.Stats(); c.err != nil || st.Waiting != 0 || s.byes != 1 {
		t.Errorf("%v, %d waiting, %d times B", c.err, st.Waiting, s.byes)
	}
}

func TestEndGivesUpAfterTheDrainTime(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.scripted(func(_ *peer, frame []byte) bool { return frame[0] == wire.TypeData })
	c := relay(t, d, func(o *Options) { o.Drain = 50 * time.Millisecond }, s)
	wait(t, "block on its way", func() bool { return c.Stats().Sent == 1 })
	c.stop()
	<-c.done
	if c.Stats().Waiting != 1 || !c.log.has("not delivered") {
		t.Errorf("%d waiting", c.Stats().Waiting)
	}
}

func TestEndWithNoServerInReach(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	c := start(t, []string{serveDrawing(t, d).URL}, []string{"127.0.0.1:1"}, func(o *Options) { o.Drain = 50 * time.Millisecond })
	wait(t, "failure", func() bool { return c.Stats().LastError != "" })
	if err := c.Ready(t.Context()); err == nil {
		t.Error("ready without a head or a server")
	}
	c.stop()
	<-c.done
	if c.err != nil {
		t.Error(c.err)
	}
}

func TestBlocksAreDeliveredWhicheverServerIsUp(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	one, two := serveRelay(t, d), serveRelay(t, d)
	c := relay(t, d, nil, one, two)
	c.at(d, "a3")
	if one.connections() > 0 {
		one.stop()
	} else {
		two.stop()
	}
	d.line("a", 4, 6, "a3")
	c.at(d, "a6")
	got := append(one.blocks(), two.blocks()...)
	slices.Sort(got)
	if want := names("a", 3, 6); !slices.Equal(slices.Compact(got), want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFrameTooLargeForTheServerIsSetAside(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "").transact("a3", 50)
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.welcome.MaxFrame = 4000
	c := relay(t, d, nil, s)
	wait(t, "refusal", func() bool { return c.Stats().Refused["size"] == 1 })
	d.line("a", 4, 4, "a3")
	s.wants("a1", "a2", "a4")
	if l := c.Stats().DeadLetters; len(l) != 1 || l[0].Block.Number != 3 {
		t.Errorf("%+v", l)
	}
}
