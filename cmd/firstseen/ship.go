package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/replica"
)

// ShipConfig configures what ships the feed to replicas.
type ShipConfig struct {
	Role    string        `koanf:"role"`
	Poll    time.Duration `koanf:"poll"`
	Uploads int           `koanf:"uploads"` // at once
	Grace   time.Duration `koanf:"grace"`   // of live segments that bulk ones have replaced
}

func (c Config) validateShip() error {
	if err := (replica.Names{Env: defaults().Env, Role: c.Ship.Role}).Validate(); err != nil { // env has a check of its own
		return usagef("ship.role (--role): %v", err)
	}
	if c.Ship.Poll <= 0 || c.Ship.Poll > time.Second {
		return usagef("ship.poll %s: use more than 0 and at most 1s", c.Ship.Poll)
	}
	if c.Ship.Uploads < 1 || c.Ship.Uploads > 1024 {
		return usagef("ship.uploads %d: use 1 to 1024", c.Ship.Uploads)
	}
	if c.Ship.Grace < time.Minute {
		return usagef("ship.grace %s: use 1m or more, or a replica may lose what it reads", c.Ship.Grace)
	}
	return nil
}

func (c Config) names(role string) replica.Names { return replica.Names{Env: c.Env, Role: role} }

func shipCommand(environ []string) *cobra.Command {
	cmd := command("ship", "Ship the database's feed to an object store, for replicas",
		`Writes every row of the feed, with the blocks that it tells of, into immutable objects from which any number of read
replicas (firstseen follow) live: the database hears nothing of them. It begins with the first row, goes on exactly where
the last one stopped, and is never more than moments behind the servers that share its --redis.

One process ships for a role at a time. The last that is started is the one; another that still runs, or wakes up, finds
out before it changes anything, and ends. What is shipped under a role comes from one database: one that holds something
else, such as an older backup, is refused, and ships under another --role.

While the object store is away it tries again, /readyz is red with the reason, and nothing is lost. Objects that it finds
damaged where it goes on are made again. "firstseen shipped" shows how far it is.`, environ,
		func(ctx context.Context, _ *cobra.Command, p *parts) error {
			if err := p.addShip(ctx); err != nil {
				return err
			}
			return p.addAdmin(ctx)
		})
	cmd.Example = `  firstseen ship --db sqlite:///var/lib/firstseen/firstseen.db --objects file:/srv/firstseen
  firstseen ship --db mysql://firstseen@db.example/firstseen --redis redis://cache.example:6379/0 \
    --objects 's3://blocks/replicas?endpoint=https://s3.example&region=eu-1' --env production --role primary \
    --kafka-brokers kafka-1.example:9092 --admin :9101`
	flags := cmd.Flags()
	d := defaults().Ship
	dbFlag(flags)
	redisFlag(flags)
	flags.Lookup("redis").Usage = "redis://host:port/db over which servers tell of new rows (default: a look each --poll)"
	objectsFlags(flags)
	flags.String("role", d.Role, "name under which this database is shipped, and followed")
	bind(flags, "role", "ship.role")
	flags.Duration("poll", d.Poll, "time between looks at the feed while nobody tells of new rows; at most 1s")
	bind(flags, "poll", "ship.poll")
	flags.Int("uploads", d.Uploads, "objects to store at once")
	bind(flags, "uploads", "ship.uploads")
	flags.Duration("grace", d.Grace, "how long small segments stay for replicas that read them, once large ones hold their rows")
	bind(flags, "grace", "ship.grace")
	kafkaFlags(flags)
	adminFlag(flags)
	return cmd
}

// addShip adds what ships, with all that it needs.
func (p *parts) addShip(ctx context.Context) error {
	if p.config.DB == "memory" {
		return usagef("a database in memory has nothing to ship: name the servers' by --db")
	}
	if err := p.addHints(false); err != nil {
		return err
	}
	s, err := p.openStore(ctx, false)
	if err != nil {
		return err
	}
	place, err := p.openObjects(ctx, true)
	if err != nil {
		return err
	}
	c := p.config.Ship
	hints, err := p.openBroker(c.Role)
	if err != nil {
		return err
	}
	news, end := p.hints.Listen()
	p.opened = append(p.opened, closing(end))
	shipper, err := replica.NewShipper(replica.ShipOptions{
		Names: p.config.names(c.Role), Store: s, Objects: place, Broker: hints, News: news, Holder: holder(),
		Poll: c.Poll, Uploads: c.Uploads, Grace: c.Grace, Log: p.component("ship"), Registerer: p.registry,
	})
	if err != nil {
		return err
	}
	p.group.Add("ship progress", time.Second, newBacklog(shipper.Stats, p.log).Run)
	p.group.Add("ship", 10*time.Second, shipper.Run)
	p.checks = append(p.checks, health.Check{Name: "ship", Ready: shipper.Ready})
	return nil
}

// closing is an io.Closer that cannot fail.
type closing func()

// Close does it.
func (c closing) Close() error {
	c()
	return nil
}

// holder names this process to people.
func holder() string { return fmt.Sprintf("%s:%d", hostName(), os.Getpid()) }

// backlog shows how shipping a long feed gets on.
type backlog struct {
	*progress
	stats func() replica.ShipStats
	from  uint64 // the last row that was shipped when it began
}

// longBacklog is how many rows are shown as they go.
const longBacklog = 5000

func newBacklog(stats func() replica.ShipStats, log *logrus.Logger) *backlog {
	return &backlog{progress: newProgress("backlog", "rows", log), stats: stats}
}

// Run looks each second until ctx ends.
func (b *backlog) Run(ctx context.Context) error { return b.run(ctx, b.look) }

func (b *backlog) look(now time.Time) {
	s := b.stats()
	left := s.End - s.Seq
	switch {
	case b.began.IsZero() && left < longBacklog:
		return
	case b.began.IsZero():
		b.from = s.Seq
		b.begin(now, logrus.Fields{"from": s.Seq + 1, "to": s.End})
	case left < longBacklog/10:
		b.end(now, s.Seq-b.from)
		return
	}
	b.show(now, s.Seq-b.from, left)
}
