package server

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
)

func TestPingAfterTenSecondsWithoutAWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, ln := startPiped(t)
		p := ln.connect(t)
		p.greet()
		began := time.Now()
		for i := 1; i <= 10; i++ {
			p.want("P")
			if took := time.Since(began); took != time.Duration(i)*wire.PingAfter {
				t.Fatalf("ping %d after %v", i, took)
			}
			p.send("O")
		}
		time.Sleep(7 * time.Second)
		p.send(data(1))
		p.want("A1 f") // a write, which puts the ping off
		acked := time.Now()
		p.want("P")
		if took := time.Since(acked); took != wire.PingAfter {
			t.Errorf("ping %v after an ack", took)
		}
	})
}

func TestSilentClientIsGivenUpAfterTwentyFiveSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		p := ln.connect(t)
		p.greet()
		began := time.Now()
		p.want("P")
		p.want("P")
		p.wantPrefix("Eretry timeout ")
		if took := time.Since(began); took != wire.DeadAfter {
			t.Errorf("given up after %v", took)
		}
		p.nc.Close()
		synctest.Wait()
		if got := r.metric("connections"); got != 0 {
			t.Errorf("%v connections", got)
		}
	})
}

// While the store is full the server does not read, so it cannot hear pongs: it still pings, and blames nobody.
func TestPausedReadingPingsAndBlamesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		r.store.full = make(chan struct{})
		p := ln.connect(t)
		p.greet()
		p.send(data(1))
		for range 30 {
			p.want("P") // five minutes
		}
		r.store.mu.Lock()
		close(r.store.full)
		r.store.full = nil
		r.store.mu.Unlock()
		p.want("A1 f")
		p.send("O", data(2))
		p.want("A2 f")
	})
}

func TestFullStoreStopsTheReading(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		r.store.full = make(chan struct{})
		p := ln.connect(t)
		p.send("one")
		synctest.Wait()
		p.nc.SetWriteDeadline(time.Now().Add(time.Hour))
		if n, err := p.nc.Write([]byte("3:two,")); err == nil {
			t.Errorf("%d bytes were read while the store was full", n)
		}
		if r.metric("inflight_bytes") != 3 {
			t.Errorf("%v bytes in flight, want 3", r.metric("inflight_bytes"))
		}
		close(r.store.full)
	})
}

// With every place for large frames taken, another one waits, however long, and small ones pass.
func TestLargeFramesWaitForAPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		r.srv.sessions = newPlaces(1)
		r.store.full = make(chan struct{})
		large := dataOf(observationAt(1), strings.Repeat("x", 2*largeFrame))
		first, second, small := ln.connect(t), ln.connect(t), ln.connect(t)
		for _, p := range []*peer{first, second, small} {
			p.greet()
		}
		first.send(large)
		synctest.Wait()
		var sending sync.WaitGroup
		sending.Go(func() { second.send(large) }) // gives up after 20 s, unless it is read
		small.send(data(2))
		synctest.Wait()
		if got := r.metric("frames_total", "data"); got != 2 {
			t.Fatalf("%v frames read, want the first and the small one", got)
		}
		time.Sleep(15 * time.Second) // longer than a frame may take
		close(r.store.full)
		for _, p := range []*peer{first, small, second} {
			for p.next() == "P" {
			}
		}
		sending.Wait()
		synctest.Wait()
		r.srv.sessions.mu.Lock()
		defer r.srv.sessions.mu.Unlock()
		if got := r.metric("settlements_total"); got != 3 || r.srv.sessions.free != 1 {
			t.Errorf("%v settled, %d places free; want 3 and 1", got, r.srv.sessions.free)
		}
	})
}

func TestWaitForAPlaceEndsWithTheDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.Drain, o.BareDrain = 5*time.Second, 5*time.Second })
		r.srv.strangers = newPlaces(0) // nobody ever gets one
		p := ln.connect(t)
		go p.nc.Write(netstring.Append(nil, make([]byte, 2*largeFrame)))
		synctest.Wait()
		began := time.Now()
		r.stop()
		<-r.ended
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("Run returned after %v", took)
		}
	})
}

// A client that does not read is cut off when a write has taken too long, and its settlements hold up nobody.
func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		deaf, other := ln.connect(t), ln.connect(t)
		deaf.greet()
		other.greet()
		deaf.send(data(1), data(2))
		other.send(data(3))
		other.want("A1 f")
		began := time.Now()
		for r.metric("mode_connections", "relay") == 2 && time.Since(began) < time.Minute {
			time.Sleep(time.Second)
		}
		if took := time.Since(began); took > writeTimeout+time.Second {
			t.Errorf("cut off after %v", took)
		}
	})
}

func TestBareConnectionMayBeSilent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		p := ln.connect(t)
		p.send("one")
		time.Sleep(24 * time.Hour)
		p.send("two")
		synctest.Wait()
		if r.store.count() != 2 {
			t.Errorf("%d offers, want 2", r.store.count())
		}
	})
}

func TestPrintedLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	p := &printer{w: &out}
	for _, c := range []struct{ from, payload, want string }{
		{"127.0.0.1:5", "<html>\n    <p>1</p>\n</html>", `DATA - 127.0.0.1:5 - <html>\n    <p>1</p>\n</html>`},
		{"[::1]:5", "Größe 世界 😀", `DATA - [::1]:5 - Größe 世界 😀`},
		{"[::1]:5", "\x1b[2J\r\x00\xff\u202e", `DATA - [::1]:5 - \x1b[2J\r\x00\xff\u202e`},
		{"[::1]:5", "", "DATA - [::1]:5 - "},
	} {
		out.Reset()
		p.line(addrPort(tcpAddr(c.from)), []byte(c.payload))
		if got := out.String(); got != c.want+"\n" {
			t.Errorf("printed %q, want %q", got, c.want)
		}
	}
}

func TestEveryPayloadIsPrintedAndNothingElse(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	r := start(t, func(o *Options) { o.Print = &out })
	bare, relay := r.dial(), r.dial()
	bare.send("bare\npayload")
	bare.finish()
	bare.wantEnd()
	relay.greet()
	relay.send(data(1), forged(2), "S{}", "B")
	relay.wantAcks(1)
	relay.wantPrefix("N2 ")
	relay.wantEnd()
	want := "DATA - " + bare.nc.LocalAddr().String() + ` - bare\npayload` + "\n" +
		"DATA - " + relay.nc.LocalAddr().String() + " - payload\n"
	if got := out.String(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// brokenWriter fails after its first write.
type brokenWriter struct{ writes int }

func (w *brokenWriter) Write(p []byte) (int, error) {
	w.writes++
	if w.writes > 1 {
		return 0, errFake
	}
	return len(p), nil
}

func TestPrinterThatFailsIsNotUsedAgain(t *testing.T) {
	t.Parallel()
	w := &brokenWriter{}
	r := start(t, func(o *Options) { o.Print = w })
	p := r.dial()
	p.greet()
	p.send(data(1), data(2), data(3))
	p.wantAcks(3)
	if w.writes != 2 {
		t.Errorf("%d writes, want 2", w.writes)
	}
}
