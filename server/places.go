package server

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// How places for large frames are shared out.
const (
	// sessionPlaces and strangerPlaces bound the large frames in memory at once, copies of them apart: 64 times MaxFrame
	// in all. Those who sent a HELLO that was accepted do not queue with those of whom nothing is known.
	sessionPlaces  = 48
	strangerPlaces = 16
	// shareOfPlaces is which part of them one address may hold.
	shareOfPlaces = 4
	// lapTime and lapBytes are the pace that is asked of a holder while others wait. Less could not complete the largest
	// frame within FrameTimeout anyway.
	lapTime  = time.Second
	lapBytes = 16 << 10
)

// places are rooms for large frames, shared by many connections. When all are taken, whoever wants one waits, however
// long; the next that is given back goes to the address that holds fewest, among equals to who has waited longest.
// So neither many connections nor slow ones keep the places from others: holders look at wanted, and one that makes no
// progress then gives its place up.
type places struct {
	share int // of one address, at most

	mu    sync.Mutex // guards what follows
	free  int
	held  map[netip.Addr]int
	queue []*turn // who waits, longest first; one for each connection at most
}

// turn is somebody's wait for a place.
type turn struct {
	from  netip.Addr
	given chan struct{} // closed when the place is theirs
}

func newPlaces(n int) *places {
	return &places{free: n, share: max(1, n/shareOfPlaces), held: map[netip.Addr]int{}}
}

// origin is whom a place is held against: an IPv4 address, or the network that one IPv6 host is given (RFC 6177).
func origin(a netip.Addr) netip.Addr {
	if a.Is4() || !a.IsValid() {
		return a
	}
	network, _ := a.Prefix(64) // fails for longer prefixes than the address only
	return network.Addr()
}

// take waits for a place. It returns false if halt is closed before there is one.
func (p *places) take(from netip.Addr, halt <-chan struct{}) bool {
	t := p.ask(from)
	select {
	case <-t.given:
		return true
	case <-halt:
		return !p.leave(t)
	}
}

func (p *places) ask(from netip.Addr) *turn {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := &turn{from: from, given: make(chan struct{})}
	p.queue = append(p.queue, t)
	p.serve()
	return t
}

// leave ends a wait; it returns false if there was none any more.
func (p *places) leave(t *turn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := slices.Index(p.queue, t)
	if i < 0 {
		return false
	}
	p.queue = slices.Delete(p.queue, i, i+1)
	return true
}

// give takes a place back from an address that holds one.
func (p *places) give(from netip.Addr) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free++
	if p.held[from]--; p.held[from] == 0 {
		delete(p.held, from)
	}
	p.serve()
}

// wanted tells whether somebody waits.
func (p *places) wanted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) > 0
}

// serve hands out what is free. The caller holds mu.
func (p *places) serve() {
	for p.free > 0 {
		i := p.next()
		if i < 0 {
			return
		}
		t := p.queue[i]
		p.queue = slices.Delete(p.queue, i, i+1)
		p.free--
		p.held[t.from]++
		close(t.given)
	}
}

// next finds whose turn it is, -1 if nobody waits who may have more. The caller holds mu.
func (p *places) next() int {
	best, least := -1, p.share
	for i, t := range p.queue {
		if held := p.held[t.from]; held < least {
			best, least = i, held
		}
	}
	return best
}
