package store

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

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
func (s *Store) Ready(ctx context.Context) error {
	if err := s.pool.PingContext(ctx); err != nil {
		return fmt.Errorf("reach %s: %w", s.source, err)
	}
	want, err := s.wantVersion()
	if err != nil {
		return err
	}
	var have int64
	err = s.db.WithContext(ctx).Table(goose.DefaultTablename).Select("COALESCE(MAX(version_id), 0)").Scan(&have).Error
	if err != nil || have < want {
		return fmt.Errorf("%s is at version %d of its tables, this program needs %d: %w", s.source, have, want, ErrNotMigrated)
	}
	return nil
}

func (s *Store) wantVersion() (int64, error) {
	provider, err := s.migrations()
	if err != nil {
		return 0, err
	}
	sources := provider.ListSources()
	return sources[len(sources)-1].Version, nil
}

func (s *Store) migrations() (*goose.Provider, error) {
	files, err := fs.Sub(schema.Migrations, "migrations/"+string(s.dialect))
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	locker, err := s.locker()
	if err != nil {
		return nil, err
	}
	gooseDialect := goose.DialectMySQL
	if s.dialect == dialectSQLite {
		gooseDialect = goose.DialectSQLite3
	}
	options := []goose.ProviderOption{goose.WithDisableGlobalRegistry(true)}
	if locker != nil {
		options = append(options, goose.WithLocker(locker))
	}
	return goose.NewProvider(gooseDialect, s.pool, files, options...)
}

// locker keeps two processes from migrating at once.
func (s *Store) locker() (lock.Locker, error) {
	if s.dialect == dialectMySQL {
		return lock.NewMySQLTableLocker(
			lock.WithTableLockTimeout(250*time.Millisecond, 1200),
			lock.WithTableUnlockTimeout(250*time.Millisecond, 40),
			lock.WithTableLogger(slog.New(slog.NewTextHandler(io.Discard, nil))),
		)
	}
	return nil, nil
}
