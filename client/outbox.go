package client

import (
	"errors"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// errFull reports an outbox that takes no more for now. Nothing is lost by it: the chain keeps the block.
var errFull = errors.New("outbox is full")

// entry is one finished block: ready to be sent, or left out.
type entry struct {
	seq   uint64 // set by the outbox, from 1, rising
	point schema.Point
	frame []byte      // content for the wire: a D frame, or in bare mode the payload; nil: left out
	gap   *schema.Gap // then, what to tell of it
	since time.Time   // when this process had it first, monotonic
}

// inbox is the follower's side of the outbox. One goroutine uses it.
type inbox interface {
	// Begin keeps where the follower begins, for as long as the outbox lasts. It ends a halt.
	Begin(b begun) error
	// Halt keeps that the chain is not followed any more, and the heights that are left out, for as long.
	Halt(g schema.Gap) error
	// Append takes responsibility for the entries, in order, for as long as the outbox lasts. It returns how many it
	// took, with errFull if not all.
	Append(entries []entry) (taken int, err error)
	// Free returns how many entries can be appended now, if they are not large; 0 when there is no room.
	Free() int
	// Room receives when a full outbox has become empty enough that it is worth reading the chain again. Several events
	// may give one signal.
	Room() <-chan struct{}
}

// outbox is the link's side: what is to be delivered, in order. One goroutine uses it.
type outbox interface {
	// After returns the oldest entry that is newer than seq.
	After(seq uint64) (entry, bool)
	// Ack forgets the entries up to seq: the server has them for good.
	Ack(seq uint64)
	// Fail puts the oldest entry aside for good: no server will take it.
	Fail(why string)
	// More receives after an Append. Several events may give one signal.
	More() <-chan struct{}
	// Depth returns how many entries and bytes wait, and since when the oldest does.
	Depth() (entries int, bytes int64, oldest time.Time)
}

// box is both, as the client holds it: in memory, where it is lost with the process and the server's position says
// where to go on, or a spool on disk.
type box interface {
	inbox
	outbox
	// Begun returns where an earlier process got to; ok is false if none did.
	Begun() (b begun, ok bool)
	// Letters returns what no server would take, oldest first, as far as it is kept.
	Letters() []Letter
	// Damaged is closed once what waits cannot be read any more: the box is to be replaced.
	Damaged() <-chan struct{}
	// Ready returns why nothing can be taken in although there is room.
	Ready() error
	Close() error
}

// begun is where a follower goes on.
type begun struct {
	chain    uint64
	floor    uint64         // heights below are not this observer's to deliver
	known    *schema.Point  // stored by others: what comes after it is to be delivered
	finished []schema.Point // oldest first; the last is the one to go on from
	gaps     []schema.Gap
	halted   *schema.Gap // why the chain is not followed; nil: it is
}

// Letter is a block that no server will take, as kept for the operator.
type Letter struct {
	Block  schema.Point
	Reason string
	At     time.Time
}

// signal leaves one signal in c, if none is waiting there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
