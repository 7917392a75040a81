package server

import (
	"net"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// outbox writes to one relay client. Whoever has something to say notes it here; a writer goroutine exists only while
// there is something to write, and each of its writes takes everything noted until then. So the settlements of one
// commit leave in one write, and an idle connection has no writer.
//
// It holds at most the open frames of the ledger and one W, P and G each; while the client does not read, nothing more
// is noted, because the window is full.
type outbox struct {
	nc   net.Conn
	stop func() // ends the reading of the connection; called when a write failed or the store stopped

	mu      sync.Mutex // guards what follows
	ledger  ledger
	control []byte // frames other than A and N, encoded
	ping    *time.Timer
	idle    chan struct{} // made by close while a writer runs, closed by the writer
	empty   chan struct{} // made by settled, closed when there is nothing more to wait for
	writing bool          // a writer goroutine runs
	closed  bool          // no new writer is started
	dead    bool          // a write failed: the client can be told nothing more
	lost    *wire.Fatal   // why some frame will never be settled; nil while all can be
	end     time.Time     // of draining; zero while not draining
}

// room is what a writer builds frames in; writers of all connections share a pool of them.
type room struct{ frames, scratch []byte }

var rooms = sync.Pool{New: func() any { return new(room) }}

// keepRoom is the largest buffer that goes back to the pool.
const keepRoom = 64 << 10

// start notes the W and begins to ping whenever nothing else is written.
func (o *outbox) start(welcome []byte) {
	o.mu.Lock()
	o.ping = time.AfterFunc(wire.PingAfter, func() { o.say(wire.AppendPing(nil)) })
	o.mu.Unlock()
	o.say(welcome)
}

// say notes a control frame.
func (o *outbox) say(content []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.control = netstring.Append(o.control, content)
	o.kick()
}

// drain tells the client to leave.
func (o *outbox) drain(within time.Duration, end time.Time) {
	o.mu.Lock()
	o.end = end
	o.mu.Unlock()
	o.say(wire.AppendDrain(nil, within))
}

// kick starts a writer unless one runs. The caller holds mu.
func (o *outbox) kick() {
	if o.writing || o.closed {
		return
	}
	o.writing = true
	go o.write()
}

// write writes until nothing is left. close waits for it.
func (o *outbox) write() {
	r := rooms.Get().(*room) //nolint:forcetypeassert // the pool holds nothing else
	for o.collect(r) {
		if err := o.put(r.frames); err != nil {
			o.fail()
		}
	}
	if cap(r.frames) <= keepRoom {
		rooms.Put(r)
	}
}

// put writes one batch within writeTimeout.
func (o *outbox) put(frames []byte) error {
	if err := o.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := o.nc.Write(frames)
	return err
}

// collect gathers what there is to write, the first time and after each write. When there is nothing, the writer has
// ended.
func (o *outbox) collect(r *room) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	r.frames = r.frames[:0]
	if !o.dead {
		r.frames = o.take(r.frames, &r.scratch)
	}
	if len(r.frames) > 0 {
		return true
	}
	o.writing = false
	if o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
	return false
}

// take appends all that is noted. The caller holds mu.
func (o *outbox) take(dst []byte, scratch *[]byte) []byte {
	dst = append(dst, o.control...)
	o.control = nil
	dst, *scratch = o.ledger.take(dst, *scratch)
	if len(dst) > 0 && o.ping != nil && !o.closed {
		o.ping.Reset(wire.PingAfter)
	}
	return dst
}

// fail notes that the client can be told nothing more.
func (o *outbox) fail() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dead = true
	o.wake()
	o.stop()
}

// admit opens the ledger's next frame, if the window has room for it.
func (o *outbox) admit(size int) (n uint64, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ledger.admits(size) {
		return 0, false
	}
	return o.ledger.add(size), true
}

// settle notes how frame n ended; refusal is needed when it was refused.
func (o *outbox) settle(n uint64, outcome schema.Outcome, refusal *wire.Refusal) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return // too late to tell; the client will send it again, elsewhere
	}
	o.ledger.settle(n, outcome, refusal)
	o.kick()
	if o.ledger.due == 0 {
		o.wake()
	}
}

// rest gives back what the ledger keeps ready for the next burst.
func (o *outbox) rest() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ledger.rest()
}

// lose notes that some frame will never be settled. It stays open, and so do those behind it. It returns false if that
// is known already.
func (o *outbox) lose() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.lost != nil {
		return false
	}
	o.lost = &wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "the store stopped before it had settled everything"}
	o.wake()
	o.stop()
	return true
}

// wake lets settled return. The caller holds mu.
func (o *outbox) wake() {
	if o.empty != nil {
		close(o.empty)
		o.empty = nil
	}
}

// settled waits until every frame is settled, or one is lost, or the client can be told nothing more; but no longer
// than limit, nor beyond the end of draining. It returns why the connection cannot end in order, nil if it can.
func (o *outbox) settled(limit time.Duration) *wire.Fatal {
	if wait := o.unsettled(&limit); wait != nil {
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case <-wait:
		case <-timer.C:
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.empty = nil
	if o.lost == nil && o.ledger.due > 0 {
		return &wire.Fatal{Retry: true, Code: wire.CodeStore, Text: "the store did not settle everything in time"}
	}
	return o.lost
}

// unsettled returns a channel to wait on, nil if there is nothing to wait for, and shortens limit to the end of
// draining.
func (o *outbox) unsettled(limit *time.Duration) <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.ledger.due == 0 || o.dead || o.lost != nil {
		return nil
	}
	if !o.end.IsZero() {
		*limit = min(*limit, time.Until(o.end))
	}
	o.empty = make(chan struct{})
	return o.empty
}

// overdue returns the frame for a client that is still there at the end of draining; nil if it was stopped for another
// reason, which settled knows.
func (o *outbox) overdue() *wire.Fatal {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.end.IsZero() || time.Now().Before(o.end) {
		return nil
	}
	return &wire.Fatal{Retry: true, Code: wire.CodeBusy, Text: "shutting down"}
}

// close lets the writer end, and then writes what is settled by now and, if there is one, the fatal frame. It returns
// false if the client could not be told.
func (o *outbox) close(fatal *wire.Fatal) bool {
	if idle := o.shut(); idle != nil {
		<-idle // at most writeTimeout, see put
	}
	last, ok := o.last(fatal)
	return ok && (len(last) == 0 || o.put(last) == nil)
}

// shut forbids new writers and returns a channel that is closed when the last one has ended, nil if none runs.
func (o *outbox) shut() <-chan struct{} {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.ping != nil {
		o.ping.Stop()
	}
	if o.writing {
		o.idle = make(chan struct{})
	}
	return o.idle
}

func (o *outbox) last(fatal *wire.Fatal) (frames []byte, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.dead {
		return nil, false
	}
	frames = o.take(nil, new([]byte))
	if fatal != nil {
		frames = netstring.Append(frames, wire.AppendFatal(nil, *fatal))
	}
	return frames, true
}
