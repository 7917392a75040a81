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

const window = 1024 // unanswered offers of one producer, as on the wire

// contenders are the ways to use the store.
func contenders() []contender {
	var out []contender
	for _, producers := range []int{1, 16, 256} {
		out = append(out, contender{fmt.Sprintf("store, %d producers", producers),
			func(ctx context.Context, dsn string, rows int) (result, error) {
				return through(ctx, dsn, split(blocks(rows, "observer-1"), producers), 0)
			}})
	}
	return append(out,
		contender{"store, 3 observers of the same rows", func(ctx context.Context, dsn string, rows int) (result, error) {
			var lists [][]*schema.Offer
			for i := range 3 {
				lists = append(lists, blocks(rows, fmt.Sprintf("observer-%d", i)))
			}
			return through(ctx, dsn, lists, 0)
		}},
		contender{"store, 1 producer at 1,000/s", func(ctx context.Context, dsn string, rows int) (result, error) {
			return through(ctx, dsn, [][]*schema.Offer{blocks(min(rows, 1500), "observer-1")}, time.Millisecond)
		}})
}

// split deals rows to producers in turn, so that together they offer the chain about in its order.
func split(all []*schema.Offer, producers int) [][]*schema.Offer {
	lists := make([][]*schema.Offer, producers)
	for i, o := range all {
		lists[i%producers] = append(lists[i%producers], o)
	}
	return lists
}

// through offers lists side by side, each at its pace; 0 means as fast as it can. Lists of the same rows start apart,
// so that a row's duplicates are not beside it.
func through(ctx context.Context, dsn string, lists [][]*schema.Offer, pace time.Duration) (result, error) {
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

	const apart = 2 * window
	same := len(lists) > 1 && lists[0][0].Key == lists[1][0].Key
	passed := make([]chan struct{}, len(lists)+1)
	for i := range passed {
		passed[i] = make(chan struct{})
	}
	close(passed[0])
	var (
		work  errgroup.Group
		mu    sync.Mutex
		took  []time.Duration
		start = time.Now()
		cpu   = processTime()
	)
	for i, list := range lists {
		work.Go(func() error {
			p := &producer{store: s, pace: pace, mark: min(apart, len(list)-1), passed: passed[i+1]}
			if same {
				<-passed[i]
			}
			mine, err := p.offer(ctx, list)
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

// producer offers one list and waits for every answer.
type producer struct {
	store  *store.Store
	pace   time.Duration
	mark   int           // once this row is offered,
	passed chan struct{} // passed is closed
}

func (p *producer) offer(ctx context.Context, list []*schema.Offer) ([]time.Duration, error) {
	var open sync.WaitGroup
	free := make(chan struct{}, window)
	took := make([]time.Duration, len(list))
	bad := make(chan schema.Settlement, 1)
	begun := time.Now()
	for i, o := range list {
		if p.pace > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * p.pace)))
		}
		free <- struct{}{}
		open.Add(1)
		start := time.Now()
		err := p.store.Offer(ctx, o, func(answer schema.Settlement) {
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
		if i == p.mark {
			close(p.passed)
		}
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
