// Command fanout measures how fast one process hands events to many WebSocket subscribers: the stats API, with a filter
// on every subscription, beside a bare loop that writes each event to each connection with coder/websocket, and beside
// the broker of the centrifuge library. Each server is a process of its own; the subscribers are this one. Contenders
// take turns, and medians of their rounds are told, as shares of the bare loop's too.
//
//	go -C bench/fanout run . [-subs 1000,5000] [-rounds 3] [-seconds 3]
//
// It is a module of its own, so that what it compares with is no part of the product. Each subscriber needs a descriptor
// in either process.
package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"
)

// window is how many events a server may be ahead of the slowest subscriber while it goes as fast as it can.
const window = 512

func main() {
	subs := flag.String("subs", "1000,5000", "numbers of subscribers")
	kinds := flag.String("kinds", "bare,firstseen,centrifuge", "contenders; the shares are of the first")
	rounds := flag.Int("rounds", 3, "how often each contender runs")
	seconds := flag.Float64("seconds", 3, "of each measurement")
	serve := flag.String("serve", "", "for the program itself: be this server")
	profile := flag.String("profile", "", "file that the last firstseen server writes a profile of its processor time to")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	var err error
	if *serve != "" {
		err = serveKind(ctx, *serve, *profile)
	} else {
		b := bench{kinds: strings.Split(*kinds, ","), rounds: *rounds, lasts: time.Duration(*seconds * float64(time.Second)), profile: *profile}
		err = b.run(ctx, strings.Split(*subs, ","))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "fanout:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to undo
	}
}

type bench struct {
	kinds   []string
	rounds  int
	lasts   time.Duration
	profile string
}

// result is one run of one contender.
type result struct {
	rate       float64 // deliveries a second, as fast as it can
	p50, p99   time.Duration
	perReader  float64 // bytes of resident memory
	perReader2 float64 // the same after the measurements
}

func (b bench) run(ctx context.Context, subs []string) error {
	for _, text := range subs {
		n, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("-subs: %w", err)
		}
		results := map[string][]result{}
		pace := 0.0 // deliveries a second at which latency is measured: a third of what the first contender can
		for range b.rounds {
			for _, kind := range b.kinds {
				r, err := b.one(ctx, kind, n, &pace)
				if err != nil {
					return fmt.Errorf("%s with %d subscribers: %w", kind, n, err)
				}
				results[kind] = append(results[kind], r)
			}
		}
		fmt.Printf("\n%d subscribers, events of %d bytes, medians of %d rounds of %s; latency at %.0f deliveries/s\n",
			n, eventBytes, b.rounds, b.lasts, pace)
		fmt.Printf("%-12s %14s %8s %10s %10s %16s %16s\n", "", "deliveries/s", "share", "p50", "p99", "idle B/reader", "after B/reader")
		for _, kind := range b.kinds {
			mine, first := results[kind], results[b.kinds[0]]
			fmt.Printf("%-12s %14.0f %8.2f %10s %10s %16.0f %16.0f\n", kind,
				median(mine, func(r result) float64 { return r.rate }),
				ratio(mine, first),
				time.Duration(median(mine, func(r result) float64 { return float64(r.p50) })).Round(10*time.Microsecond),
				time.Duration(median(mine, func(r result) float64 { return float64(r.p99) })).Round(10*time.Microsecond),
				median(mine, func(r result) float64 { return r.perReader }),
				median(mine, func(r result) float64 { return r.perReader2 }))
		}
	}
	return nil
}

// ratio is the median of what a contender does of the first one's rate in the same round.
func ratio(mine, first []result) float64 {
	shares := make([]float64, len(mine))
	for i := range mine {
		shares[i] = mine[i].rate / first[i].rate
	}
	slices.Sort(shares)
	return shares[len(shares)/2]
}

func median(results []result, of func(result) float64) float64 {
	values := make([]float64, len(results))
	for i, r := range results {
		values[i] = of(r)
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// server is a contender's process. It answers each command with a line.
type server struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	addr string
}

func (b bench) start(ctx context.Context, kind string) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"-serve", kind}
	if kind == "firstseen" && b.profile != "" {
		args = append(args, "-profile", b.profile)
	}
	s := &server{cmd: exec.CommandContext(ctx, self, args...)}
	s.cmd.Stderr = os.Stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.out = bufio.NewScanner(out)
	if !s.out.Scan() {
		return nil, fmt.Errorf("the server says nothing: %w", s.cmd.Wait())
	}
	s.addr = s.out.Text()
	return s, nil
}

func (s *server) end() {
	_ = s.in.Close()
	_ = s.cmd.Wait()
}

func (s *server) say(format string, args ...any) { fmt.Fprintf(s.in, format+"\n", args...) }

// memory is the process's resident memory in bytes.
func (s *server) memory() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	fields := strings.Fields(rest)
	kib, _ := strconv.ParseFloat(fields[0], 64)
	return kib * 1024
}

func (b bench) one(ctx context.Context, kind string, n int, pace *float64) (result, error) {
	s, err := b.start(ctx, kind)
	if err != nil {
		return result{}, err
	}
	defer s.end()
	empty := s.memory()
	readers, err := connect(kind, s.addr, n)
	if err != nil {
		return result{}, err
	}
	defer readers.close()
	r := result{perReader: (s.memory() - empty) / float64(n)}
	r.rate = readers.fast(s, b.lasts)
	if *pace == 0 {
		*pace = r.rate / 3
	}
	r.p50, r.p99 = readers.steady(s, b.lasts, *pace/float64(n))
	r.perReader2 = (s.memory() - empty) / float64(n)
	return r, readers.failed()
}
