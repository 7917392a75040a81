package server

import (
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
	from   netip.Addr    // see origin
	places *places       // for large frames; shared with others. Only the reading goroutine uses it, as what follows
	halt   chan struct{} // closed when the end has come

	got     int     // bytes read since the frame began
	holding *places // where a place is held; nil: none is
	lap     lap     // of the holding

	mu    sync.Mutex    // guards what follows and orders SetReadDeadline calls
	idle  time.Duration // how long to wait for a frame's first byte; 0: for ever
	begun time.Time     // when the current frame began; zero between frames
	end   time.Time     // after this nothing is read; zero: no end
	due   time.Time     // the deadline in force; zero: none
	timer *time.Timer   // closes halt at the end; nil while there is none
}

// lap is a span of time in which the holder of a place is to make some progress if others want it.
type lap struct {
	end time.Time // zero: no place is held
	got int       // bytes of the frame when it began
}

// Read implements io.Reader.
func (in *inbox) Read(p []byte) (int, error) {
	if err := in.place(); err != nil {
		return 0, err
	}
	for {
		if in.inTheWay() {
			return 0, os.ErrDeadlineExceeded
		}
		if err := in.arm(); err != nil {
			return 0, err
		}
		n, err := in.nc.Read(p)
		in.got += n
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || in.expired() {
			return n, err
		}
	}
}

// place waits for a place if the frame has become large. The wait is not held against the client.
func (in *inbox) place() error {
	if in.holding != nil || in.got < largeFrame {
		return nil
	}
	began := time.Now()
	if !in.places.take(in.from, in.halt) {
		return os.ErrDeadlineExceeded
	}
	in.holding = in.places
	in.lap = lap{time.Now().Add(lapTime), in.got}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.begun = in.begun.Add(time.Since(began))
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

// arm sets the deadline of the next read: the one in force, or the end of the lap.
func (in *inbox) arm() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.due = time.Time{}
	switch {
	case !in.begun.IsZero():
		in.due = in.begun.Add(wire.FrameTimeout)
	case in.idle > 0:
		in.due = time.Now().Add(in.idle)
	}
	in.due = earlier(in.due, in.end)
	return in.nc.SetReadDeadline(earlier(in.due, in.lap.end))
}

// expired tells whether a read that timed out did so at the deadline in force, and not only at the end of a lap.
func (in *inbox) expired() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.lap.end.IsZero() || !in.due.IsZero() && !time.Now().Before(in.due)
}

// earlier returns the earlier of two deadlines, of which zero means none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// patience sets how long to wait for a frame's first byte; 0 means for ever.
func (in *inbox) patience(d time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.idle = d
}

// begin and between mark where frames begin and end.
func (in *inbox) begin() { in.mark(time.Now()) }

func (in *inbox) between() {
	in.vacate()
	in.mark(time.Time{})
}

// vacate gives the place back, if one is held.
func (in *inbox) vacate() {
	if in.holding != nil {
		in.holding.give(in.from)
		in.holding, in.lap = nil, lap{}
	}
}

func (in *inbox) mark(t time.Time) {
	in.got = 0
	in.mu.Lock()
	defer in.mu.Unlock()
	in.begun = t
}

// stop ends all reading at t, also a Read that waits now. It does not fail when the socket is closed already.
func (in *inbox) stop(t time.Time) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.end.IsZero() && !t.Before(in.end) {
		return
	}
	in.end = t
	in.due = earlier(in.due, in.end)
	in.nc.SetReadDeadline(in.due) //nolint:errcheck // a closed socket has nothing to stop
	if in.timer == nil {
		in.timer = time.AfterFunc(time.Until(t), func() { close(in.halt) })
		return
	}
	if in.timer.Stop() {
		in.timer.Reset(time.Until(t))
	}
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
	return !in.begun.IsZero()
}
