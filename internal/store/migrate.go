package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/firstseen/firstseen/schema"
)

// Migrate brings the tables up to this program's version. It may run any number of times and from any number of
// processes at once: one does the work under a lock, the others wait for it.
func (s *Store) Migrate(ctx context.Context) error {
	s.migrating.Lock()
	defer s.migrating.Unlock()
	provider, err := s.migrations()
	if err != nil {
		return err
	}
	unlock, err := s.lockMigrations(ctx)
	if err != nil {
		return fmt.Errorf("migrate %s: %w", s.source, err)
	}
	results, err := provider.Up(ctx)
	if err = errors.Join(err, unlock(context.WithoutCancel(ctx))); err != nil {
		return fmt.Errorf("migrate %s: %w", s.source, err)
	}
	for _, r := range results {
		s.log.WithField("migration", r.Source.Path).Debug("migration applied")
	}
	return nil
}

// Ready tells whether the store can take offers: the database answers, and its tables are as this program needs them.
// Tables of a newer program are accepted, because migrations only ever add.
//
// It also fails once commits have failed for two seconds, so that a stall is never silent.
func (s *Store) Ready(ctx context.Context) error {
	if err := s.pool.PingContext(ctx); err != nil {
		return fmt.Errorf("reach %s: %w", s.source, err)
	}
	var have int64
	err := s.db.WithContext(ctx).Table(goose.DefaultTablename).Select("COALESCE(MAX(version_id), 0)").Scan(&have).Error
	if err != nil && !noTable(err) {
		return fmt.Errorf("read the version of the tables of %s: %w", s.source, err)
	}
	if err != nil || have < s.version {
		return fmt.Errorf("%s is at version %d of its tables, this program needs %d: %w",
			s.source, have, s.version, ErrNotMigrated)
	}
	if stall := s.stall.Load(); stall != nil && time.Since(stall.since) > stallAfter {
		return fmt.Errorf("%s has taken no commit since %s: %w", s.source, stall.since.UTC().Format(time.RFC3339), stall.err)
	}
	return nil
}

// latestVersion is the version of the tables that the migrations lead to.
func latestVersion(provider *goose.Provider) int64 {
	sources := provider.ListSources()
	return sources[len(sources)-1].Version
}

func (s *Store) migrations() (*goose.Provider, error) {
	files, err := fs.Sub(schema.Migrations, "migrations/"+string(s.dialect))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	gooseDialect := goose.DialectSQLite3
	if s.dialect == dialectMySQL {
		gooseDialect = goose.DialectMySQL
	}
	return goose.NewProvider(gooseDialect, s.pool, files, goose.WithDisableGlobalRegistry(true))
}

// lockMigrations waits until no other process migrates this database, and keeps them out until unlock is called. It is
// held around all of goose's work: goose's own lockers leave out its first look, which creates its table, on MySQL in
// two steps that another process can come between.
func (s *Store) lockMigrations(ctx context.Context) (unlock func(context.Context) error, err error) {
	switch {
	case s.dialect == dialectMySQL:
		return lockByName(ctx, s.pool)
	case s.source.path != "":
		return lockFile(ctx, s.source.path+"-migrate")
	}
	return func(context.Context) error { return nil }, nil // nobody else can see a database in memory
}

// migrationLock is the name of a lock that all processes on one database share.
const migrationLock = "CONCAT('firstseen-', MD5(DATABASE()))"

// lockByName takes a lock that the server gives up with the connection, so that unlike a lock row it cannot outlive its
// holder.
func lockByName(ctx context.Context, pool *sql.DB) (unlock func(context.Context) error, err error) {
	conn, err := pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	// The lock must outlast whatever the other connections do, and this one says nothing meanwhile.
	if _, err := conn.ExecContext(ctx, "SET SESSION wait_timeout = 28800"); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("lock migrations: %w", err)
	}
	const patience = 30 // times 10 s, which is below the connection's read timeout
	for range patience {
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK("+migrationLock+", 10)").Scan(&got); err != nil {
			_ = conn.Close()
			return nil, fmt.Errorf("lock migrations: %w", err)
		}
		if got.Int64 == 1 {
			return func(ctx context.Context) error {
				_, err := conn.ExecContext(ctx, "DO RELEASE_LOCK("+migrationLock+")")
				return errors.Join(err, conn.Close())
			}, nil
		}
	}
	_ = conn.Close()
	return nil, errors.New("lock migrations: another process has held the lock for five minutes")
}

// lockFile takes a lock between processes on one machine: an exclusive transaction on an empty SQLite database beside
// the real one. It ends with its holder, too. The file stays, because deleting a lock file races.
func lockFile(ctx context.Context, path string) (unlock func(context.Context) error, err error) {
	file := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_txlock=exclusive&_busy_timeout=200"}
	connector, err := sqlite.NewConnector(file.String())
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	pool := sql.OpenDB(connector)
	for {
		tx, err := pool.BeginTx(ctx, nil)
		if err == nil {
			return func(context.Context) error { return errors.Join(tx.Rollback(), pool.Close()) }, nil
		}
		if ctx.Err() != nil || !busy(err) {
			_ = pool.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}
