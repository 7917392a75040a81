package client

import (
	"context"
	"sync"

	"github.com/firstseen/firstseen/schema"
)

// meeting is where follower and link tell each other what the other cannot start without: the link's HELLO names the
// chain, and the server's answer names the block from which the follower goes on.
type meeting struct {
	named    chan struct{} // closed once chain is set
	welcomed chan struct{} // closed once positions are set

	nameOnce, welcomeOnce sync.Once
	chain                 uint64
	positions             []schema.Position
}

func newMeeting() *meeting {
	return &meeting{named: make(chan struct{}), welcomed: make(chan struct{})}
}

// name is the follower's part. Only the first call counts.
func (m *meeting) name(chain uint64) {
	m.nameOnce.Do(func() { m.chain = chain; close(m.named) })
}

// welcome is the link's part. Only the first call counts: later on the follower knows better than the store.
func (m *meeting) welcome(positions []schema.Position) {
	m.welcomeOnce.Do(func() { m.positions = positions; close(m.welcomed) })
}

// chainID waits for the chain id.
func (m *meeting) chainID(ctx context.Context) (uint64, error) {
	select {
	case <-m.named:
		return m.chain, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// position returns the stored position of the chain, nil if the store has none; ok is false before the welcome.
func (m *meeting) position(chain uint64) (p *schema.Position, ok bool) {
	select {
	case <-m.welcomed:
	default:
		return nil, false
	}
	for _, p := range m.positions {
		if p.Chain == chain && !p.Hash.IsZero() {
			return &p, true
		}
	}
	return nil, true
}
