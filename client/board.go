package client

import (
	"slices"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// maxGaps bounds the gaps that are told to servers; beyond it the two oldest become one.
const maxGaps = 64

// board is what the follower writes and the link, Stats and Ready read: the state besides blocks.
type board struct {
	changed chan struct{} // one signal after the head or the gaps changed

	mu     sync.Mutex // guards the rest
	head   *schema.Head
	behind bool // head is far: blocks below it are still being fetched
	gaps   []schema.Gap
	halted string    // why the chain is not followed; empty: it is
	good   time.Time // when a node last answered well
	bad    string    // why one did not, since
	recent []schema.NodeEvent
	told   uint64 // transitions ever noted; recent holds the last of them
}

func newBoard(now time.Time) *board {
	return &board{changed: make(chan struct{}, 1), good: now}
}

// answered notes that a node gave its head.
func (b *board) answered(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.good, b.bad = now, ""
}

// failed notes that none did.
func (b *board) failed(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = why
}

// reached sets the head. Following it well ends a halt.
func (b *board) reached(h schema.Head) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.halted, b.behind = "", false
	if b.head == nil || b.head.Latest != h.Latest || !same(b.head.Safe, h.Safe) || !same(b.head.Finalized, h.Finalized) {
		signal(b.changed)
	}
	b.head = &h
}

// shows tells whether this head was reached already.
func (b *board) shows(h schema.Head) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.halted == "" && !b.behind && b.head != nil && b.head.Node == h.Node && b.head.Latest == h.Latest
}

// sighted sets the head of a chain that is still being caught up with.
func (b *board) sighted(h schema.Head) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.head == nil {
		signal(b.changed)
	} else {
		h.Safe, h.Finalized = b.head.Safe, b.head.Finalized
	}
	b.head, b.behind = &h, true
}

func same(a, b *schema.Point) bool {
	return a == b || a != nil && b != nil && *a == *b
}

// gap notes heights that will not be delivered.
func (b *board) gap(g schema.Gap) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.Contains(b.gaps, g) {
		return
	}
	if len(b.gaps) == maxGaps {
		b.gaps[1].From = min(b.gaps[0].From, b.gaps[1].From)
		b.gaps[1].To = max(b.gaps[0].To, b.gaps[1].To)
		b.gaps = b.gaps[1:]
	}
	b.gaps = append(b.gaps, g)
	signal(b.changed)
}

// halt notes that the chain cannot be followed.
func (b *board) halt(why string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.halted = why
}

// standing is a copy of what Ready and Stats ask for.
type standing struct {
	behind      bool
	halted, bad string
	good        time.Time
}

func (b *board) state() standing {
	b.mu.Lock()
	defer b.mu.Unlock()
	return standing{behind: b.behind, halted: b.halted, bad: b.bad, good: b.good}
}

// report returns what a status frame says, the nodes apart.
func (b *board) report() schema.Report {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := schema.Report{Gaps: slices.Clone(b.gaps)}
	if b.head != nil {
		r.Heads = []schema.Head{*b.head}
	}
	return r
}

// transitions notes what the pool has decided since it was asked last, and returns what comes after the first told, with
// how many there are now. A new connection begins at 0: what an earlier one lost on its way is repeated, and the server
// keeps each transition once. At most wire.MaxEvents are remembered, the oldest are forgotten first.
func (b *board) transitions(told uint64, latest []schema.NodeEvent) ([]schema.NodeEvent, uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.recent = append(b.recent, latest...)
	b.recent = slices.Delete(b.recent, 0, max(0, len(b.recent)-wire.MaxEvents))
	b.told += uint64(len(latest))
	untold := min(b.told-told, uint64(len(b.recent)))
	return slices.Clone(b.recent[uint64(len(b.recent))-untold:]), b.told
}
