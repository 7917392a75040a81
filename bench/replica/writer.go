package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// writer is the database that takes the writes, with what ships it.
type writer struct {
	*place
	path    string
	store   *store.Store
	blocks  *generator
	objects objects.Store
	hints   *switched
	news    chan struct{}
	commits commits

	stop context.CancelFunc
	work errgroup.Group
}

// commits remembers when rows of a feed were committed.
type commits struct {
	mu   sync.Mutex
	seq  uint64
	at   []commit // guarded by mu, as is seq
	keep bool     // guarded by mu
	grew chan struct{}
}

type commit struct {
	seq uint64
	at  time.Time
}

func (c *commits) tell(seq uint64) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq = max(c.seq, seq)
	if c.keep {
		c.at = append(c.at, commit{seq, now})
	}
	if c.grew != nil {
		close(c.grew)
		c.grew = nil
	}
}

// reach waits until the feed has so many rows.
func (c *commits) reach(ctx context.Context, seq uint64) error {
	for {
		c.mu.Lock()
		there := c.seq >= seq
		if c.grew == nil {
			c.grew = make(chan struct{})
		}
		grew := c.grew
		c.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-grew:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// record begins to remember, or ends it and returns what was remembered.
func (c *commits) record(on bool) []commit {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.at
	c.keep, c.at = on, nil
	return was
}

func (c *commits) last() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seq
}

// switched is a teller that can be told to keep silent.
type switched struct {
	to atomic.Pointer[broker.Broker]
}

// Tell passes hints on while there is a broker.
func (s *switched) Tell(ctx context.Context, p broker.Pointer) {
	if b := s.to.Load(); b != nil {
		(*b).Tell(ctx, p)
	}
}

// generate fills the writer's database as servers would: block by block, with the observer's reports in between.
func (p *place) generate(ctx context.Context) (w *writer, err error) {
	w = &writer{place: p, hints: &switched{}, news: make(chan struct{}, 1)}
	if w.blocks, err = newGenerator(p.transactions); err != nil {
		return nil, err
	}
	if w.path, err = p.fresh(ctx); err != nil {
		return nil, err
	}
	if w.store, err = store.Open(ctx, store.Options{DSN: dsnOf(w.path), Committed: w.committed}); err != nil {
		return nil, err
	}
	begun := time.Now()
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop = stop
	w.work.Go(func() error { return w.store.Run(running) })
	if err := fill(ctx, w.store, w.blocks, p.blocks); err != nil {
		return nil, err
	}
	took := time.Since(begun)
	info, err := os.Stat(w.path)
	if err != nil {
		return nil, err
	}
	fmt.Printf("writer: %d rows of feed, %d MiB; filled in %v, %.0f blocks/s\n", w.commits.last(), info.Size()>>20,
		took.Round(time.Second), float64(p.blocks)/took.Seconds())
	w.objects, err = p.objects(ctx)
	return w, err
}

func (w *writer) committed(seq uint64) {
	w.commits.tell(seq)
	select {
	case w.news <- struct{}{}:
	default:
	}
}

// fewBlocks are offered at once: as an observer does that catches up.
const fewBlocks = 512

// fill offers blocks, and reports the chain after each few, so that their statuses change as they would.
func fill(ctx context.Context, s *store.Store, g *generator, blocks int) error {
	for done := 0; done < blocks; {
		few := min(fewBlocks, blocks-done)
		if err := offer(ctx, s, g, few); err != nil {
			return err
		}
		if err := s.Report(ctx, observer, g.report()); err != nil {
			return err
		}
		done += few
	}
	return nil
}

// offer offers so many blocks and waits until they are stored.
func offer(ctx context.Context, s *store.Store, g *generator, blocks int) error {
	settled := make(chan schema.Settlement, blocks)
	for range blocks {
		o, err := g.next(ctx)
		if err != nil {
			return err
		}
		if err := s.Offer(ctx, o, func(answer schema.Settlement) { settled <- answer }); err != nil {
			return err
		}
	}
	for range blocks {
		if answer := <-settled; answer.Outcome != schema.First {
			return fmt.Errorf("a block was settled as %v: %s", answer.Outcome, answer.Reason)
		}
	}
	return nil
}

// shipBacklog starts what ships, and waits until all is shipped.
func (w *writer) shipBacklog(ctx context.Context) error {
	if err := objects.Prove(ctx, w.objects); err != nil {
		return err
	}
	shipper, err := replica.NewShipper(replica.ShipOptions{
		Names: w.names, Store: w.store, Objects: w.objects, Broker: w.hints, News: w.news, Holder: "bench",
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	stopStore := w.stop
	w.stop = func() { stop(); stopStore() }
	failed := make(chan error, 1)
	w.work.Go(func() error {
		err := shipper.Run(running)
		failed <- err
		return err
	})
	begun, tick := time.Now(), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for shipper.Stats().Seq < w.commits.last() {
		select {
		case <-tick.C:
		case err := <-failed:
			return fmt.Errorf("the shipper has ended: %w", err)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	took := time.Since(begun)
	fmt.Printf("shipped: in %v, %.0f blocks/s, each with an object for its record and one for its header\n\n",
		took.Round(time.Second), float64(w.options.blocks)/took.Seconds())
	return nil
}

func (w *writer) close() {
	w.stop()
	if err := w.work.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "replica: the writer:", err)
	}
	if w.objects != nil {
		_ = w.objects.Close()
	}
	_ = w.store.Close()
}
