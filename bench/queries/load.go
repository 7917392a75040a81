package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ask makes one request; pick is a number of its own for each, for random places.
type ask func(ctx context.Context, pick *rand.Rand) error

// contender is one way to ask.
type contender struct {
	name string
	ask  ask
	slow bool // so slow that it is only asked as fast as it goes
}

// result is one run.
type result struct {
	rate     float64 // answered a second
	p50, p99 time.Duration
}

// openLoop makes requests at a rate over connections. Each is due at its own time and as late as it is answered after
// that. Once the run has taken twice its time, what is still due is given up: the rate that is told is then below.
func openLoop(ctx context.Context, o options, a ask) (result, error) {
	total := int64(float64(o.rate) * o.duration.Seconds())
	begun := time.Now()
	var next atomic.Int64
	return spread(ctx, o.conns, func(ctx context.Context, pick *rand.Rand) (time.Duration, bool, error) {
		i := next.Add(1) - 1
		if i >= total || time.Since(begun) > 2*o.duration {
			return 0, false, nil
		}
		due := begun.Add(time.Duration(i) * time.Second / time.Duration(o.rate))
		if err := until(ctx, due); err != nil {
			return 0, false, err
		}
		err := a(ctx, pick)
		return time.Since(due), true, err
	})
}

// closedLoop makes requests as fast as connections are free.
func closedLoop(ctx context.Context, o options, a ask) (result, error) {
	begun := time.Now()
	return spread(ctx, o.conns, func(ctx context.Context, pick *rand.Rand) (time.Duration, bool, error) {
		start := time.Now()
		if start.Sub(begun) > o.duration {
			return 0, false, nil
		}
		err := a(ctx, pick)
		return time.Since(start), true, err
	})
}

// spread runs step on each connection until it says false, and sums up.
func spread(
	ctx context.Context, conns int, step func(context.Context, *rand.Rand) (time.Duration, bool, error),
) (result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		mu   sync.Mutex
		took []time.Duration
		work sync.WaitGroup
	)
	begun := time.Now()
	for i := range conns {
		work.Go(func() {
			pick := rand.New(rand.NewPCG(uint64(i), 1))
			var mine []time.Duration
			for {
				d, ok, err := step(ctx, pick)
				if err != nil {
					cancel(err)
				}
				if err != nil || !ok {
					break
				}
				mine = append(mine, d)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	work.Wait()
	if err := context.Cause(ctx); err != nil {
		return result{}, err
	}
	if len(took) == 0 {
		return result{}, fmt.Errorf("nothing was answered in time")
	}
	slices.Sort(took)
	return result{
		rate: float64(len(took)) / time.Since(begun).Seconds(), p50: took[len(took)/2], p99: took[len(took)*99/100],
	}, nil
}

func until(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
