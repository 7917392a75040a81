// Command bench compares what our server takes in with what its database can do at all: the same rows written by the
// bare driver into the same tables, and into one table. Every round runs every contender once, on a fresh database of the
// same server, so that what else the machine does meets all of them; the medians of the rounds are told, of the shares
// of the ceiling too. Servers are processes of their own; observers and drivers run in this one. At the end it tells what
// idle connections cost.
//
// It needs FIRSTSEEN_TEST_MYSQL_DSN for MySQL or MariaDB, an account that may create databases; SQLite needs nothing.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"syscall"
	"time"
)

func main() {
	var o options
	flag.IntVar(&o.rounds, "rounds", 5, "how often each contender runs")
	flag.IntVar(&o.rows, "rows", 40_000, "distinct rows of one run on MySQL; SQLite gets half, no database five times as many")
	flag.StringVar(&o.dir, "dir", os.TempDir(), "folder for SQLite files and for the fsync measurement")
	flag.StringVar(&o.only, "only", "", "mysql, sqlite, none (servers without a database) or idle; default all")
	flag.StringVar(&o.match, "match", "", "besides the first ceiling, only contenders whose name matches this expression")
	profile := flag.String("profile", "", "file that each server writes a profile of its processor time to, for go tool pprof")
	flag.IntVar(&o.idle, "idle", idleConns, "how many idle connections")
	flag.Parse()
	o.servers = servers{profile: *profile}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	run := o.run
	if flag.Arg(0) == serveWord {
		run = func(ctx context.Context) error { return serve(ctx, flag.Arg(1), flag.Arg(2)) }
	}
	if err := run(ctx); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1) //nolint:gocritic // stop has run
	}
}

type options struct {
	rounds, rows, idle int
	dir, only, match   string
	servers            servers
}

func (o options) run(ctx context.Context) error {
	wanted, err := regexp.Compile(o.match)
	if err != nil {
		return fmt.Errorf("-match: %w", err)
	}
	all := &chainOf{}
	for _, p := range places(o.dir, o.servers, hasPython(ctx)) {
		if o.only != "" && o.only != p.name {
			continue
		}
		rows := map[string]int{"sqlite": o.rows / 2, noDatabase: 5 * o.rows}[p.name]
		if rows == 0 {
			rows = o.rows
		}
		blocks, err := all.first(rows)
		if err != nil {
			return err
		}
		if err := o.contest(ctx, p, wanted, blocks); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	if o.only != "" && o.only != "idle" {
		return nil
	}
	return idle(ctx, o.servers, o.idle)
}

// result is what one run of a contender came to.
type result struct {
	rate     float64 // offers a second
	cpu      float64 // seconds of the server's process, or of the driver's, for a million offers
	p50, p99 time.Duration
	rss      int64         // bytes resident at most, of a server's process
	sync     time.Duration // what an fsync took just before
}

// contender is one way to get rows into a database.
type contender struct {
	name string
	run  func(ctx context.Context, dsn string, blocks []block) (result, error)
}

// The contenders whose figures are set against each other.
const (
	fewObservers  = "server, 16 observers"
	sameRows      = "server, 3 observers of the same rows"
	pacedObserver = "server, 1 observer at 1,000/s"
)

// inPython is so many observers of the Python server, which get a fifth of the rows: it takes its time.
func inPython(name string, n int) contender {
	s := servers{python: true}
	return contender{name,
		func(ctx context.Context, dsn string, blocks []block) (result, error) {
			return observers{servers: s, lists: deal(blocks[:len(blocks)/5], n)}.run(ctx, dsn)
		}}
}

// ours are the ways to use what is ours.
func ours(s servers, python bool) []contender {
	out := []contender{
		{"store alone, 16 producers", producers(16)},
		{"server, 1 observer", s.distinct(1)},
		{fewObservers, s.distinct(16)},
		{"server, 256 observers", s.distinct(256)},
		{sameRows, func(ctx context.Context, dsn string, blocks []block) (result, error) {
			return observers{servers: s, lists: [][]block{blocks, blocks, blocks}, apart: true}.run(ctx, dsn)
		}},
		{pacedObserver, func(ctx context.Context, dsn string, blocks []block) (result, error) {
			return observers{servers: s, lists: [][]block{blocks[:min(len(blocks), 1500)]}, pace: time.Millisecond}.run(ctx, dsn)
		}},
	}
	if python {
		out = append(out, inPython("server in Python, 1 observer", 1), inPython("server in Python, 16 observers", 16))
	}
	return out
}

// distinct is so many observers, no two of which offer the same block.
func (s servers) distinct(n int) func(context.Context, string, []block) (result, error) {
	return func(ctx context.Context, dsn string, blocks []block) (result, error) {
		return observers{servers: s, lists: deal(blocks, n)}.run(ctx, dsn)
	}
}

func (o options) contest(ctx context.Context, p place, wanted *regexp.Regexp, blocks []block) error {
	field := p.field[:1:1]
	for _, c := range p.field[1:] {
		if wanted.MatchString(c.name) {
			field = append(field, c)
		}
	}
	results := make([][]result, len(field))
	for range o.rounds {
		for i, c := range field {
			r, err := once(ctx, p, c, o.dir, blocks)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i] = append(results[i], r)
		}
	}
	fmt.Printf("\n%s, %d rows a run, medians of %d\n", p.name, len(blocks), o.rounds)
	return report(os.Stdout, field, results)
}

// once runs a contender on a database of its own.
func once(ctx context.Context, p place, c contender, dir string, blocks []block) (result, error) {
	sync, err := syncTime(dir)
	if err != nil {
		return result{}, err
	}
	dsn, drop, err := p.fresh(ctx)
	if err != nil {
		return result{}, err
	}
	defer drop()
	r, err := c.run(ctx, dsn, blocks)
	r.sync = sync
	return r, err
}

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
	const tries = 25
	took := make([]time.Duration, tries)
	for i := range took {
		start := time.Now()
		if _, err := f.WriteAt(make([]byte, 4096), int64(i)<<12); err != nil {
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
