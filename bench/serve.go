package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/server"
)

// serveWord, as the first argument, makes this program the server under test: a process of its own, so that its memory
// and processor time are told apart from those of the observers.
const serveWord = "serve"

// usage is what the server's process has used so far.
type usage struct {
	CPU   time.Duration `json:"cpu"`
	Peak  int64         `json:"peak"`  // bytes resident at most
	RSS   int64         `json:"rss"`   // bytes resident after garbage was collected and given back
	Live  int64         `json:"live"`  // bytes of live objects and of stacks
	Conns int           `json:"conns"` // open connections
}

// serve runs a server over the database, none if dsn is empty. It prints its address, and then its usage for every line
// that it reads, until its input ends. Profile, if not empty, is where its profile goes.
func serve(ctx context.Context, dsn, profile string) error {
	if profile != "" {
		end, err := profiled(profile)
		if err != nil {
			return err
		}
		defer end()
	}
	debug.SetGCPercent(server.GCPercent) // as `firstseen server` does
	debug.SetMemoryLimit(server.MemoryLimit)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var st benchStore = nowhere{}
	if dsn != "" {
		s, err := store.Open(ctx, store.Options{DSN: dsn})
		if err != nil {
			return err
		}
		defer func() { _ = s.Close() }()
		st = s
	}
	count := &lastCount{}
	srv, err := server.New(server.Options{
		Addr: "127.0.0.1:0", Name: "server-1", Store: st, MaxConns: 100_000, Presence: count,
		Drain: time.Second, BareDrain: time.Second, Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		return err
	}
	var running errgroup.Group
	storing, stopStore := context.WithCancel(context.WithoutCancel(ctx))
	running.Go(func() error { return st.Run(storing) })
	running.Go(func() error { defer stopStore(); return srv.Run(ctx) })
	fmt.Println(srv.Addr())
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		u := used()
		u.Conns = count.get()
		if err := json.NewEncoder(os.Stdout).Encode(u); err != nil {
			break
		}
	}
	stop()
	return running.Wait()
}

func profiled(path string) (end func(), err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return func() { pprof.StopCPUProfile(); f.Close() }, nil
}

func used() usage {
	u := usage{CPU: processTime()}
	runtime.GC()
	debug.FreeOSMemory() // collects once more: the first one only finds which stacks could shrink
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Live = int64(m.HeapAlloc + m.StackInuse)
	u.RSS, u.Peak = status("VmRSS:"), status("VmHWM:")
	return u
}

// status is a size from the process's own status, 0 where there is no such file.
func status(name string) int64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// benchStore is a store that runs.
type benchStore interface {
	server.Store
	Run(ctx context.Context) error
}

// nowhere settles every offer at once.
type nowhere struct{}

// Offer implements server.Store.
func (nowhere) Offer(_ context.Context, _ *schema.Offer, done func(schema.Settlement)) error {
	done(schema.Settlement{Outcome: schema.First})
	return nil
}

// Report implements server.Store.
func (nowhere) Report(context.Context, string, schema.Report) error { return nil }

// Positions implements server.Store.
func (nowhere) Positions(context.Context, []uint64) ([]schema.Position, error) { return nil, nil }

// Run waits for the end.
func (nowhere) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// process is a running server.
type process struct {
	addr  string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// servers is how servers are started.
type servers struct {
	profile string
	python  bool // the Python server instead
}

// withPython runs a command with what the Python server needs. It exits with noPython where there is no Python.
const (
	withPython = "deploy/dev/with-python"
	noPython   = 69
)

// hasPython tells whether the Python server can be run, which installs what it needs the first time.
func hasPython(ctx context.Context) bool {
	cmd := exec.CommandContext(ctx, withPython, "true")
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	if err == nil {
		return true
	}
	if exit := new(exec.ExitError); errors.As(err, &exit) && exit.ExitCode() == noPython {
		err = errors.New("no Python 3.11")
	}
	fmt.Fprintln(os.Stderr, "bench: the Python server is left out:", err)
	return false
}

// launch starts a server over the database and waits for its address.
func (s servers) launch(ctx context.Context, dsn string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	p := &process{cmd: exec.CommandContext(ctx, self, serveWord, dsn, s.profile)}
	if s.python {
		p.cmd = exec.CommandContext(ctx, withPython, "python", "python/bench/serve.py", dsn)
	}
	p.cmd.Stderr = os.Stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	p.out = bufio.NewReader(stdout)
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start server: %w", err), p.stop())
	}
	p.addr = strings.TrimSpace(line)
	return p, nil
}

// used asks the server what it has used.
func (p *process) used() (u usage, err error) {
	if _, err := io.WriteString(p.stdin, "\n"); err != nil {
		return u, fmt.Errorf("ask server: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &u)
	}
	if err != nil {
		return u, fmt.Errorf("ask server: %w", err)
	}
	return u, nil
}

func (p *process) stop() error {
	_ = p.stdin.Close()
	if err := p.cmd.Wait(); err != nil {
		return fmt.Errorf("stop server: %w", err)
	}
	return nil
}

// lastCount is a presence that keeps the newest count of connections.
type lastCount struct{ n atomic.Int64 }

// Set implements server.Presence.
func (c *lastCount) Set(n int) { c.n.Store(int64(n)) }

func (c *lastCount) get() int { return int(c.n.Load()) }
