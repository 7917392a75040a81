package main

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// producers offer to the store without a server in between, from goroutines of this process.
func producers(n int) func(context.Context, string, []block) (result, error) {
	return func(ctx context.Context, dsn string, blocks []block) (result, error) {
		return through(ctx, dsn, deal(offersOf(blocks, "observer-1"), n))
	}
}

// through offers lists side by side.
func through(ctx context.Context, dsn string, lists [][]*schema.Offer) (result, error) {
	s, err := store.Open(ctx, store.Options{DSN: dsn})
	if err != nil {
		return result{}, err
	}
	defer func() { _ = s.Close() }()
	committing, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = s.Run(committing) // returns nil, whatever happened
	}()
	defer func() { stop(); <-ended }()

	var (
		work  errgroup.Group
		mu    sync.Mutex
		took  []time.Duration
		start = time.Now()
		cpu   = processTime()
	)
	for _, list := range lists {
		work.Go(func() error {
			mine, err := offer(ctx, s, list)
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
			return err
		})
	}
	if err := work.Wait(); err != nil {
		return result{}, err
	}
	return measured(len(took), time.Since(start), processTime()-cpu, took), nil
}

// offer offers one list and waits for every answer.
func offer(ctx context.Context, s *store.Store, list []*schema.Offer) ([]time.Duration, error) {
	var open sync.WaitGroup
	free := make(chan struct{}, window)
	took := make([]time.Duration, len(list))
	bad := make(chan schema.Settlement, 1)
	for i, o := range list {
		free <- struct{}{}
		open.Add(1)
		start := time.Now()
		err := s.Offer(ctx, o, func(answer schema.Settlement) {
			took[i] = time.Since(start)
			if answer.Outcome != schema.First && answer.Outcome != schema.Duplicate {
				select {
				case bad <- answer:
				default:
				}
			}
			<-free
			open.Done()
		})
		if err != nil {
			return nil, err
		}
	}
	open.Wait()
	select {
	case answer := <-bad:
		return nil, fmt.Errorf("settled %v: %s", answer.Outcome, answer.Reason)
	default:
		return slices.Clip(took), nil
	}
}
