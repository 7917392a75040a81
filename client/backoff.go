package client

import (
	"context"
	"time"
)

// backoff spaces attempts with full jitter: somewhere between nothing and a bound that doubles, so that ten thousand
// observers that lost the same server do not come back as one.
type backoff struct {
	first, most time.Duration
	rand        func() float64
	attempts    int
}

// next returns how long to wait before the next attempt.
func (b *backoff) next() time.Duration {
	bound := min(b.first<<min(b.attempts, 16), b.most)
	b.attempts++
	return time.Duration(b.rand() * float64(bound))
}

func (b *backoff) reset() { b.attempts = 0 }

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
