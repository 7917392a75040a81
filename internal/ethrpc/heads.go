package ethrpc

import (
	"context"
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// readTimeout bounds one look at the store on behalf of all who wait for it.
const readTimeout = 10 * time.Second

// heads looks where the chains stand for everybody who asks. Whoever asks gets what was read after they asked, so that
// nobody finds less here than they were told elsewhere; all who ask while one look is under way share the next, so that
// many ask the store no more than one after the other.
type heads struct {
	store Store

	mu      sync.Mutex // guards what follows
	current *look      // under way
	next    *look      // what those wait for who came during it
}

type look struct {
	done   chan struct{} // closed once what follows is set
	states []schema.ChainState
	err    error
}

func (h *heads) read(ctx context.Context) ([]schema.ChainState, error) {
	h.mu.Lock()
	if h.current == nil {
		l := &look{done: make(chan struct{})}
		h.current = l
		h.mu.Unlock()
		h.run(ctx, l)
		return l.states, l.err
	}
	before := h.current
	mine := h.next == nil
	if mine {
		h.next = &look{done: make(chan struct{})}
	}
	l := h.next
	h.mu.Unlock()
	if mine {
		<-before.done // which has an end of its own
		h.run(ctx, l)
		return l.states, l.err
	}
	select {
	case <-l.done:
		return l.states, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run reads for all who wait, whether or not the one who happens to do it goes away meanwhile.
func (h *heads) run(ctx context.Context, l *look) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
	defer cancel()
	h.mu.Lock()
	if h.next == l {
		h.current, h.next = l, nil
	}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.current == l {
			h.current = nil
		}
		close(l.done)
	}()
	l.states, l.err = h.store.Chains(ctx)
}
