package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/lifecycle"
	"github.com/firstseen/firstseen/internal/mock"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/server"
	"github.com/firstseen/firstseen/statsapi"
	"github.com/firstseen/firstseen/templates"
)

// parts is what one process is put together from. Add them in the order in which they depend on each other; run ends
// them the other way round.
type parts struct {
	config   Config
	log      *logrus.Logger
	registry *prometheus.Registry
	group    lifecycle.Group
	checks   []health.Check
	nodes    cordoner                // set by who adds a pool of nodes; nil: this process holds none
	beats    *presence.Publisher     // of the server; nil: none runs in this process
	census   func() presence.Census  // likewise
	refusals func() []server.Refusal // likewise
	reader   *presence.Reader        // of all servers' beats; nil until somebody needs it
	redis    redis.UniversalClient   // nil until dialRedis
	replica  statsapi.Replica        // nil: this process is no replica
	switcher switcher                // likewise
	hints    *feed.Hints             // nil: this process has nobody to tell of new events
	opened   []io.Closer             // closed after the group has ended, last opened first
}

// newParts loads and checks the configuration of cmd.
func newParts(cmd *cobra.Command, environ []string) (*parts, error) {
	c, err := load(cmd.Flags(), environ)
	if err != nil {
		return nil, err
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	log, err := newLog(c.Log, cmd.ErrOrStderr())
	if err != nil {
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return &parts{config: c, log: log, registry: registry}, nil
}

// run serves until ctx ends or a part fails, then closes what was opened.
func (p *parts) run(ctx context.Context) error {
	return errors.Join(p.group.Run(ctx), p.close())
}

// close is for a process that could not be put together; run calls it otherwise.
func (p *parts) close() error {
	var errs []error
	for i := len(p.opened) - 1; i >= 0; i-- {
		errs = append(errs, p.opened[i].Close())
	}
	p.opened = nil
	return errors.Join(errs...)
}

func (p *parts) listening(component string, addr net.Addr) {
	p.log.WithFields(logrus.Fields{"component": component, "addr": addr.String()}).Info("listening")
}

func (p *parts) component(name string) logrus.FieldLogger { return p.log.WithField("component", name) }

// openStore connects to the database. An embedded one is brought up to date by itself; a shared one is migrated by
// `firstseen migrate`, once per release, unless migrate says otherwise.
func (p *parts) openStore(ctx context.Context, migrate bool) (*store.Store, error) {
	o := store.Options{
		DSN: p.config.DB, Keep: store.Retention(p.config.Retention), Log: p.component("store"), Registerer: p.registry,
	}
	if p.hints != nil {
		o.Committed = p.hints.Tell
	}
	s, err := store.Open(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%w (the database is set by --db)", err)
	}
	p.opened = append(p.opened, s)
	if migrate || embedded(p.config.DB) {
		err = s.Migrate(ctx)
	} else {
		err = s.Ready(ctx)
	}
	if err != nil {
		return nil, err
	}
	p.checks = append(p.checks, health.Check{Name: "database", Ready: s.Ready})
	return s, nil
}

// writable refuses a replica's database to who would store into it: what it stored would contradict what is followed.
func (p *parts) writable(ctx context.Context, s *store.Store) error {
	place, err := s.ReplicaPlace(ctx)
	if err != nil || place == nil {
		return err
	}
	return usagef("%s is a replica of %s/%s, into which only `firstseen follow` writes: use another --db", redact(p.config.DB),
		place.Env, place.Role)
}

func embedded(dsn string) bool { return dsn == "memory" || strings.HasPrefix(dsn, "sqlite:") }

// absent tells that opening an embedded database would make an empty one.
func absent(dsn string) bool {
	if !embedded(dsn) {
		return false
	}
	_, err := os.Stat(strings.TrimPrefix(strings.TrimPrefix(dsn, "sqlite:"), "//"))
	return dsn == "memory" || errors.Is(err, fs.ErrNotExist)
}

// board is where connection counts are posted: Redis when configured, else this process's memory.
func (p *parts) board() (presence.Board, error) {
	if p.config.Redis == "" {
		return presence.NewMemory(), nil
	}
	client, err := p.dialRedis()
	if err != nil {
		return nil, err
	}
	return presence.NewRedis(client, ""), nil
}

// addServer adds the TCP ingest with its committer and beats.
func (p *parts) addServer(ctx context.Context, s *store.Store, board presence.Board, out io.Writer) (*server.Server, error) {
	if err := p.writable(ctx, s); err != nil {
		return nil, err
	}
	c := p.config.Server
	if c.Name == "" {
		c.Name = hostName()
	}
	beats, err := presence.NewPublisher(board, presence.PublisherOptions{
		Server: c.Name, Boot: newBoot(), Beat: c.Beat, TTL: 3 * c.Beat, Log: p.component("presence"), Registerer: p.registry,
	})
	if err != nil {
		return nil, err
	}
	opts := server.Options{
		Addr: c.Listen, Name: c.Name, Store: s, Presence: beats, MaxConns: c.Connections, Drain: c.Drain,
		Log: p.component("server"), Registerer: p.registry,
	}
	if c.Print {
		opts.Print = out
	}
	if err := p.secureServer(&opts, s); err != nil {
		return nil, err
	}
	srv, err := server.New(opts)
	if err != nil {
		flags := "address is set by --listen"
		if c.PlainListen != "" {
			flags = "addresses are set by --listen and --plain-listen"
		}
		return nil, fmt.Errorf("%w (the %s)", err, flags)
	}
	beats.Listens(srv.Addr().String())
	p.refusals = srv.Refusals
	p.beats, p.census = beats, func() presence.Census {
		census := srv.Census()
		census.Boot = beats.Boot()
		return census
	}
	p.group.Add("store", 10*time.Second, s.Run)
	p.group.Add("judge", 5*time.Second, s.RunJudge)
	p.group.Add("presence", 5*time.Second, beats.Run)
	p.group.Add("server", c.Drain+10*time.Second, srv.Run)
	p.checks = append(p.checks, health.Check{Name: "server", Ready: srv.Ready})
	p.listening("server", srv.Addr())
	if addr := srv.PlainAddr(); addr != nil {
		p.listening("server without TLS", addr)
	}
	return srv, nil
}

// counts returns the reader of all servers' beats, which this process follows from then on.
func (p *parts) counts(board presence.Board) (*presence.Reader, error) {
	if p.reader != nil {
		return p.reader, nil
	}
	reader, err := presence.NewReader(board, presence.ReaderOptions{
		Beat: p.config.Server.Beat, Log: p.component("presence"), Registerer: p.registry,
	})
	if err != nil {
		return nil, err
	}
	p.group.Add("connection counts", 5*time.Second, reader.Run)
	p.reader = reader
	return reader, nil
}

// addConsole adds the line protocol for connection counts, if it is configured. It comes after the server.
func (p *parts) addConsole(ctx context.Context, board presence.Board) error {
	if p.config.Server.Console == "" {
		return nil
	}
	reader, err := p.counts(board)
	if err != nil {
		return err
	}
	console, err := server.NewConsole(ctx, server.ConsoleOptions{
		Addr: p.config.Server.Console, Name: p.census().Server, Boot: p.beats.Boot(), Counts: reader, Log: p.component("console"),
	})
	if err != nil {
		return fmt.Errorf("%w (the address is set by --console)", err)
	}
	p.group.Add("console", 5*time.Second, console.Run)
	p.listening("console", console.Addr())
	return nil
}

// addStats adds the stats API with its reader of connection counts. It comes after what it asks for readiness. The flag
// is the one that sets the address.
func (p *parts) addStats(ctx context.Context, s *store.Store, board presence.Board, flag string) error {
	reader, err := p.counts(board)
	if err != nil {
		return err
	}
	trusted, err := parseNetworks("stats.trusted", p.config.Stats.Trusted)
	if err != nil {
		return err
	}
	live, err := p.addFeed(s)
	if err != nil {
		return err
	}
	c := p.config.Stats
	api, err := statsapi.New(ctx, statsapi.Options{
		Access: statsapi.Access{
			Mode: statsapi.AccessMode(c.Access), Keys: s, Trusted: trusted, Rate: c.Rate, Burst: c.Burst, Log: c.AccessLog,
		},
		Origins: c.Origins,
		RPC:     statsapi.RPCOptions{Upstream: c.RPCUpstream},
		Live:    statsapi.LiveOptions{Feed: live},
		Replica: p.replica,
		Addr:    c.Listen, Store: s, Presence: reader, Checks: p.checks, Version: version,
		Asker: &censusAsker{token: p.config.AdminToken, local: p.census, now: time.Now},
		Log:   p.component("stats"), Registerer: p.registry, Gatherer: p.registry,
	})
	if err != nil {
		return fmt.Errorf("%w (the address is set by %s)", err, flag)
	}
	p.group.Add("stats", 10*time.Second, api.Run)
	p.listening("stats", api.Addr())
	return nil
}

// addMock puts a node of a made-up chain in place of the configured ones. Made-up blocks belong into no database that
// outlives the process.
func (p *parts) addMock(ctx context.Context) error {
	switch p.config.DB {
	case defaults().DB:
		p.config.DB = "memory"
	case "memory":
	default:
		return usagef("--mock makes blocks up, which do not belong into %s: leave --db out, or use --db memory", redact(p.config.DB))
	}
	node, err := mock.New(ctx, mock.Options{Log: p.component("mock")})
	if err != nil {
		return err
	}
	p.config.Client.Node, p.config.Client.Start = []string{"mock=http://" + node.Addr().String()}, client.StartEarliest
	p.group.Add("mock", 5*time.Second, node.Run)
	p.log.WithField("addr", node.Addr().String()).Warn("the blocks shown are made up")
	return nil
}

// addClient adds an observer.
func (p *parts) addClient(servers []string) error {
	c := p.config.Client
	template, err := loadTemplate(c.Template)
	if err != nil {
		return err
	}
	pool, err := c.pool()
	if err != nil {
		return err
	}
	opts := client.Options{
		Name: c.Name, Reference: c.Reference, Node: c.NodeName, Pool: pool.Thresholds, Repair: pool.Repair, Nodes: c.Node, Servers: servers, Bare: c.Bare, Template: template, Poll: c.Poll,
		Receipts: client.ReceiptsMode(c.Receipts), Raw: c.Raw, Backfill: c.Backfill, Drain: c.Drain,
		Spool: c.Spool, Start: c.Start, StartOver: c.StartOver, ResumeHalted: c.ResumeHalted,
		Log: p.component("client"), Registerer: p.registry,
	}
	if opts.Name == "" {
		opts.Name = hostName()
	}
	if opts.Spool != "" {
		opts.OutboxBytes = c.SpoolBytes
	}
	if err := p.secureClient(&opts); err != nil {
		return err
	}
	if err := opts.Validate(); err != nil {
		return usageError{"client: " + err.Error()}
	}
	observer, err := client.New(opts)
	if err != nil {
		return err
	}
	p.nodes = observer
	p.group.Add("backfill progress", time.Second, newBackfill(observer.Stats, p.log).Run)
	p.group.Add("client", c.Drain+5*time.Second, observer.Run)
	p.checks = append(p.checks, health.Check{Name: "client", Ready: observer.Ready,
		Degraded: func() string { return observer.Stats().Degraded() }})
	return nil
}

// loadTemplate takes the name of an embedded template or the path of a file.
func loadTemplate(name string) (*templates.Template, error) {
	if t, err := templates.Default(name); err == nil {
		return t, nil
	}
	t, err := templates.Load(name)
	if errors.Is(err, os.ErrNotExist) {
		return nil, usagef("template %q: no file of that name; embedded are block.html, block.json and block.txt", name)
	}
	if err != nil {
		return nil, usageError{err.Error()}
	}
	return t, nil
}

// addAdmin adds the port for health, metrics, profiles and cordons, if one is configured. Call it last, when all that it
// asks is known; it runs from before the others until after them, so that it says "not ready" while they drain.
func (p *parts) addAdmin(ctx context.Context) error {
	if p.config.Admin == "" {
		return nil
	}
	a, err := newAdmin(ctx, adminOptions{
		addr: p.config.Admin, gatherer: p.registry, checks: p.checks, token: p.config.AdminToken, nodes: p.nodes,
		census: p.census, refusals: p.refusals, switcher: p.switcher,
	})
	if err != nil {
		return err
	}
	if p.beats != nil {
		p.beats.Asked(cmp.Or(p.config.Server.Ask, askAddress(a.listener.Addr())))
	}
	p.group.AddFirst("admin", 5*time.Second, a.Run)
	p.listening("admin", a.listener.Addr())
	return nil
}
