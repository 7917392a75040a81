package main

import (
	"context"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// FollowConfig configures a replica.
type FollowConfig struct {
	Role     string        `koanf:"role"`     // of the writer that it follows
	Poll     time.Duration `koanf:"poll"`     // between looks at the object store; 0: 1 s, of a folder 100 ms
	Patience time.Duration `koanf:"patience"` // how long what it waits for may be missing before it is not ready
}

const (
	primaryRole = "primary"
	// replicaDB is the database of a replica that is told nothing else: the usual one is a writer's.
	replicaDB = "sqlite:replica.db"
	// folderPoll is between looks at an object store that is a folder, which cost next to nothing.
	folderPoll = 100 * time.Millisecond
)

func defaultFollow() FollowConfig {
	return FollowConfig{Role: primaryRole, Patience: 15 * time.Second}
}

func (c Config) validateFollow() error {
	switch {
	case !schema.ValidName(c.Follow.Role):
		return usagef("follow.role %q: use 1 to 64 of the characters A-Z a-z 0-9 . _ -", c.Follow.Role)
	case c.Follow.Poll < 0 || c.Follow.Patience < 0:
		return usagef("follow.poll and follow.patience must not be negative")
	}
	return nil
}

func followCommand(environ []string) *cobra.Command {
	d := defaultFollow()
	cmd := command("follow", "Be a replica: serve reads from a SQLite file that follows what a writer ships",
		`Follows the feed that "firstseen ship" puts into an object store, row by row, into a SQLite file of its own, and serves
the whole stats API from that file: lists and lookups, the live feed at /v1/ws and /v1/stream, JSON-RPC at /rpc. The
database that takes the writes is never asked, so any number of replicas may run. A replica stores no offers and judges
nothing.

It begins with the big segments that the writer has put together, goes on with the small ones as they come, and remembers
its place in the same transaction as the rows: start it again, or kill it, at any time. What is missing or damaged it waits
for, and /readyz says for what. It is ready once it has had everything that was shipped; /v1/replica tells the lag.

Kafka only shortens the wait for the next segment, so leave it out to begin with. Without --redis, connection counts are
unknown here. Access keys are not shipped: "firstseen keys create --db" of this file makes keys for this replica.`, environ,
		func(ctx context.Context, _ *cobra.Command, p *parts) error {
			return p.assembleFollow(ctx)
		})
	cmd.Example = `  firstseen follow --objects file:/srv/firstseen-objects
  firstseen follow --db sqlite:///var/lib/firstseen/replica.db --listen :8080 --access open \
    --objects "s3://blocks/firstseen?endpoint=http://minio.example:9000" --env main --role primary
  firstseen follow --objects s3://blocks --kafka-brokers kafka.example:9092 --admin 127.0.0.1:9102`
	flags := cmd.Flags()
	flags.String("role", d.Role, "of the writer to follow, as it was given to \"firstseen ship\"")
	bind(flags, "role", "follow.role")
	flags.Duration("poll", 0, "time between looks for the next segment (default: 1s, where the object store is a folder 100ms)")
	bind(flags, "poll", "follow.poll")
	flags.Duration("patience", d.Patience, "how long what is waited for may be missing before /readyz is red")
	bind(flags, "patience", "follow.patience")
	objectsFlags(flags)
	kafkaFlags(flags)
	flags.String("db", replicaDB, "sqlite:///path/to/file of this replica alone, or memory")
	bind(flags, "db", "db")
	listenFlag(flags, "stats.listen", defaults().Stats.Listen)
	accessFlags(flags, "")
	redisFlag(flags)
	adminFlag(flags)
	return cmd
}

// assembleFollow puts a replica together: what follows, and what serves.
func (p *parts) assembleFollow(ctx context.Context) error {
	if p.config.DB == defaults().DB {
		p.config.DB = replicaDB
	}
	board, err := p.board()
	if err != nil {
		return err
	}
	if err := p.addHints(false); err != nil {
		return err
	}
	s, err := p.openReplica(ctx)
	if err != nil {
		return err
	}
	if err := p.addFollower(ctx, s); err != nil {
		return err
	}
	if err := p.addStats(ctx, s, board, "--listen"); err != nil {
		return err
	}
	return p.addAdmin(ctx)
}

// openReplica opens a database that is a replica's, or may become one.
func (p *parts) openReplica(ctx context.Context) (*store.Store, error) {
	if !embedded(p.config.DB) {
		return nil, usagef("--db: %v", store.ErrReplicaDialect)
	}
	s, err := p.openStore(ctx, false)
	if err != nil {
		return nil, err
	}
	return s, s.ReplicaReady(ctx)
}

// addFollower adds what makes the store follow.
func (p *parts) addFollower(ctx context.Context, s *store.Store) error {
	c := p.config.Follow
	from, err := p.openObjects(ctx, false)
	if err != nil {
		return err
	}
	if err := p.followRole(ctx, s, from); err != nil {
		return err
	}
	brokers, err := p.brokers()
	if err != nil {
		return err
	}
	poll := c.Poll
	if poll == 0 && !strings.HasPrefix(p.config.Objects, "s3:") {
		poll = folderPoll
	}
	f, err := replica.NewFollower(replica.FollowOptions{
		Names: replica.Names{Env: p.config.Env, Role: c.Role}, Store: s, Objects: from, Broker: brokers,
		Poll: poll, Patience: c.Patience, Log: p.component("replica"), Registerer: p.registry,
	})
	if err != nil {
		return usageError{err.Error()}
	}
	p.replica, p.switcher = f, p.switching(f, s, from)
	if p.config.Retention != (RetentionConfig{}) {
		p.group.Add("store", 10*time.Second, s.Run) // it takes no offers, and forgets
	}
	p.group.Add("replica", 15*time.Second, f.Run)
	p.group.Add("replica's progress", time.Second, newCatchUp(f.State, p.log).Run)
	p.checks = append(p.checks, health.Check{Name: "replica", Ready: f.Ready})
	p.log.WithFields(logrus.Fields{"objects": from.String(), "env": p.config.Env, "role": c.Role}).Info("following")
	return nil
}

// longCatchUp is how many rows there must be to catch up with for progress to be shown.
const longCatchUp = 20_000

// catchUp shows how a replica catches up with its writer.
type catchUp struct {
	*progress
	state func() schema.ReplicaState
	from  uint64
}

func newCatchUp(state func() schema.ReplicaState, log *logrus.Logger) *catchUp {
	return &catchUp{progress: newProgress("catching up", "rows", log), state: state}
}

// Run looks each second until ctx ends.
func (c *catchUp) Run(ctx context.Context) error { return c.run(ctx, c.look) }

func (c *catchUp) look(now time.Time) {
	st := c.state()
	if st.End == nil {
		return
	}
	left := *st.End - st.Seq
	switch {
	case c.began.IsZero() && left < longCatchUp:
		return
	case c.began.IsZero():
		c.from = st.Seq
		c.begin(now, logrus.Fields{"from": st.Seq, "to": *st.End})
	case left < longCatchUp/100:
		c.end(now, st.Seq-min(c.from, st.Seq)) // a rewind may have gone further back
		return
	}
	c.show(now, st.Seq-min(c.from, st.Seq), left)
}
