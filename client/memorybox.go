package client

import (
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// maxLetters bounds the dead letters kept in memory; beyond it the oldest is dropped, having been logged and counted.
const maxLetters = 64

// memoryBox is a box in memory, bounded in entries and bytes. One entry is taken whatever its size when it is empty.
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

// Begun implements box: nothing outlives the process.
func (b *memoryBox) Begun() (begun, bool) { return begun{}, false }

// Begin implements inbox.
func (b *memoryBox) Begin(begun) error { return nil }

// Halt implements inbox: it lasts as long as the process.
func (b *memoryBox) Halt(schema.Gap) error { return nil }

// Append implements inbox.
func (b *memoryBox) Append(entries []entry) (taken int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range entries {
		if e.frame != nil {
			if n := len(b.entries); n > 0 && (n >= b.maxEntries || b.bytes+int64(len(e.frame)) > b.maxBytes) {
				b.refused = true
				return taken, errFull
			}
			b.last++
			e.seq, e.since = b.last, b.now()
			b.entries = append(b.entries, e)
			b.bytes += int64(len(e.frame))
			signal(b.more)
		}
		taken++
	}
	return taken, nil
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

// Room implements inbox.
func (b *memoryBox) Room() <-chan struct{} { return b.room }

// Free implements inbox.
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

// Letters implements box.
func (b *memoryBox) Letters() []Letter {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Letter(nil), b.letters...)
}

// Ready implements box: memory does not fail.
func (b *memoryBox) Ready() error { return nil }

// Damaged implements box: never.
func (b *memoryBox) Damaged() <-chan struct{} { return nil }

// Close implements box.
func (b *memoryBox) Close() error { return nil }
