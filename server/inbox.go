package server

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
)

// inbox reads a socket under the deadline that fits what is being waited for: the next frame's first byte, or the rest
// of a frame that has begun. Time counts only while Read is called and may read, so a server that does not read for a
// while blames nobody for it.
//
// A frame that turns out large waits for one of the server's few places for such, so that memory stays bounded whatever
// the number of connections.
type inbox struct {
	nc     net.Conn
	from   netip.Addr // see origin
	places *places    // for large frames; shared with others. Only the reading goroutine uses it, as what follows

	got     int     // bytes read since the frame began
	holding *places // where a place is held; nil: none is
	lap     lap     // of the holding
	woken   error   // how doze ended
	first   [1]byte // what it read,
	dozed   bool    // if it did

	mu    sync.Mutex    // guards what follows and orders SetReadDeadline calls
	frame bool          // one has begun and not ended
	since time.Time     // when it began or, between frames, when the one before ended
	idle  time.Duration // how long to wait for a frame's first byte; 0: for ever
	end   time.Time     // after this nothing is read; zero: no end
	halt  chan struct{} // closed when the end has come; nil while nobody needs it
	timer *time.Timer   // closes halt at the end; nil while there is none
}

// lap is a span of time in which the holder of a place is to make some progress if others want it.
type lap struct {
	end time.Time // zero: no place is held
	got int       // bytes of the frame when it began
}

// Read implements io.Reader. Between frames it gives up after quietAfter with os.ErrDeadlineExceeded, and may be called
// again unless expired.
func (in *inbox) Read(p []byte) (int, error) {
	if in.dozed {
		in.dozed = false
		return copy(p, in.first[:]), nil
	}
	if err := in.woken; err != nil {
		in.woken = nil
		return 0, err
	}
	if err := in.place(); err != nil {
		return 0, err
	}
	for {
		if in.inTheWay() {
			return 0, os.ErrDeadlineExceeded
		}
		frame, err := in.arm()
		if err != nil {
			return 0, err
		}
		n, err := in.nc.Read(p)
		in.got += n
		if n > 0 || !frame || !errors.Is(err, os.ErrDeadlineExceeded) || in.expired() {
			return n, err
		}
	}
}

// doze is a Read between frames for a goroutine that does nothing else: it waits for one byte, or an error, which the
// next Reads return. It calls nothing but the socket, so that a fresh goroutine's stack, of 2 KiB, need not grow.
func (in *inbox) doze() {
	n, err := in.nc.Read(in.first[:])
	in.dozed, in.woken = n > 0, err
}

// rest prepares for doze and gives back what it can do without. It returns false if the deadline in force has passed.
func (in *inbox) rest() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.late() || in.nc.SetReadDeadline(in.due()) != nil {
		return false
	}
	if in.timer == nil {
		in.halt = nil
	}
	return true
}

// place waits for a place if the frame has become large. The wait is not held against the client.
func (in *inbox) place() error {
	if in.holding != nil || in.got < largeFrame {
		return nil
	}
	began := time.Now()
	if !in.places.take(in.from, in.halted()) {
		return os.ErrDeadlineExceeded
	}
	in.holding = in.places
	in.lap = lap{time.Now().Add(lapTime), in.got}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.since = in.since.Add(time.Since(began))
	return nil
}

// inTheWay tells, once a lap, whether the client keeps a place from others without making use of it.
func (in *inbox) inTheWay() bool {
	now := time.Now()
	if in.holding == nil || now.Before(in.lap.end) {
		return false
	}
	if in.got-in.lap.got < lapBytes && in.holding.wanted() {
		return true
	}
	in.lap = lap{now.Add(lapTime), in.got}
	return false
}

// arm sets the deadline of the next read: the one in force, or an earlier look at how things stand. It tells whether a
// frame has begun.
func (in *inbox) arm() (frame bool, err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	look := in.lap.end
	if !in.frame {
		look = time.Now().Add(quietAfter)
	}
	return in.frame, in.nc.SetReadDeadline(earlier(in.due(), look))
}

// lift takes back a deadline that was set past the inbox.
func (in *inbox) lift() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.nc.SetReadDeadline(in.due())
}

// due is the deadline in force; zero: none. The caller holds mu.
func (in *inbox) due() (t time.Time) {
	switch {
	case in.frame:
		t = in.since.Add(wire.FrameTimeout)
	case in.idle > 0:
		t = in.since.Add(in.idle)
	}
	return earlier(t, in.end)
}

// late tells whether it has passed. The caller holds mu.
func (in *inbox) late() bool {
	due := in.due()
	return !due.IsZero() && !time.Now().Before(due)
}

// expired is late for those who do not hold mu.
func (in *inbox) expired() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.late()
}

// earlier returns the earlier of two deadlines, of which zero means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// patience sets how long to wait for a frame's first byte, from now on; 0 means for ever.
func (in *inbox) patience(d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.idle, in.since = d, time.Now()
}

// begin and between mark where frames begin and end.
func (in *inbox) begin() { in.mark(true) }

func (in *inbox) between() {
	in.vacate()
	in.mark(false)
}

func (in *inbox) mark(frame bool) {
	in.got = 0
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.frame != frame { // else it is the same wait, taken up again
		in.frame, in.since = frame, time.Now()
	}
}

// vacate gives the place back, if one is held.
func (in *inbox) vacate() {
	if in.holding != nil {
		in.holding.give(in.from)
		in.holding, in.lap = nil, lap{}
	}
}

// stop ends all reading at t, also a Read that waits now. It does not fail when the socket is closed already.
func (in *inbox) stop(t time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.end.IsZero() && !t.Before(in.end) {
		return
	}
	in.end = t
	in.nc.SetReadDeadline(in.due()) //nolint:errcheck // a closed socket has nothing to stop
	if in.timer == nil {
		in.timer = time.AfterFunc(time.Until(t), func() { close(in.halted()) })
		return
	}
	if in.timer.Stop() {
		in.timer.Reset(time.Until(t))
	}
}

// halted returns a channel that is closed when the end has come.
func (in *inbox) halted() chan struct{} {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.halt == nil {
		in.halt = make(chan struct{})
	}
	return in.halt
}

// release gives back what the inbox holds once nothing is read through it any more.
func (in *inbox) release() {
	in.between()
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.timer != nil {
		in.timer.Stop()
	}
}

// stopped tells whether reading has ended by stop.
func (in *inbox) stopped() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.end.IsZero() && !time.Now().Before(in.end)
}

// inFrame tells whether a frame has begun and not ended.
func (in *inbox) inFrame() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.frame
}

// reading is a context that ends when nothing more is read from a connection: whoever waits for room in the store with
// the connection's frame need wait no longer. One made by package context would outweigh the rest of an idle connection.
type reading struct{ halt <-chan struct{} }

// Deadline implements context.Context.
func (reading) Deadline() (t time.Time, ok bool) { return t, false }

// Done implements context.Context.
func (r reading) Done() <-chan struct{} { return r.halt }

// Err implements context.Context.
func (r reading) Err() error {
	select {
	case <-r.halt:
		return context.Canceled
	default:
		return nil
	}
}

// Value implements context.Context.
func (reading) Value(any) any { return nil }
