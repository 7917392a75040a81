// Command queries measures what the stats API does on a table of a million blocks: keyset pages and filters at a fixed
// rate of requests over a fixed number of connections, beside the same page asked of the bare driver and beside OFFSET.
//
// The rate is open loop: each request has a time at which it is due, and its latency counts from then, so that a slow
// answer is not hidden by the requests that it keeps from being sent. Afterwards the same is done as fast as it goes.
//
// It needs FIRSTSEEN_TEST_MYSQL_DSN, an account of MySQL or MariaDB that may create databases. With -seed it only fills
// the database that -dsn names, which must be migrated and empty.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/pprof"
	"syscall"
	"time"
)

type options struct {
	rows     int
	rate     int
	conns    int
	duration time.Duration
	rounds   int
	dsn      string
	seedOnly bool
	profile  string
}

func main() {
	var o options
	flag.IntVar(&o.rows, "rows", 1_000_000, "blocks in the table")
	flag.IntVar(&o.rate, "rate", 1000, "requests a second")
	flag.IntVar(&o.conns, "conns", 50, "connections")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "how long each contender is asked in a round")
	flag.IntVar(&o.rounds, "rounds", 3, "how often each contender is asked; the medians are told")
	flag.StringVar(&o.dsn, "dsn", "", "database, as go-sql-driver names it; default a new one, which is dropped at the end")
	flag.BoolVar(&o.seedOnly, "seed", false, "only fill the database named by -dsn")
	flag.StringVar(&o.profile, "cpuprofile", "", "file for a profile of this process, the API and its clients, while it is measured")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "queries:", err)
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func run(ctx context.Context, o options) error {
	if o.rows < 1000 || o.rate < 1 || o.conns < 1 || o.duration <= 0 || o.rounds < 1 {
		return errors.New("needs 1000 rows or more, and a rate, connections, duration and rounds above 0")
	}
	if o.seedOnly {
		if o.dsn == "" {
			return errors.New("-seed needs -dsn")
		}
		return seed(ctx, o.dsn, o.rows)
	}
	if o.dsn == "" {
		dsn, drop, err := freshDatabase(ctx)
		if err != nil {
			return err
		}
		defer drop()
		if err := seed(ctx, dsn, o.rows); err != nil {
			return err
		}
		o.dsn = dsn
	}
	if o.profile != "" {
		f, err := os.Create(o.profile)
		if err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		defer func() { _ = f.Close() }()
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	}
	return measure(ctx, o)
}
