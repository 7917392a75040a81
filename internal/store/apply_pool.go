package store

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"

	"gorm.io/gorm"
)

// applier is what Apply writes through: a connection of its own, so that its statements stay prepared and its pages stay
// in memory. A database in memory has one connection, which it shares.
type applier struct {
	mu    sync.Mutex // guards the rest until db is set
	own   *sql.DB    // nil for a database in memory
	db    *gorm.DB
	stmts *statements
}

// applyPragmas are of the applier's connection. A bootstrap inserts hashes, which fall anywhere in the indexes: with the
// usual 2 MiB of pages in memory, nearly every one is written and read again in the middle of its transaction, and with
// the usual 1,000 pages between checkpoints, once more with each of these.
func applyPragmas() []string { return []string{"cache_size(-65536)", "wal_autocheckpoint(8192)"} }

// openApplier makes the connection when it is first needed. It does not flush at each commit: what a power loss takes,
// rows and the place together, is fetched again.
func (s *Store) openApplier(ctx context.Context) error {
	a := &s.applier
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.db != nil {
		return nil
	}
	pool, db := s.pool, s.db
	if s.source.path != "" {
		connector, err := s.source.sqliteConnector("NORMAL", applyPragmas()...)
		if err != nil {
			return err
		}
		pool = sql.OpenDB(connector)
		pool.SetMaxOpenConns(1)
		pool.SetMaxIdleConns(1)
		if db, err = s.gormOn(pool); err != nil {
			_ = pool.Close()
			return fmt.Errorf("open %s: %w", s.source, err)
		}
		a.own = pool
	}
	stmts := newApplyStatements()
	if err := stmts.prepare(ctx, pool); err != nil {
		if a.own != nil {
			_ = a.own.Close()
			a.own = nil
		}
		return err
	}
	a.db, a.stmts = db, stmts
	return nil
}

func (a *applier) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.own == nil {
		return nil
	}
	return a.own.Close()
}

// insert writes rows, whose columns lie one after the other in args, and tells how many it wrote.
func (a *application) insert(table string, args []any) (n int, err error) {
	if len(args) == 0 {
		return 0, nil
	}
	width := strings.Count(a.stmts.texts[statement{table, 1}], "?")
	stmt := a.stmts.in(a.ctx, a.tx, statement{table, 1}) //nolint:sqlclosecheck // the transaction ends it
	plain := context.WithoutCancel(a.ctx)                // one that may end costs the driver a goroutine for each row
	for ; len(args) > 0; n++ {
		if n%chunkRows == 0 && a.ctx.Err() != nil {
			return n, a.ctx.Err()
		}
		if _, err := stmt.ExecContext(plain, args[:width]...); err != nil {
			return n, fmt.Errorf("insert %s: %w", table, err)
		}
		args = args[width:]
	}
	return n, nil
}
