package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/firstseen/firstseen/internal/broker"
)

// lags tells how far a replica is behind while blocks come, with hints and without: from a commit of the writer to that
// of the replica that has its rows.
func (p *place) lags(ctx context.Context, w *writer, path string) error {
	b, name, end, err := p.broker()
	if err != nil {
		return err
	}
	defer end()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(table, "lag at %.3g blocks/s\tcommits\tp50\tp99\tmost\n", p.rate)
	for _, way := range []struct {
		name   string
		poll   time.Duration
		broker broker.Broker
	}{
		{"hints by " + name, time.Second, b},
		{"no hints, a look every second", time.Second, broker.None{}},
		{"no hints, a look every 100ms", 100 * time.Millisecond, broker.None{}},
	} {
		w.hints.to.Store(&way.broker)
		lags, err := p.lagOf(ctx, w, path, way.poll, way.broker)
		if err != nil {
			return fmt.Errorf("lag with %s: %w", way.name, err)
		}
		slices.Sort(lags)
		_, _ = fmt.Fprintf(table, "%s\t%d\t%v\t%v\t%v\n", way.name, len(lags), lags[len(lags)/2].Round(time.Millisecond),
			lags[len(lags)*99/100].Round(time.Millisecond), lags[len(lags)-1].Round(time.Millisecond))
	}
	_, _ = fmt.Fprintln(table)
	return table.Flush()
}

// broker is the Kafka that the environment names, else an imitation.
func (p *place) broker() (b broker.Broker, name string, end func(), err error) {
	addr, name, cluster := os.Getenv(kafkaVariable), "Apache Kafka", func() {}
	if addr == "" {
		imitation, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
		if err != nil {
			return nil, "", nil, err
		}
		addr, name, cluster = imitation.ListenAddrs()[0], "an imitation of Kafka", imitation.Close
	}
	topic, err := broker.Topic(p.names.Env, fmt.Sprint(p.names.Role, "-", os.Getpid()))
	if err == nil {
		b, err = broker.NewKafka(broker.KafkaOptions{Brokers: []string{addr}, Topic: topic})
	}
	if err != nil {
		cluster()
		return nil, "", nil, err
	}
	return b, name, func() { _ = b.Close(); cluster() }, nil
}

func (p *place) lagOf(ctx context.Context, w *writer, path string, poll time.Duration, b broker.Broker) (lags []time.Duration, err error) {
	f, err := p.follow(ctx, path, poll, b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	// The first blocks make connections, and the topic.
	if err := p.pace(ctx, w, 2*time.Second); err != nil {
		return nil, err
	}
	if err := f.commits.reach(ctx, w.commits.last()); err != nil {
		return nil, err
	}
	w.commits.record(true)
	f.commits.record(true)
	if err := p.pace(ctx, w, p.lag); err != nil {
		return nil, err
	}
	if err := f.commits.reach(ctx, w.commits.last()); err != nil {
		return nil, err
	}
	wrote, applied := w.commits.record(false), f.commits.record(false)
	for _, c := range wrote {
		i := slices.IndexFunc(applied, func(a commit) bool { return a.seq >= c.seq })
		if i < 0 {
			return nil, fmt.Errorf("row %d was not applied", c.seq)
		}
		lags = append(lags, applied[i].at.Sub(c.at))
		applied = applied[i:]
	}
	if len(lags) == 0 {
		return nil, errors.New("nothing was committed")
	}
	return lags, nil
}

// pace offers blocks at the rate, and reports as often as blocks come on Ethereum.
func (p *place) pace(ctx context.Context, w *writer, d time.Duration) error {
	tick := time.NewTicker(time.Duration(float64(time.Second) / p.rate))
	defer tick.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := offer(ctx, w.store, w.blocks, 1); err != nil {
			return err
		}
		if err := w.store.Report(ctx, observer, w.blocks.report()); err != nil {
			return err
		}
	}
	return nil
}
