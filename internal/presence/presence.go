// Package presence tells how many connections are open over all servers, and says "unknown" when it cannot know.
//
// Every server publishes a beat on a board that all processes share: memory when there is one process, Redis when
// there are several. A reader counts a server as long as its beats go on, by the reader's own monotonic clock: neither
// the servers' clocks nor Redis's, whose expiry follows the wall clock, decide who is alive.
package presence

import (
	"context"
	"time"
)

// The rhythm of presence. A server is dead after three beats without a change, so a key must live at least as long.
const (
	DefaultBeat = 5 * time.Second
	DefaultTTL  = 15 * time.Second
	deadBeats   = 3
)

// Beat is what one server says of itself.
type Beat struct {
	Server  string `json:"server"`            // its name, one per process
	Boot    string `json:"boot"`              // a new one for each start, since Seq starts again from 1
	Seq     uint64 `json:"seq"`               // grows with every beat
	Count   int    `json:"count"`             // its open connections
	Address string `json:"address,omitempty"` // where it listens
	Ask     string `json:"ask,omitempty"`     // host:port where it answers with its Census
	Left    bool   `json:"left,omitempty"`    // its last beat: an orderly end, to be forgotten at once
}

// Board is where beats are posted and read: a Memory or a Redis.
type Board interface {
	// post replaces the server's beat. The board may drop it after ttl; a beat that says Left goes the same way, so
	// that readers can tell an orderly end from a lost key.
	post(ctx context.Context, b Beat, ttl time.Duration) error
	// read returns every beat of the index and of the servers named in also.
	read(ctx context.Context, also []string) (reading, error)
}

// reading is a board's content at one moment. Epoch changes when the board lost its memory.
type reading struct {
	epoch string
	beats []Beat
}
