// Command replica measures replicas: a writer's database of made-up blocks is shipped through an object store, and then
// it tells how fast a new replica is up to date, beside SQLite's own bulk insert of the same rows into the same tables;
// how far a replica is behind while blocks come; and what replicas answer together, beside one of them and beside the
// writer's database engine alone.
//
// It needs FIRSTSEEN_TEST_S3_URL with FIRSTSEEN_TEST_S3_KEY and FIRSTSEEN_TEST_S3_SECRET, and takes FIRSTSEEN_TEST_KAFKA
// and FIRSTSEEN_TEST_MYSQL_DSN if they are there; deploy/dev/with-services --kafka has them all.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	blocks       int
	transactions int
	rounds       int
	rate         float64
	lag          time.Duration
	reads        time.Duration
	conns        int
	only         string
	dir          string
	profile      string
}

func main() {
	var o options
	flag.IntVar(&o.blocks, "blocks", 100_000, "blocks of the writer's database")
	flag.IntVar(&o.transactions, "transactions", 4, "transactions of each block, on average")
	flag.IntVar(&o.rounds, "rounds", 3, "how often a replica is made anew; the medians are told")
	flag.Float64Var(&o.rate, "rate", 5, "blocks a second while the lag is measured")
	flag.DurationVar(&o.lag, "lag", time.Minute, "how long the lag is measured, each way")
	flag.DurationVar(&o.reads, "reads", 5*time.Second, "how long each contender is read from")
	flag.IntVar(&o.conns, "conns", 24, "connections of readers, in all")
	flag.StringVar(&o.only, "only", "", "of bootstrap, lag and reads, those to measure, with commas between them; default all")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "folder for databases, some hundred MiB")
	flag.StringVar(&o.profile, "cpuprofile", "", "file for a profile of the bootstraps")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := o.run
	if flag.Arg(0) == serveWord {
		run = func(ctx context.Context) error { return serve(ctx, flag.Arg(1)) }
	}
	if err := run(ctx); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "replica:", err)
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func (o options) wants(part string) bool {
	return o.only == "" || slices.Contains(strings.Split(o.only, ","), part)
}

func (o options) run(ctx context.Context) error {
	if o.blocks < 1000 || o.transactions < 0 || o.rounds < 1 || o.rate <= 0 || o.conns < replicas {
		return errors.New("needs 1000 blocks or more, and rounds, a rate and connections above 0")
	}
	p, err := newPlace(o)
	if err != nil {
		return err
	}
	defer p.remove()
	fmt.Printf("%d blocks of %d transactions on average; %d processors for readers, replicas, writer and object store together\n\n",
		o.blocks, o.transactions, runtime.NumCPU())
	w, err := p.generate(ctx)
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.shipBacklog(ctx); err != nil {
		return err
	}
	replica, err := p.bootstraps(ctx, w)
	if err != nil {
		return err
	}
	if o.wants("lag") {
		if err := p.lags(ctx, w, replica); err != nil {
			return err
		}
	}
	if o.wants("reads") {
		return p.reading(ctx, replica)
	}
	return nil
}

// profiled runs do, and profiles it if there is a file for that.
func profiled(file string, do func() error) error {
	if file == "" {
		return do()
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := pprof.StartCPUProfile(f); err != nil {
		return fmt.Errorf("profile: %w", err)
	}
	defer pprof.StopCPUProfile()
	return do()
}
