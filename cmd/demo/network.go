package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/lifecycle"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/server"
	"github.com/firstseen/firstseen/statsapi"
	"github.com/firstseen/firstseen/templates"
)

type options struct {
	http   string        // where the stats API listens
	lasts  time.Duration // 0: until the context ends
	period time.Duration // between blocks
	out    io.Writer
	drop   uint64 // tests only: the number of a block that the servers acknowledge and throw away
}

// reorgEvery is how many blocks pass between two reorganisations of the demo's chain.
const reorgEvery = 12

// network is everything the demo runs.
type network struct {
	chain     *devnet.Net
	stores    []*store.Store
	observers []*client.Client
	hints     *feed.Hints
	api       *statsapi.API
	group     lifecycle.Group
	lines     *lines
	registry  *prometheus.Registry
	dir       string // of the database, removed at the end
}

// run plays the demo and returns what became of the blocks.
func run(ctx context.Context, opts options) (result, error) {
	n, err := newNetwork(ctx, opts)
	if err != nil {
		return result{}, errors.Join(err, n.close())
	}
	fmt.Fprintf(opts.out, "stats API: http://%s/v1/blocks/latest, /v1/stats, /v1/connections, /_cat/hashes   (Ctrl-C ends the demo)\n", n.api.Addr())
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.group.Run(running) }()

	if opts.lasts > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opts.lasts)
		defer cancel()
	}
	r, err := n.play(ctx, opts.period)
	if err == nil {
		r, err = n.judge(running, r)
	}
	stop()
	return r, errors.Join(err, <-ended, n.close())
}

// newNetwork puts everything together; what it returns is to be closed even with an error.
func newNetwork(ctx context.Context, opts options) (*network, error) {
	n := &network{
		lines: newLines(opts.out), registry: prometheus.NewRegistry(), hints: feed.NewHints(feed.HintsOptions{}),
	}
	var err error
	if n.dir, err = os.MkdirTemp("", "firstseen-demo"); err != nil {
		return n, fmt.Errorf("make folder for the database: %w", err)
	}
	if n.chain, err = devnet.New(devnet.Options{}); err != nil {
		return n, err
	}
	board := presence.NewMemory()
	n.group.Add("lines", time.Second, n.lines.run)
	var addrs []string
	for _, name := range []string{"server-1", "server-2"} {
		addr, err := n.addServer(ctx, name, board, opts.drop)
		if err != nil {
			return n, err
		}
		addrs = append(addrs, addr)
	}
	if err := n.addStats(ctx, board, opts.http); err != nil {
		return n, err
	}
	for i, name := range []string{"observer-a", "observer-b"} {
		if err := n.addObserver(name, i, addrs); err != nil {
			return n, err
		}
	}
	return n, nil
}

// addServer adds a server with a database handle of its own, as if it ran elsewhere.
func (n *network) addServer(ctx context.Context, name string, board presence.Board, drop uint64) (string, error) {
	s, err := store.Open(ctx, store.Options{
		DSN: "sqlite://" + filepath.Join(n.dir, "demo.db"), Committed: n.hints.Tell,
	})
	if err != nil {
		return "", err
	}
	n.stores = append(n.stores, s)
	if err := s.Migrate(ctx); err != nil {
		return "", err
	}
	beats, err := presence.NewPublisher(board, presence.PublisherOptions{Server: name})
	if err != nil {
		return "", err
	}
	srv, err := server.New(server.Options{
		Addr: "127.0.0.1:0", Name: name, Store: &watched{Store: s, lines: n.lines, drop: drop}, Presence: beats,
		Registerer: n.registry,
	})
	if err != nil {
		return "", err
	}
	beats.Listens(srv.Addr().String())
	n.group.Add(name+" store", 10*time.Second, s.Run)
	n.group.Add(name+" presence", 5*time.Second, beats.Run)
	n.group.Add(name, 20*time.Second, srv.Run)
	return srv.Addr().String(), nil
}

func (n *network) addStats(ctx context.Context, board presence.Board, addr string) error {
	reader, err := presence.NewReader(board, presence.ReaderOptions{})
	if err != nil {
		return err
	}
	live, err := feed.New(feed.Options{Source: n.stores[0], Hints: n.hints})
	if err != nil {
		return err
	}
	n.group.Add("feed", 5*time.Second, live.Run)
	n.api, err = statsapi.New(ctx, statsapi.Options{
		Access: statsapi.Access{Mode: statsapi.AccessOpen}, // nothing in it is anybody's
		Addr:   addr, Store: n.stores[0], Presence: reader, Gatherer: n.registry, Live: statsapi.LiveOptions{Feed: live},
	})
	if err != nil {
		return fmt.Errorf("%w (DEMO_HTTP sets another address)", err)
	}
	n.group.Add("connection counts", 5*time.Second, reader.Run)
	n.group.Add("stats API", 10*time.Second, n.api.Run)
	return nil
}

// addObserver adds an observer whose favourite node is the i-th, and which falls back on the others.
func (n *network) addObserver(name string, i int, servers []string) error {
	template, err := templates.Default("block.html")
	if err != nil {
		return err
	}
	urls := n.chain.URLs()
	observer, err := client.New(client.Options{
		Name: name, Nodes: append(append([]string{}, urls[i:]...), urls[:i]...), Servers: servers, Template: template,
		Poll: 100 * time.Millisecond, Registerer: n.registry,
	})
	if err != nil {
		return err
	}
	n.observers = append(n.observers, observer)
	n.group.Add(name, 10*time.Second, observer.Run)
	return nil
}

func (n *network) close() error {
	var errs []error
	for _, s := range n.stores {
		errs = append(errs, s.Close())
	}
	if n.chain != nil {
		errs = append(errs, n.chain.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(n.dir))...)
}

// play mines until ctx ends, with a reorganisation now and then. It begins once the observers have delivered the
// chain's first block.
func (n *network) play(ctx context.Context, period time.Duration) (result, error) {
	var r result
	begun := time.Now()
	select {
	case <-n.lines.first:
		r.FirstBlockMS = time.Since(begun).Milliseconds()
	case <-ctx.Done():
		return r, nil
	}
	tick := time.NewTicker(period)
	defer tick.Stop()
	for i := 1; ; i++ {
		select {
		case <-ctx.Done():
			return r, nil
		case <-tick.C:
		}
		if err := n.mine(ctx, i); err != nil && ctx.Err() == nil {
			return r, err
		}
	}
}

func (n *network) mine(ctx context.Context, i int) error {
	if i%reorgEvery == 0 {
		n.lines.say("           the chain replaces its newest 2 blocks")
		return n.chain.Reorg(ctx, 2)
	}
	return n.chain.Mine(ctx, 1)
}
