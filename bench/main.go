// Command bench compares the store's ingest with what its database can do at all: the same rows written by the bare
// driver into the same tables, and into one table. Every round runs every contender once, on a fresh database of the
// same server, so that what else the machine does meets all of them; the medians of the rounds are told, of the shares of
// the ceiling too.
//
// It needs FIRSTSEEN_TEST_MYSQL_DSN for MySQL or MariaDB, an account that may create databases; SQLite needs nothing.
package main

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	rounds := flag.Int("rounds", 5, "how often each contender runs")
	rows := flag.Int("rows", 20_000, "distinct rows of one run on MySQL; SQLite gets half")
	dir := flag.String("dir", os.TempDir(), "folder for SQLite files and for the fsync measurement")
	only := flag.String("only", "", "mysql or sqlite; default both")
	match := flag.String("match", "", "besides the first ceiling, only contenders whose name matches this expression")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *rounds, *rows, *dir, *only, *match); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

func run(ctx context.Context, rounds, rows int, dir, only, match string) error {
	wanted, err := regexp.Compile(match)
	if err != nil {
		return fmt.Errorf("-match: %w", err)
	}
	sync, err := syncTime(dir)
	if err != nil {
		return err
	}
	fmt.Printf("fsync of 4 KiB in %s: median %v\n", dir, sync)
	for _, p := range places(dir) {
		if only != "" && only != p.name {
			continue
		}
		if p.name == "sqlite" {
			rows /= 2
		}
		if err := contest(ctx, p, wanted, rounds, rows); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// result is what one run of a contender came to.
type result struct {
	rate     float64 // offers a second
	cpu      float64 // seconds of this process for a million offers
	p50, p99 time.Duration
}

// contender is one way to get rows into a database.
type contender struct {
	name string
	run  func(ctx context.Context, dsn string, rows int) (result, error)
}

func contest(ctx context.Context, p place, wanted *regexp.Regexp, rounds, rows int) error {
	field := p.ceilings[:1]
	for _, c := range slices.Concat(p.ceilings[1:], contenders()) {
		if wanted.MatchString(c.name) {
			field = append(field, c)
		}
	}
	results := make([][]result, len(field))
	for range rounds {
		for i, c := range field {
			r, err := once(ctx, p, c, rows)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	report(p, field, results, rounds, rows)
	return nil
}

// once runs a contender on a database of its own.
func once(ctx context.Context, p place, c contender, rows int) (result, error) {
	dsn, drop, err := p.fresh(ctx)
	if err != nil {
		return result{}, err
	}
	defer drop()
	before := processTime()
	r, err := c.run(ctx, dsn, rows)
	if r.cpu == 0 {
		r.cpu = (processTime() - before).Seconds() / float64(rows) * 1e6
	}
	return r, err
}

func report(p place, field []contender, results [][]result, rounds, rows int) {
	fmt.Printf("\n%s, %d rows a run, medians of %d\n", p.name, rows, rounds)
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "contender\toffers/s\tlowest\thighest\tof ceiling\tp50\tp99\tCPU s/million")
	for i, c := range field {
		rate := ranked(results[i], func(r result) float64 { return r.rate })
		shares := make([]float64, rounds)
		for n := range shares {
			shares[n] = results[i][n].rate / results[0][n].rate // of the same round, because the machine is not the same in all
		}
		slices.Sort(shares)
		p50 := middle(ranked(results[i], func(r result) time.Duration { return r.p50 }))
		p99 := middle(ranked(results[i], func(r result) time.Duration { return r.p99 }))
		cpu := middle(ranked(results[i], func(r result) float64 { return r.cpu }))
		_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.0f\t%.0f\t%.2f\t%v\t%v\t%.1f\n", c.name, middle(rate), rate[0], rate[len(rate)-1],
			middle(shares), p50.Round(10*time.Microsecond), p99.Round(10*time.Microsecond), cpu)
	}
	_ = w.Flush()
}

func ranked[T cmp.Ordered](results []result, of func(result) T) []T {
	out := make([]T, len(results))
	for i, r := range results {
		out[i] = of(r)
	}
	slices.Sort(out)
	return out
}

func middle[T any](sorted []T) T { return sorted[len(sorted)/2] }

// processTime is the processor time of this process so far, user and system.
func processTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// syncTime measures what one fsync takes.
func syncTime(dir string) (time.Duration, error) {
	f, err := os.CreateTemp(dir, "firstseen-bench-*")
	if err != nil {
		return 0, fmt.Errorf("measure fsync: %w", err)
	}
	defer func() { _ = f.Close(); _ = os.Remove(f.Name()) }()
	const tries = 101
	took := make([]time.Duration, tries)
	for i := range took {
		start := time.Now()
		if _, err := f.WriteAt(make([]byte, 4096), 0); err != nil {
			return 0, fmt.Errorf("measure fsync: %w", err)
		}
		if err := f.Sync(); err != nil {
			return 0, fmt.Errorf("measure fsync: %w", err)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return middle(took), nil
}
