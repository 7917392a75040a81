package client

import (
	"bytes"
	"context"
	"io"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// go-ethereum's simulated chain leaves goroutines behind, one pool for the whole process and some that end in time.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core.(*txSenderCacher).cache"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

func itoa(n int) string { return strconv.Itoa(n) }

// plain renders a block as its hash.
type plain struct{ fail func(schema.Block) error }

func (p plain) Render(_ context.Context, b schema.Block) ([]byte, error) {
	if p.fail != nil {
		if err := p.fail(b); err != nil {
			return nil, err
		}
	}
	return []byte("block " + b.Hash.String()), nil
}

func (plain) ContentType() string { return "text/plain; charset=utf-8" }

// logbook keeps what a client logs.
type logbook struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logbook) has(text string) bool { return strings.Contains(l.String(), text) }

// running is a client under test.
type running struct {
	*Client
	t    testing.TB
	log  *logbook
	stop context.CancelFunc
	done chan struct{}
	err  error
}

// start runs a client with quick settings for tests; change adjusts them.
func start(t testing.TB, nodes, servers []string, change func(*Options)) *running {
	t.Helper()
	book := &logbook{}
	log := logrus.New()
	log.SetOutput(io.MultiWriter(book, t.Output()))
	log.SetLevel(logrus.DebugLevel)
	o := Options{Name: "watcher", Nodes: nodes, Servers: servers, Template: plain{}, Poll: 5 * time.Millisecond,
		CallTimeout: 2 * time.Second, Drain: time.Second, Log: log, Rand: func() float64 { return 0.01 },
		Pool: nodepool.Thresholds{Pause: 200 * time.Millisecond}}
	if change != nil {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Client: c, t: t, log: book, stop: cancel, done: make(chan struct{})}
	go func() { defer close(r.done); r.err = c.Run(ctx) }()
	t.Cleanup(r.end)
	return r
}

// end stops the client and waits for it.
func (r *running) end() {
	r.stop()
	select {
	case <-r.done:
	case <-time.After(time.Minute):
		r.t.Error("Run did not return")
	}
}

// at waits until everything up to the named head was delivered and acked.
func (r *running) at(d *drawing, name string) {
	r.t.Helper()
	wait(r.t, "head "+name+" delivered", func() bool {
		s := r.Stats()
		return s.Head != nil && s.Head.Latest.Hash == d.hash(name) && !s.Behind && s.Waiting == 0
	})
}

func TestOptionsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	good := Options{Name: "a", Nodes: []string{"http://x"}, Servers: []string{"h:1"}, Template: plain{}}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Options){
		"observer name":        func(o *Options) { o.Name = "a b" },
		"no node":              func(o *Options) { o.Nodes = nil },
		"want http, https":     func(o *Options) { o.Nodes = []string{"ftp://x"} },
		"node 2: not a URL":    func(o *Options) { o.Nodes = []string{"http://x", "http://[::"} },
		"called \"b\"":         func(o *Options) { o.Node = "b" },
		"without a host":       func(o *Options) { o.Nodes = []string{"http:///path"} },
		"no server":            func(o *Options) { o.Servers = nil },
		`server "h": want`:     func(o *Options) { o.Servers = []string{"h"} },
		"no template":          func(o *Options) { o.Template = nil },
		"receipts":             func(o *Options) { o.Receipts = "maybe" },
		"must not be negative": func(o *Options) { o.Drain = -1 },
	} {
		o := good
		change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
