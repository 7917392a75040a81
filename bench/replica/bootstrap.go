package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
)

// follower is a replica that follows.
type follower struct {
	store   *store.Store
	objects objects.Store
	commits commits
	stop    context.CancelFunc
	ended   chan error
}

// follow makes a database follow the writer until it is closed.
func (p *place) follow(ctx context.Context, path string, poll time.Duration, b broker.Broker) (*follower, error) {
	f := &follower{ended: make(chan error, 1)}
	var err error
	if f.objects, err = p.objects(ctx); err != nil {
		return nil, err
	}
	if f.store, err = store.Open(ctx, store.Options{DSN: dsnOf(path), Committed: f.commits.tell}); err != nil {
		return nil, err
	}
	follows, err := replica.NewFollower(replica.FollowOptions{
		Names: p.names, Store: f.store, Objects: f.objects, Poll: poll,
		Broker: func(string) (broker.Broker, error) { return unclosed{b}, nil },
	})
	if err != nil {
		return nil, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	f.stop = stop
	go func() { f.ended <- follows.Run(running) }()
	return f, nil
}

// unclosed is a broker that outlives those who use it.
type unclosed struct{ broker.Broker }

// Close does nothing.
func (unclosed) Close() error { return nil }

func (f *follower) close() error {
	f.stop()
	return errors.Join(<-f.ended, f.store.Close(), f.objects.Close())
}

// bootstraps makes replicas from nothing and beside each inserts the same rows, in turn, so that what else the machine
// does meets both. It returns the path of a replica.
func (p *place) bootstraps(ctx context.Context, w *writer) (path string, err error) {
	end := w.commits.last()
	path, _, err = p.bootstrap(ctx, end)
	if err != nil || !p.wants("bootstrap") {
		return path, err
	}
	rows, err := readRows(ctx, path)
	if err != nil {
		return path, err
	}
	var ours, ceilings []effort
	for range p.rounds {
		var took effort
		if took, err = p.ceiling(ctx, rows); err != nil {
			return path, err
		}
		ceilings = append(ceilings, took)
		err = profiled(p.profile, func() error {
			_, took, err = p.bootstrap(ctx, end)
			return err
		})
		if err != nil {
			return path, err
		}
		ours = append(ours, took)
	}
	return path, p.tellBootstraps(rows, ours, ceilings)
}

func (p *place) tellBootstraps(rows rows, ours, ceilings []effort) error {
	shares := make([]float64, len(ours))
	for i := range ours {
		shares[i] = ceilings[i].wall.Seconds() / ours[i].wall.Seconds()
	}
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "bootstrap\tseconds\tblocks/s\trows/s\tof the ceiling\tCPU µs a block")
	for _, c := range []struct {
		name  string
		all   []effort
		share float64
	}{{"SQLite, bulk insert of the same rows", ceilings, 1}, {"replica from the object store", ours, middle(shares)}} {
		var wall, cpu []time.Duration
		for _, e := range c.all {
			wall, cpu = append(wall, e.wall), append(cpu, e.cpu)
		}
		t := middle(wall).Seconds()
		_, _ = fmt.Fprintf(table, "%s\t%.1f (%.1f to %.1f)\t%.0f\t%.0f\t%.2f\t%.0f\n", c.name, t, slices.Min(wall).Seconds(),
			slices.Max(wall).Seconds(), float64(p.blocks)/t, float64(rows.count())/t,
			c.share, middle(cpu).Seconds()*1e6/float64(p.blocks))
	}
	_, _ = fmt.Fprintln(table)
	return table.Flush()
}

func (p *place) bootstrap(ctx context.Context, end uint64) (path string, took effort, err error) {
	if path, err = p.fresh(ctx); err != nil {
		return "", took, err
	}
	begun := begin()
	f, err := p.follow(ctx, path, time.Second, broker.None{})
	if err != nil {
		return "", took, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with f, which is closed below
		err := <-f.ended
		cancel(fmt.Errorf("the follower has ended: %w", err))
		f.ended <- err
	}()
	if err := f.commits.reach(ctx, end); err != nil {
		return "", took, errors.Join(context.Cause(ctx), f.close())
	}
	took = begun.spent()
	return path, took, f.close()
}

func middle[T cmp.Ordered](all []T) T {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
