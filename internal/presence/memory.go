package presence

import (
	"context"
	"sync"
	"time"
)

// Memory is the board of a single process. Its zero value is empty and ready.
type Memory struct {
	mu    sync.Mutex // guards beats
	beats map[string]Beat
}

// NewMemory returns an empty board.
func NewMemory() *Memory { return &Memory{} }

// post needs no expiry: the readers' own clocks notice a server that stops, and names are as few as the process's
// servers.
func (m *Memory) post(_ context.Context, b Beat, _ time.Duration) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.beats == nil {
		m.beats = make(map[string]Beat)
	}
	m.beats[b.Server] = b
	return nil
}

func (m *Memory) read(context.Context, []string) (reading, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r := reading{epoch: "memory", beats: make([]Beat, 0, len(m.beats))}
	for _, b := range m.beats {
		r.beats = append(r.beats, b)
	}
	return r, nil
}
