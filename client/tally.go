package client

import (
	"maps"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
)

// tally counts what happened. Stats and the metrics read it.
type tally struct {
	mu sync.Mutex // guards the rest
	counts
}

// counts are totals since New.
type counts struct {
	from      uint64 // height at which this run went on
	observed  uint64 // blocks finished
	leftOut   uint64 // of these, blocks that could not be rendered or encoded
	last      uint64 // height of the block finished last
	reorgs    uint64
	deepest   uint64 // finished heights that one reorg replaced
	fulls     uint64 // times the outbox took no more
	unknown   map[string]uint64
	rawless   map[string]uint64
	sent      uint64 // frames, resent ones too
	first     uint64
	duplicate uint64
	refused   map[wire.Code]uint64
	connects  uint64
	failures  uint64 // connections that failed or were not made

	connected string // the server, empty: none
	since     time.Time
	lastError string
}

func newTally(now time.Time) *tally {
	return &tally{counts: counts{unknown: map[string]uint64{}, rawless: map[string]uint64{}, refused: map[wire.Code]uint64{}, since: now}}
}

// do changes the counts under the lock.
func (t *tally) do(change func(c *counts)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change(&t.counts)
}

// read returns a copy.
func (t *tally) read() counts {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts
	c.unknown, c.rawless, c.refused = maps.Clone(c.unknown), maps.Clone(c.rawless), maps.Clone(c.refused)
	return c
}

func (t *tally) begins(from uint64) { t.do(func(c *counts) { c.from = from }) }

func (t *tally) finished(number uint64, leftOut bool) {
	t.do(func(c *counts) {
		c.observed++
		c.last = number
		if leftOut {
			c.leftOut++
		}
	})
}

func (t *tally) reorg(depth uint64) {
	t.do(func(c *counts) { c.reorgs++; c.deepest = max(c.deepest, depth) })
}

func (t *tally) full() { t.do(func(c *counts) { c.fulls++ }) }

// receipts counts a block whose receipts stay unknown, for the reason given.
func (t *tally) receipts(unknown string) {
	if unknown != "" {
		t.do(func(c *counts) { c.unknown[unknown]++ })
	}
}

// raw counts a block that goes without raw JSON, or with less of it, for the reason given.
func (t *tally) raw(less string) {
	if less != "" {
		t.do(func(c *counts) { c.rawless[less]++ })
	}
}

func (t *tally) sentFrames(n int) { t.do(func(c *counts) { c.sent += uint64(n) }) }

func (t *tally) acked(first, duplicate uint64) {
	t.do(func(c *counts) { c.first += first; c.duplicate += duplicate })
}

func (t *tally) refusedOne(code wire.Code) {
	t.do(func(c *counts) {
		// The code is the server's word: a label of a metric, so only those of the protocol are told apart.
		switch code {
		case wire.CodeMeta, wire.CodeHeader, wire.CodeRaw, wire.CodeData, wire.CodeSize:
		default:
			code = "other"
		}
		c.refused[code]++
	})
}

func (t *tally) connectedTo(server string, now time.Time) {
	t.do(func(c *counts) { c.connects++; c.connected, c.since, c.lastError = server, now, "" })
}

// lost notes the end of a connection, or that none could be made. An empty why is an orderly end.
func (t *tally) lost(why string, now time.Time) {
	t.do(func(c *counts) {
		if c.connected != "" {
			c.connected, c.since = "", now
		}
		if why != "" {
			c.failures++
			c.lastError = why
		}
	})
}

// reaches notes that a server takes connections, for bare mode, where each frame has one.
func (t *tally) reaches(server string, now time.Time) {
	t.do(func(c *counts) {
		c.connects++
		if c.connected != server {
			c.connected, c.since = server, now
		}
	})
}
