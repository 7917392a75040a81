package server

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/netstring"
)

// from is a connection whose other end has that address.
type from struct {
	net.Conn
	addr netip.Addr
}

func (f from) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(netip.AddrPortFrom(f.addr, 9)) }

// connectFrom is connect for a peer with an address.
func (p *pipes) connectFrom(t *testing.T, addr string) *peer {
	ours, theirs := net.Pipe()
	p.conns <- from{theirs, netip.MustParseAddr(addr)}
	return newPeer(t, ours)
}

// needsPlace is how much of a large frame makes it one, with room for what is read before it counts.
const needsPlace = largeFrame + 8<<10

// half is the first part of a large frame.
func half() []byte {
	whole := netstring.Append(nil, []byte(dataOf(observationAt(1), strings.Repeat("x", 2*largeFrame))))
	return whole[:needsPlace]
}

func (p *places) taken() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, held := range p.held {
		n += held
	}
	return n
}

// Three hundred connections have begun a large frame and say nothing more. How long does an honest one wait?
func TestHalfOpenFramesKeepNobodyFromAPlace(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		address func(i int) string
		greet   bool // the attackers send a HELLO
		taken   int  // places that they have then
		most    time.Duration
	}{
		{"one address", func(int) string { return "192.0.2.66" }, true, sessionPlaces / shareOfPlaces, 0},
		{"one IPv6 network", func(i int) string { return fmt.Sprintf("2001:db8:6::%x", i+1) }, true,
			sessionPlaces / shareOfPlaces, 0},
		{"an address each", func(i int) string { return fmt.Sprintf("192.0.%d.%d", 2+i/200, 1+i%200) }, true,
			sessionPlaces, (300/sessionPlaces + 1) * lapTime},
		{"strangers with an address each", func(i int) string { return fmt.Sprintf("192.0.%d.%d", 2+i/200, 1+i%200) }, false,
			strangerPlaces, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, ln := startPiped(t)
				var attack sync.WaitGroup
				for i := range 300 {
					p := ln.connectFrom(t, c.address(i))
					if c.greet {
						p.greet()
					}
					p.nc.SetDeadline(time.Time{})
					attack.Go(func() { p.nc.Write(half()) }) // ends with the connection
				}
				honest := ln.connectFrom(t, "198.51.100.1")
				honest.greet()
				synctest.Wait()
				if taken := r.srv.sessions.taken() + r.srv.strangers.taken(); taken != c.taken {
					t.Fatalf("%d places are taken, want %d", taken, c.taken)
				}
				began := time.Now()
				honest.send(dataOf(observationAt(2), strings.Repeat("x", 4*largeFrame)))
				for honest.next() == "P" {
				}
				if took := time.Since(began); took > c.most {
					t.Errorf("waited %v, at most %v expected", took, c.most)
				}
				attack.Wait()
			})
		})
	}
}

// While nobody waits, a holder may take its ten seconds as it likes.
func TestSlowHolderIsLeftAloneWhilePlacesAreFree(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, ln := startPiped(t)
		p := ln.connect(t)
		p.greet()
		frame := netstring.Append(nil, []byte(dataOf(observationAt(1), strings.Repeat("x", 4*largeFrame))))
		p.raw(string(frame[:len(frame)/2]))
		time.Sleep(9 * time.Second)
		p.raw(string(frame[len(frame)/2:]))
		p.want("A1 f")
	})
}

// A holder that drips is in the way like one that is silent; one at the asked pace is not.
func TestHolderMustKeepThePaceWhileOthersWait(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		bytes int // each lap
		want  string
	}{
		{"drips", lapBytes / 2, "Eretry timeout "},
		{"keeps the pace", 2 * lapBytes, "A1 f"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, ln := startPiped(t)
				r.srv.sessions = newPlaces(1)
				holder, waiter := ln.connectFrom(t, "192.0.2.1"), ln.connectFrom(t, "192.0.2.2")
				holder.greet()
				waiter.greet()
				frame := netstring.Append(nil, []byte(dataOf(observationAt(1), strings.Repeat("x", 4*largeFrame))))
				holder.raw(string(frame[:needsPlace]))
				synctest.Wait()
				var sending sync.WaitGroup
				sending.Go(func() { waiter.nc.Write(frame) })
				sending.Go(func() {
					for rest := frame[needsPlace:]; len(rest) > 0; time.Sleep(lapTime / 4) {
						n, err := holder.nc.Write(rest[:min(c.bytes/4, len(rest))])
						if err != nil {
							return
						}
						rest = rest[n:]
					}
				})
				holder.wantPrefix(c.want)
				waiter.wantPrefix("A1 ")
				holder.nc.Close()
				sending.Wait()
			})
		})
	}
}

func TestPlacesGoToWhoHoldsFewest(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
	p := newPlaces(8) // two for each address
	given := func(t *turn) bool {
		select {
		case <-t.given:
			return true
		default:
			return false
		}
	}
	a1, a2, a3 := p.ask(a), p.ask(a), p.ask(a)
	if !given(a1) || !given(a2) || given(a3) {
		t.Fatal("an address gets its share, and no more though places are free")
	}
	p.give(a)
	if !given(a3) {
		t.Fatal("the address that gave a place back may have another")
	}
	for range 4 {
		p.ask(netip.AddrFrom4([4]byte{203, 0, 113, 1}))
		p.ask(netip.AddrFrom4([4]byte{203, 0, 113, 2}))
		p.ask(netip.AddrFrom4([4]byte{203, 0, 113, 3}))
	}
	if p.free != 0 {
		t.Fatalf("%d places are free", p.free)
	}
	a4, b1, c1 := p.ask(a), p.ask(b), p.ask(c)
	p.give(a)
	if given(a4) || !given(b1) || given(c1) {
		t.Fatal("who holds none comes first, and of those who has waited longest")
	}
	if !p.leave(c1) || p.leave(b1) {
		t.Fatal("only who waits can leave")
	}
}

func TestTurnsThatEndLeaveNothingBehind(t *testing.T) {
	t.Parallel()
	p := newPlaces(1)
	addr := netip.MustParseAddr("192.0.2.1")
	if !p.take(addr, nil) {
		t.Fatal("a free place was not given")
	}
	over := make(chan struct{})
	close(over)
	if p.take(addr, over) {
		t.Fatal("a place was given twice")
	}
	p.give(addr)
	if p.free != 1 || len(p.held) != 0 || len(p.queue) != 0 || p.wanted() {
		t.Errorf("%d free, %v, %d wait", p.free, p.held, len(p.queue))
	}
}
