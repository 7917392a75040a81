package server

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
)

// hostile is every kind of frame that is refused at its first wrong byte, and what a relay client is told.
var hostile = []struct{ name, bytes, answer string }{
	{"leading zero", "03:abc,", "Estop protocol "},
	{"two zeros", "00:,", "Estop protocol "},
	{"no length", ":,", "Estop protocol "},
	{"minus", "-1:,", "Estop protocol "},
	{"plus", "+1:,", "Estop protocol "},
	{"space before", " 1:a,", "Estop protocol "},
	{"space behind", "1 :a,", "Estop protocol "},
	{"exponent", "1e3:", "Estop protocol "},
	{"hex", "0x3:", "Estop protocol "},
	{"no comma", "3:abcX", "Estop protocol "},
	{"full-width digits", "３:abc,", "Estop protocol "},
	{"length of 20 digits", "99999999999999999999", "Estop size "},
	{"2 GiB", "2147483648:", "Estop size "},
	{"one more than the maximum", strconv.Itoa(wire.MaxFrame + 1), "Estop size "},
	{"empty frame", "0:,", "Estop protocol "},
	{"HTTP", "GET / HTTP/1.1\r\n\r\n", "Estop protocol "},
	{"TLS", "\x16\x03\x01\x02\x00", "Estop protocol "},
	{"NUL", "\x00", "Estop protocol "},
	{"line feed", "\n", "Estop protocol "},
}

// The client sends the bad frame without anything behind it and does not close: the refusal may wait for nothing.
func TestHostileFramesEndTheConnectionAtTheFirstWrongByte(t *testing.T) {
	t.Parallel()
	for _, h := range hostile {
		t.Run("undecided/"+h.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			p := r.dial()
			p.raw(h.bytes)
			p.wantEnd() // and not a byte before
			checkRefused(t, r, 0)
		})
		t.Run("bare/"+h.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			p := r.dial()
			p.send("<p>1</p>")
			p.raw(h.bytes)
			p.wantEnd()
			checkRefused(t, r, 1)
		})
		t.Run("relay/"+h.name, func(t *testing.T) {
			t.Parallel()
			r := start(t)
			p := r.dial()
			p.greet()
			p.send(data(1))
			p.want("A1 f")
			p.raw(h.bytes)
			p.wantPrefix(h.answer)
			p.wantEnd()
			if h.name != "empty frame" { // which is whole, and refused for its type
				checkRefused(t, r, 1)
			}
		})
	}
}

func checkRefused(t *testing.T, r *rig, stored int) {
	t.Helper()
	if got := r.metric("refused_frames_total"); got != 1 {
		t.Errorf("%v refused frames counted, want 1", got)
	}
	if got := r.store.count(); got != stored {
		t.Errorf("%d offers, want %d", got, stored)
	}
}

func TestTenThousandEmptyFramesAreOneRefusal(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.raw(strings.Repeat("0:,", 10_000))
	p.finish()
	p.wantEnd()
	checkRefused(t, r, 0)
}

func TestLargestFrameIsStored(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.send(strings.Repeat("x", wire.MaxFrame))
	p.finish()
	p.wantEnd()
	if got := r.store.count(); got != 1 || len(r.store.all()[0].Payload) != wire.MaxFrame {
		t.Errorf("%d offers, want one of MaxFrame", got)
	}
}

// Not parallel: it measures what the whole process allocates.
func TestAnnouncedLengthsAllocateNothing(t *testing.T) {
	r := start(t)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		p := r.dial()
		p.raw("2147483648:")
		p.wantEnd()
		p.nc.Close()
		p = r.dial()
		p.raw(strconv.Itoa(wire.MaxFrame) + ":x") // allowed, and one byte of it
		p.nc.Close()
	}
	eventually(t, "all frames refused", func() bool { return r.metric("refused_frames_total") == 200 })
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 20<<20 {
		t.Errorf("%d MiB allocated for 200 announced lengths", got>>20)
	}
}

func TestFrameCutAtEveryByteStoresNothing(t *testing.T) {
	t.Parallel()
	r := start(t)
	frame := string(netstring.Append(nil, []byte("<p>12345</p>")))
	for cut := range len(frame) {
		p := r.dial()
		p.raw(frame[:cut])
		p.finish()
		p.wantEnd()
		p.nc.Close()
	}
	if r.store.count() != 0 {
		t.Fatalf("%d offers of partial frames", r.store.count())
	}
	d := string(netstring.Append(nil, []byte(data(1))))
	for cut := range len(d) {
		p := r.dial()
		p.greet()
		p.raw(d[:cut])
		p.finish()
		p.wantEnd()
		p.nc.Close()
	}
	if r.store.count() != 0 {
		t.Fatalf("%d offers of partial D frames", r.store.count())
	}
}

func TestFrameArrivesByteByByte(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	for _, b := range []byte(string(netstring.Append(nil, []byte(hello))) + string(netstring.Append(nil, []byte(data(1))))) {
		p.raw(string(b))
	}
	p.wantPrefix("W")
	p.want("A1 f")
}

func TestSlowFramesAreGivenUpAfterTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		for name, drip := range map[string]string{"length then silence": "100:", "one byte per 5 s": "100:aaaaaaaaaaaa"} {
			began := time.Now()
			p := ln.connect(t)
			var dripping sync.WaitGroup
			dripping.Go(func() {
				for _, b := range []byte(drip) {
					if _, err := p.nc.Write([]byte{b}); err != nil {
						return
					}
					if name == "one byte per 5 s" {
						time.Sleep(5 * time.Second)
					}
				}
			})
			for r.metric("refused_frames_total", "timeout") == 0 && time.Since(began) < time.Minute {
				time.Sleep(100 * time.Millisecond)
			}
			if took := time.Since(began); took < wire.FrameTimeout || took > wire.FrameTimeout+time.Second {
				t.Errorf("%s: refused after %v", name, took)
			}
			p.nc.Close()
			dripping.Wait()
			r.srv.metrics.refused.Reset()
		}
		if r.store.count() != 0 {
			t.Errorf("%d offers", r.store.count())
		}
	})
}

// A client of the original kind writes and never reads. That it sees no reset is the proof that it was not written to.
func TestBareClientThatNeverReadsLosesNothing(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	var all []byte
	for i := range 1000 {
		all = netstring.Append(all, []byte("<p>"+strconv.Itoa(i)+"</p>"))
	}
	p.raw(string(all))
	p.finish()
	eventually(t, "1,000 offers", func() bool { return r.store.count() == 1000 })
	p.wantEnd()
	seen := map[string]bool{}
	for _, o := range r.store.all() {
		seen[string(o.Payload)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different payloads, want 1,000", len(seen))
	}
}

// Behind a bad frame the client goes on sending megabytes. Everything before is stored, and no write of it fails.
func TestBareClientSeesNoResetBehindABadFrame(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.send("one", "two")
	p.raw("03:abc,")
	for range 200 {
		p.raw(strings.Repeat("x", 64<<10))
	}
	p.finish()
	p.wantEnd()
	if r.store.count() != 2 {
		t.Errorf("%d offers, want 2", r.store.count())
	}
}

func TestLingeringHasAnEnd(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, ln := startPiped(t)
		p := ln.connect(t)
		began := time.Now()
		p.raw("bad")
		for {
			if _, err := p.nc.Write([]byte("x")); err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(began); took < bareLingerTime || took > bareLingerTime+time.Second {
			t.Errorf("closed after %v, want %v", took, bareLingerTime)
		}
	})
}

func TestConnectionThatSaysNothingIsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.MaxConns = 1 })
		quiet := ln.connect(t)
		time.Sleep(time.Minute)
		crowd := ln.connect(t) // one too many: it is given less time
		began := time.Now()
		crowd.nc.SetReadDeadline(time.Time{})
		if _, err := crowd.nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != crowdedFirst {
			t.Errorf("crowd: %v after %v", err, time.Since(began))
		}
		if _, err := quiet.nc.Read(make([]byte, 1)); !errors.Is(err, io.EOF) || time.Since(began) != 4*time.Minute {
			t.Errorf("quiet: %v after %v", err, time.Since(began))
		}
		if got := r.metric("refused_frames_total"); got != 0 {
			t.Errorf("%v refused frames, want none", got)
		}
	})
}

func TestClientThatResetsIsForgotten(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, greet := range []bool{false, true} {
		p := r.dial()
		if greet {
			p.greet()
		} else {
			p.send("bare")
		}
		p.nc.(*net.TCPConn).SetLinger(0)
		p.nc.Close()
	}
	eventually(t, "no connections", func() bool { return r.metric("connections") == 0 })
}

func TestWrittenDataIsGivenUpWithThePeer(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux: TCP_USER_TIMEOUT")
	}
	r := start(t)
	p := r.dial()
	p.greet()
	r.srv.mu.Lock()
	defer r.srv.mu.Unlock()
	for c := range r.srv.conns {
		raw, err := c.nc.(syscall.Conn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		if err := raw.Control(func(fd uintptr) { got = userTimeoutOf(int(fd)) }); err != nil {
			t.Fatal(err)
		}
		if got != int(userTimeout.Milliseconds()) {
			t.Errorf("user timeout %d ms, want %v", got, userTimeout)
		}
	}
}
