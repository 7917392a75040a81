package main

import (
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/server"
)

// command builds a cobra command that puts parts together, runs them and closes them again.
func command(use, short, long string, environ []string, assemble func(context.Context, *cobra.Command, *parts) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Long: long, RunE: func(cmd *cobra.Command, _ []string) error {
		p, err := newParts(cmd, environ)
		if err != nil {
			return err
		}
		if err := assemble(cmd.Context(), cmd, p); err != nil {
			_ = p.close() // the error that kept it from starting is the one to tell
			if cmd.Context().Err() != nil {
				return nil //nolint:nilerr // told to end before everything was up: whatever that broke is no failure
			}
			return err
		}
		return p.run(cmd.Context())
	}}
}

func clientCommand(environ []string) *cobra.Command {
	cmd := command("client", "Observe nodes and relay their blocks to servers",
		`Polls Ethereum nodes for their latest block, renders every new one from a template and pushes it to a server. Skipped
heights and the branch of a reorganisation are fetched, headers are hashed again, and a block is kept until a server
has acknowledged it. With --spool it is kept on disk, and the next process goes on exactly where this one ends; without,
the next process goes on after the last block that the server has.`, environ,
		func(ctx context.Context, _ *cobra.Command, p *parts) error {
			if err := p.addClient(p.config.Client.Server); err != nil {
				return err
			}
			return p.addAdmin(ctx)
		})
	cmd.Example = `  firstseen client --node http://127.0.0.1:8545 --server relay.example:9999
  firstseen client --node a=http://10.0.0.1:8545 --node b=http://10.0.0.2:8545 --server 10.0.1.1:9999 --server 10.0.1.2:9999
  firstseen client --spool /var/lib/firstseen/spool --start 19000000 --server relay.example:9999
  firstseen client --bare --server original.example:9999`
	flags := cmd.Flags()
	observerFlags(flags)
	flags.StringSlice("server", defaults().Client.Server, "host:port of a server; give it again for more")
	bind(flags, "server", "client.server")
	flags.Bool("bare", false, "speak to an original netstring server: one frame per connection, no acknowledgements, so no promise")
	bind(flags, "bare", "client.bare")
	clientTLSFlags(flags)
	adminFlag(flags)
	demoEndpointFlags(flags)
	return cmd
}

func observerFlags(flags *pflag.FlagSet) {
	d := defaults().Client
	flags.StringSlice("node", d.Node, "JSON-RPC URL of a node, or name=URL; give it again for the next to fall back on")
	bind(flags, "node", "client.node")
	flags.Duration("poll", d.Poll, "time between looks at the latest block")
	bind(flags, "poll", "client.poll")
	referenceFlag(flags)
	nodeNameFlag(flags)
	flags.String("template", d.Template, "block.html, block.json, block.txt, or the path of your own (html/template or text/template)")
	bind(flags, "template", "client.template")
	flags.String("receipts", d.Receipts, "auto: gas used, status and created contract of transactions; off: do without")
	bind(flags, "receipts", "client.receipts")
	flags.Bool("raw", false, "send the node's own JSON of blocks and receipts as well: replicas answer JSON-RPC from it")
	bind(flags, "raw", "client.raw")
	flags.Uint64("backfill", d.Backfill, "most blocks to fetch after a pause; older ones are reported as a gap")
	bind(flags, "backfill", "client.backfill")
	flags.String("name", "", "name of this observer (default: the machine's)")
	bind(flags, "name", "client.name")
	flags.String("spool", "", "file that keeps what is not delivered, and how far this observer got (default: in memory)")
	bind(flags, "spool", "client.spool")
	flags.Int64("spool-bytes", d.SpoolBytes, "most bytes of blocks in the spool; when it is full, reading the chain waits")
	bind(flags, "spool-bytes", "client.spool_bytes")
	flags.String("start", d.Start, "where to begin a chain of which the server has nothing: tip, earliest, or a height")
	bind(flags, "start", "client.start")
	flags.Bool("start-over", false, "begin at --start even if the server has blocks of the chain; a spool's progress comes first")
	bind(flags, "start-over", "client.start_over")
	flags.Bool("resume-halted", false, "take up a chain that was halted for a reorg too deep, on the branch that the nodes have now")
	bind(flags, "resume-halted", "client.resume_halted")
}

func adminFlag(flags *pflag.FlagSet) {
	flags.String("admin", "", "host:port for /livez, /readyz, /metrics, /debug/pprof and cordons (default: none)")
	bind(flags, "admin", "admin")
}

func dbFlag(flags *pflag.FlagSet) {
	flags.String("db", defaults().DB, "sqlite:///path/to/file, memory, or mysql://user:password@host:port/database")
	bind(flags, "db", "db")
}

func redisFlag(flags *pflag.FlagSet) {
	flags.String("redis", "", "redis://host:port/db for connection counts across processes (default: none)")
	bind(flags, "redis", "redis")
}

func serverCommand(environ []string) *cobra.Command {
	cmd := command("server", "Take blocks from observers and store each once",
		`Listens for observers, relay and bare ones on the same port, and acknowledges a block once it is committed. Any
number of servers may share one database.`, environ,
		func(ctx context.Context, cmd *cobra.Command, p *parts) error {
			collectSeldom()
			board, err := p.board()
			if err != nil {
				return err
			}
			if err := p.addHints(true); err != nil {
				return err
			}
			s, err := p.openStore(ctx, false)
			if err != nil {
				return err
			}
			if _, err := p.addServer(ctx, s, board, cmd.OutOrStdout()); err != nil {
				return err
			}
			if err := p.addConsole(ctx, board); err != nil {
				return err
			}
			return p.addAdmin(ctx)
		})
	cmd.Example = `  firstseen server --listen :9999 --db mysql://firstseen@db.example/firstseen --redis redis://cache.example:6379/0
  firstseen server --listen :9999 --tls-cert cert.pem --tls-key key.pem --require-auth
  firstseen server --print`
	flags := cmd.Flags()
	flags.String("name", "", "name of this server, unique among them (default: the machine's)")
	bind(flags, "name", "server.name")
	listenFlag(flags, "server.listen", defaults().Server.Listen)
	ingestFlags(flags)
	securityFlags(flags)
	dbFlag(flags)
	redisFlag(flags)
	adminFlag(flags)
	demoServerFlags(flags)
	return cmd
}

func listenFlag(flags *pflag.FlagSet, key, value string) {
	flags.String("listen", value, "host:port to listen on")
	bind(flags, "listen", key)
}

func ingestFlags(flags *pflag.FlagSet) {
	d := defaults().Server
	flags.Bool("print", false, "print every payload to standard output as DATA - ip:port - payload")
	bind(flags, "print", "server.print")
	flags.Int("connections", d.Connections, "most connections at once")
	bind(flags, "connections", "server.connections")
	flags.Duration("drain", d.Drain, "time for observers to move elsewhere when this server ends")
	bind(flags, "drain", "server.drain")
	flags.String("console", "", "host:port that answers WHO, WHERE and WHY, a line each (default: none)")
	bind(flags, "console", "server.console")
}

func statsCommand(environ []string) *cobra.Command {
	cmd := command("stats", "Serve the stats API", `Serves totals, blocks, connection counts, health and metrics over HTTP.`, environ,
		func(ctx context.Context, _ *cobra.Command, p *parts) error {
			board, err := p.board()
			if err != nil {
				return err
			}
			if err := p.addHints(false); err != nil {
				return err
			}
			s, err := p.openStore(ctx, false)
			if err != nil {
				return err
			}
			if err := p.addStats(ctx, s, board, "--listen"); err != nil {
				return err
			}
			return p.addAdmin(ctx)
		})
	flags := cmd.Flags()
	listenFlag(flags, "stats.listen", defaults().Stats.Listen)
	accessFlags(flags, "")
	dbFlag(flags)
	redisFlag(flags)
	adminFlag(flags)
	return cmd
}

func accessFlags(flags *pflag.FlagSet, prefix string) {
	flags.String(prefix+"access", defaults().Stats.Access,
		"who may read: open (everybody), keys (who shows an access key of scope read), auto: open on loopback, else keys")
	bind(flags, prefix+"access", "stats.access")
	flags.Float64(prefix+"rate", 0, "requests a second of one caller, an access key, else an address; 0: no limit")
	bind(flags, prefix+"rate", "stats.rate")
	flags.StringSlice(prefix+"trusted", nil, "address or network of a proxy whose X-Forwarded-For is believed")
	bind(flags, prefix+"trusted", "stats.trusted")
	flags.StringSlice(prefix+"origins", nil,
		"origin, like https://dash.example, whose pages may read answers and connect; * for all")
	bind(flags, prefix+"origins", "stats.origins")
	flags.Bool(prefix+"access-log", false, "log a line for each request")
	bind(flags, prefix+"access-log", "stats.access_log")
	flags.String(prefix+"rpc-upstream", "",
		"URL of a gateway or node that is asked what JSON-RPC needs the chain's state for (default: such calls are refused)")
	bind(flags, prefix+"rpc-upstream", "stats.rpc_upstream")
}

func upCommand(environ []string) *cobra.Command {
	cmd := command("up", "Run observer, server and stats API in one process",
		`Runs everything against the given nodes: a SQLite file as the database unless --db says otherwise, brought up to date
by itself, and no other service.`, environ, assembleUp)
	cmd.Example = `  firstseen up --node http://127.0.0.1:8545
  firstseen up --node http://127.0.0.1:8545 --db memory --stats-listen 127.0.0.1:0
  firstseen up --db memory --mock`
	flags := cmd.Flags()
	observerFlags(flags)
	flags.Bool("mock", false, "show a made-up chain instead of nodes, in memory, to try things out")
	bind(flags, "mock", "mock")
	listenFlag(flags, "server.listen", defaults().Server.Listen)
	flags.String("stats-listen", defaults().Stats.Listen, "host:port of the stats API")
	bind(flags, "stats-listen", "stats.listen")
	accessFlags(flags, "stats-")
	ingestFlags(flags)
	dbFlag(flags)
	redisFlag(flags)
	adminFlag(flags)
	return cmd
}

func assembleUp(ctx context.Context, cmd *cobra.Command, p *parts) error {
	if c := p.config; c.Server.TLSCert != "" || c.Client.TLS || len(c.Server.ProxyFrom) > 0 {
		return usagef("up runs observer and server in one process, with nothing between them to protect: " +
			"for TLS, access keys or proxies run firstseen client, server and stats")
	}
	if p.config.Mock {
		if err := p.addMock(ctx); err != nil {
			return err
		}
	}
	board, err := p.board()
	if err != nil {
		return err
	}
	if err := p.addHints(false); err != nil {
		return err
	}
	s, err := p.openStore(ctx, true)
	if err != nil {
		return err
	}
	srv, err := p.addServer(ctx, s, board, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	if err := p.addConsole(ctx, board); err != nil {
		return err
	}
	if err := p.addClient([]string{srv.Addr().String()}); err != nil {
		return err
	}
	if err := p.addStats(ctx, s, board, "--stats-listen"); err != nil {
		return err
	}
	return p.addAdmin(ctx)
}

func migrateCommand(environ []string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Create the tables, or bring them up to date",
		Long: `Applies the migrations that the database lacks, under a lock, so that it may run anywhere and any number of times.
Migrations only go forward.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := newParts(cmd, environ)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 10*time.Minute)
			defer cancel()
			s, err := store.Open(ctx, store.Options{DSN: p.config.DB, Log: p.log})
			if err != nil {
				return fmt.Errorf("%w (the database is set by --db)", err)
			}
			defer s.Close()
			if err := s.Migrate(ctx); err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), "database is up to date")
			return err
		},
	}
	dbFlag(cmd.Flags())
	cmd.AddCommand(importDemoCommand(environ))
	return cmd
}

// collectSeldom trades memory for processor time as a server's process can afford it, unless the environment says what
// it may use.
func collectSeldom() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(server.GCPercent)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(server.MemoryLimit)
	}
}
