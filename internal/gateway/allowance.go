package gateway

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// freeAnswer is how much of nodes' answers any request may hold in memory, in bytes. What needs more waits for one of
// the places for large answers, so that memory is bounded whatever the number of connections.
const freeAnswer = 1 << 20

var errTooLarge = errors.New("answer too large")

// allowance counts the bytes of answers that one HTTP or WebSocket request holds. Its calls and their attempts share
// it: what is kept for the reply may come to max, and twice that may be in memory while some of it is still being read.
type allowance struct {
	places chan struct{} // of the gateway: one element for each request with a large answer
	max    int64
	held   atomic.Int64 // in memory
	kept   atomic.Int64 // of that, whole answers

	mu    sync.Mutex // guards place
	place bool       // taken
}

// take allows n more bytes to an attempt that has own already, waiting for a place when the request grows large;
// errTooLarge when it is too large.
func (a *allowance) take(ctx context.Context, own, n int64) error {
	if a.kept.Load()+own+n > a.max {
		return errTooLarge
	}
	held := a.held.Add(n)
	if held > 2*a.max {
		a.held.Add(-n)
		return errTooLarge
	}
	if held <= freeAnswer {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.place {
		return nil
	}
	select {
	case a.places <- struct{}{}:
		a.place = true
		return nil
	case <-ctx.Done():
		a.held.Add(-n)
		return ctx.Err()
	}
}

// keep counts n bytes that an attempt has taken as an answer's.
func (a *allowance) keep(n int64) error {
	if a.kept.Add(n) > a.max {
		a.kept.Add(-n)
		return errTooLarge
	}
	return nil
}

// give takes back what an attempt took and has no more use for.
func (a *allowance) give(n int64) { a.held.Add(-n) }

// release ends the request: nothing it read is used any more.
func (a *allowance) release() {
	if a.place {
		<-a.places
	}
}
