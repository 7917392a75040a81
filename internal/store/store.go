package store

import (
	"cmp"
	"context"
	"crypto/rand"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"gorm.io/gorm"
	"gorm.io/gorm/logger"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// ErrStopped reports an offer to a store whose Run has ended.
var ErrStopped = errors.New("store stopped")

// ErrNotMigrated reports a database whose tables are missing or older than this program.
var ErrNotMigrated = errors.New("run `firstseen migrate`")

// Options configure a store. The zero value of each field but DSN means its default.
type Options struct {
	// DSN names the database: sqlite:///path/to/file, sqlite::memory: (or memory), mysql://user:password@host:port/name
	// or go-sql-driver's user:password@tcp(host:port)/name. An in-memory database belongs to one Store and ends with it.
	DSN string

	QueueRows  int // offers held before Offer blocks; default 4096
	QueueBytes int // bytes of payload and transactions held before Offer blocks; default 32 MiB

	// Now is the clock. By default it is time.Now, except that times compared between servers (which observers are
	// live) come from the database where it is MySQL.
	Now func() time.Time

	Keep Retention // what Run forgets; default: nothing

	// Committed is told the feed's highest seq after each COMMIT that added to it, so that whoever follows the feed need
	// not wait for its next look. It must not block. Default: nobody is told.
	Committed func(seq uint64)

	Log        logrus.FieldLogger    // default: discard
	Registerer prometheus.Registerer // default: no metrics
}

// Store is one database. All methods are safe for concurrent use.
type Store struct {
	source  source
	dialect dialect
	pool    *sql.DB
	db      *gorm.DB
	ingest  *sql.DB // the ingest's own connections on MySQL, pool itself on SQLite
	writes  *gorm.DB
	log     logrus.FieldLogger
	now     func() time.Time

	version int64 // of the tables that this program needs
	metrics *metrics
	queue   *queue
	stall   atomic.Pointer[stall] // nil while commits succeed
	turn    chan struct{}         // holds the one writer of SQLite; nil for MySQL
	writer  token                 // names this store among those that write to the database
	marked  atomic.Bool           // it left a mark

	backs     backs
	keep      Retention
	committed func(seq uint64)
	cacheKeys int          // how many committed records the ingest remembers
	steady    bool         // Options.Now was given: it is also the clock that servers compare by
	pruned    atomic.Int64 // when old transitions of nodes were last looked for; 0: not yet

	migrating sync.Mutex // one Migrate at a time in this process

	applier applier // of a replica
}

// Open connects to the database. A database that cannot be reached is one line of error that says which, never the
// password. Open creates a SQLite file that is missing, but no tables: that is Migrate's work.
func Open(ctx context.Context, opts Options) (*Store, error) {
	if err := opts.Keep.Validate(); err != nil {
		return nil, err
	}
	src, err := parseDSN(opts.DSN)
	if err != nil {
		return nil, err
	}
	connector, err := src.connector()
	if err != nil {
		return nil, err
	}
	return open(ctx, opts, src, connector)
}

// open is Open over a connector, which tests wrap.
func open(ctx context.Context, opts Options, src source, connector driver.Connector) (*Store, error) {
	s := &Store{source: src, dialect: src.dialect, log: opts.Log, now: opts.Now, keep: opts.Keep, cacheKeys: cacheKeys}
	_, _ = rand.Read(s.writer[:])
	s.log = quiet.Log(s.log)
	if s.now == nil {
		s.now = time.Now
	}
	if s.dialect == dialectSQLite {
		s.turn = make(chan struct{}, 1)
	}
	s.steady = opts.Now != nil
	s.committed = opts.Committed
	s.metrics = newMetrics(opts.Registerer)
	s.queue = newQueue(cmp.Or(opts.QueueRows, defaultQueueRows), int64(cmp.Or(opts.QueueBytes, defaultQueueBytes)))
	s.pool = newPool(src, connector)
	if err := s.pool.PingContext(ctx); err != nil {
		_ = s.pool.Close()
		return nil, fmt.Errorf("connect to %s: %w", src, err)
	}
	if err := s.openGorm(connector); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("open %s: %w", src, err)
	}
	provider, err := s.migrations()
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	s.version = latestVersion(provider)
	s.warnSettings(ctx)
	return s, nil
}

// openGorm adapts gorm to the pool and, on MySQL, to a second one for the ingest, so that it never waits for a reader's
// connection and its prepared statements stay on as many connections as it has transactions.
func (s *Store) openGorm(connector driver.Connector) error {
	var err error
	if s.db, err = s.gormOn(s.pool); err != nil {
		return err
	}
	s.ingest, s.writes = s.pool, s.db
	if s.dialect == dialectSQLite {
		return nil
	}
	s.ingest = sql.OpenDB(connector)
	s.ingest.SetMaxOpenConns(mysqlLanes)
	s.ingest.SetMaxIdleConns(mysqlLanes)
	s.ingest.SetConnMaxLifetime(connLifetime)
	s.ingest.SetConnMaxIdleTime(connIdle)
	s.writes, err = s.gormOn(s.ingest)
	return err
}

func (s *Store) gormOn(pool *sql.DB) (*gorm.DB, error) {
	return gorm.Open(s.dialect.dialector(pool), &gorm.Config{
		SkipDefaultTransaction: true,
		QueryFields:            true,           // never SELECT *, which drags payloads along
		Logger:                 logger.Discard, // errors are returned, and logged by whoever decides on them
	})
}

// connLifetime makes connections follow a failover that only changed what the name resolves to.
const connLifetime = 10 * time.Minute

// connIdle closes a connection that nobody uses before the server does, see sessionSetup. It is longer than the time
// between two blocks of most chains.
const connIdle = 20 * time.Second

// newPool sizes the connections. An in-memory SQLite database lives in its only connection, which is why that one is
// never recycled.
func newPool(src source, connector driver.Connector) *sql.DB {
	pool := sql.OpenDB(connector)
	switch {
	case src.dialect == dialectMySQL:
		pool.SetMaxOpenConns(16)
		pool.SetMaxIdleConns(16)
		pool.SetConnMaxLifetime(connLifetime)
		pool.SetConnMaxIdleTime(connIdle)
	case src.path == "":
		pool.SetMaxOpenConns(1)
		pool.SetMaxIdleConns(1)
	default:
		pool.SetMaxOpenConns(8)
		pool.SetMaxIdleConns(8)
	}
	return pool
}

// Close releases the database. Call it after Run has returned.
func (s *Store) Close() error {
	if err := s.applier.close(); err != nil {
		return errors.Join(err, s.pool.Close())
	}
	if s.ingest == nil || s.ingest == s.pool {
		return s.pool.Close()
	}
	return errors.Join(s.ingest.Close(), s.pool.Close())
}

// Run commits what Offer queues, until ctx ends; then everything still queued is settled as schema.Unsettled. A
// database that fails is retried for as long as it takes. Meanwhile it forgets what Options.Keep says. Call it once.
func (s *Store) Run(ctx context.Context) error {
	var pruning sync.WaitGroup
	pruning.Go(func() { s.retain(ctx) })
	newDispatcher(s).run(ctx)
	pruning.Wait()
	s.forgetMarks(ctx)
	return nil
}

// tell spreads the news of a COMMIT; seq is 0 if the feed did not grow.
func (s *Store) tell(seq uint64) {
	if s.committed != nil && seq > 0 {
		s.committed(seq)
	}
}

func (s *Store) settle(p *pending, answer schema.Settlement) {
	s.metrics.offers.WithLabelValues(answer.Outcome.String()).Inc()
	s.metrics.queued.Dec()
	s.queue.settle(p, answer)
}

// Offer queues one observation or bare payload and blocks while the queue is full, which it stays while the database
// fails: nothing is dropped. Once it has returned nil, done is called exactly once, from Run, after the database has
// committed; it must not block. After an error, ctx's or ErrStopped, done is never called. The offer must not be
// changed before done is called.
func (s *Store) Offer(ctx context.Context, offer *schema.Offer, done func(schema.Settlement)) error {
	s.metrics.queued.Inc()
	err := s.queue.put(ctx, newPending(offer, done))
	if err != nil {
		s.metrics.queued.Dec()
	}
	return err
}

// Positions tells how far each of the given chains is stored without a gap; chains without a block are left out.
func (s *Store) Positions(ctx context.Context, chains []uint64) ([]schema.Position, error) {
	var rows []chainRow
	if err := s.db.WithContext(ctx).Where("chain IN ?", chains).Order("chain").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	positions := make([]schema.Position, 0, len(rows))
	for _, c := range rows {
		hash, err := schema.Key(c.HeadKey).Hash()
		if err != nil {
			return nil, fmt.Errorf("read positions: head of chain %d: %w", c.Chain, err)
		}
		back, err := s.back(ctx, c)
		if err != nil {
			return nil, err
		}
		positions = append(positions,
			schema.Position{Chain: c.Chain, Point: schema.Point{Number: c.HeadNumber, Hash: hash}, Back: back})
	}
	return positions, nil
}
