package client

import (
	"errors"
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// errFull reports an outbox that takes no more for now. Nothing is lost by it: the chain keeps the block.
var errFull = errors.New("outbox is full")

// entry is one block ready to be sent.
type entry struct {
	seq   uint64 // set by the outbox, from 1, without gaps
	point schema.Point
	frame []byte // content for the wire: a D frame, or in bare mode the payload
	since time.Time
}

// outbox holds what the link has to deliver, in order. The one below lives in memory and is lost with the process,
// after which the server's position says where to go on; a spool on disk can take its place.
//
// One goroutine appends, another one reads and settles.
type outbox interface {
	// Append takes responsibility for e, for as long as the outbox lasts, or returns errFull.
	Append(e entry) error
	// After returns the oldest entry that is newer than seq.
	After(seq uint64) (entry, bool)
	// Ack forgets the entries up to seq: the server has them for good.
	Ack(seq uint64)
	// Fail puts the oldest entry aside for good: no server will take it.
	Fail(why string)
	// More receives after an Append. Room receives when a full outbox has become empty enough that it is worth reading
	// the chain again. Several events may give one signal.
	More() <-chan struct{}
	Room() <-chan struct{}
	// Free returns how many entries can be appended now, if they are not large; 0 when there is no room.
	Free() int
	// Depth returns how many entries and bytes wait, and since when the oldest does.
	Depth() (entries int, bytes int64, oldest time.Time)
}

// Letter is a block that no server will take, as kept for the operator.
type Letter struct {
	Block  schema.Point
	Reason string
	At     time.Time
}

// maxLetters bounds the dead letters kept in memory; beyond it the oldest is dropped, having been logged and counted.
const maxLetters = 64

// memoryBox is an outbox in memory, bounded in entries and bytes. One entry is taken whatever its size when it is empty.
type memoryBox struct {
	maxEntries int
	maxBytes   int64
	now        func() time.Time // monotonic
	more, room chan struct{}

	mu      sync.Mutex // guards the rest
	entries []entry    // oldest first
	bytes   int64
	last    uint64 // seq of the newest entry ever appended
	letters []Letter
	refused bool // an Append, and Room was not signalled since
}

func newMemoryBox(o Options) *memoryBox {
	return &memoryBox{maxEntries: o.OutboxEntries, maxBytes: o.OutboxBytes, now: time.Now,
		more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
}

// Append implements outbox.
func (b *memoryBox) Append(e entry) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.entries); n > 0 && (n >= b.maxEntries || b.bytes+int64(len(e.frame)) > b.maxBytes) {
		b.refused = true
		return errFull
	}
	b.last++
	e.seq, e.since = b.last, b.now()
	b.entries = append(b.entries, e)
	b.bytes += int64(len(e.frame))
	signal(b.more)
	return nil
}

// After implements outbox.
func (b *memoryBox) After(seq uint64) (entry, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.entries) == 0 || seq >= b.last {
		return entry{}, false
	}
	first := b.entries[0].seq
	if seq < first {
		return b.entries[0], true
	}
	return b.entries[seq-first+1], true
}

// Ack implements outbox.
func (b *memoryBox) Ack(seq uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.entries) > 0 && b.entries[0].seq <= seq {
		b.drop()
	}
	b.makeRoom()
}

// Fail implements outbox.
func (b *memoryBox) Fail(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.entries) == 0 {
		return
	}
	if len(b.letters) == maxLetters {
		b.letters = b.letters[1:]
	}
	b.letters = append(b.letters, Letter{Block: b.entries[0].point, Reason: why, At: b.now()})
	b.drop()
	b.makeRoom()
}

// makeRoom signals at three quarters: the follower reads again what was not taken, and should not do so for one place
// after the other. The caller holds mu.
func (b *memoryBox) makeRoom() {
	if b.refused && len(b.entries) <= b.maxEntries*3/4 && b.bytes <= b.maxBytes*3/4 {
		b.refused = false
		signal(b.room)
	}
}

// drop removes the oldest entry. The caller holds mu.
func (b *memoryBox) drop() {
	b.bytes -= int64(len(b.entries[0].frame))
	b.entries[0] = entry{} // its frame is garbage now, not when the slice is moved
	b.entries = b.entries[1:]
}

// More implements outbox.
func (b *memoryBox) More() <-chan struct{} { return b.more }

// Room implements outbox.
func (b *memoryBox) Room() <-chan struct{} { return b.room }

// Free implements outbox.
func (b *memoryBox) Free() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(b.maxEntries-len(b.entries), 0)
}

// Depth implements outbox.
func (b *memoryBox) Depth() (entries int, bytes int64, oldest time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.entries) > 0 {
		oldest = b.entries[0].since
	}
	return len(b.entries), b.bytes, oldest
}

// deadLetters returns a copy of what was put aside, oldest first.
func (b *memoryBox) deadLetters() []Letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Letter(nil), b.letters...)
}

// signal leaves one signal in c, if none is waiting there.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
