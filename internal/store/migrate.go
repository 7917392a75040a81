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
	results, err := provider.Up(ctx)
	if err != nil {
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
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	gooseDialect := goose.DialectSQLite3
	switch {
	case s.dialect == dialectMySQL:
		gooseDialect = goose.DialectMySQL
		options = append(options, goose.WithSessionLocker(namedLock{}))
	case s.source.path != "": // nobody else can see a database in memory
		options = append(options, goose.WithLocker(&fileLock{path: s.source.path + "-migrate"}))
	}
	return goose.NewProvider(gooseDialect, s.pool, files, options...)
}

// namedLock keeps two processes from migrating one MySQL database at once. The server gives it up with the connection,
// so that unlike a lock row it cannot outlive its holder.
type namedLock struct{}

// SessionLock implements lock.SessionLocker.
func (namedLock) SessionLock(ctx context.Context, conn *sql.Conn) error {
	const patience = 30 // times 10 s, which is below the connection's read timeout
	for range patience {
		var got sql.NullInt64
		err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT('firstseen-', MD5(DATABASE())), 10)").Scan(&got)
		if err != nil {
			return fmt.Errorf("lock migrations: %w", err)
		}
		if got.Int64 == 1 {
			return nil
		}
	}
	return errors.New("lock migrations: another process has held the lock for five minutes")
}

// SessionUnlock implements lock.SessionLocker.
func (namedLock) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "DO RELEASE_LOCK(CONCAT('firstseen-', MD5(DATABASE())))")
	return err
}

// fileLock is a lock between processes on one machine: an exclusive transaction on an empty SQLite database beside the
// real one. It ends with its holder, too. The file stays, because deleting a lock file races.
type fileLock struct {
	path string
	pool *sql.DB
	tx   *sql.Tx
}

// Lock implements lock.Locker.
func (l *fileLock) Lock(ctx context.Context, _ *sql.DB) error {
	file := url.URL{Scheme: "file", OmitHost: true, Path: l.path, RawQuery: "_txlock=exclusive&_busy_timeout=200"}
	connector, err := sqlite.NewConnector(file.String())
	if err != nil {
		return fmt.Errorf("lock %s: %w", l.path, err)
	}
	l.pool = sql.OpenDB(connector)
	for {
		l.tx, err = l.pool.BeginTx(ctx, nil)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !busy(err) {
			_ = l.pool.Close()
			return fmt.Errorf("lock %s: %w", l.path, err)
		}
	}
}

// Unlock implements lock.Locker.
func (l *fileLock) Unlock(context.Context, *sql.DB) error {
	return errors.Join(l.tx.Rollback(), l.pool.Close())
}
