package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	_ "modernc.org/sqlite" // the driver
)

const (
	insertRows        = 128  // of one statement
	transactionBlocks = 4096 // whose rows are one transaction
)

// rows are those of a replica, in memory.
type rows struct {
	tables []tableRows
	blocks int
}

type tableRows struct {
	name    string
	columns []string
	values  []any // row after row
}

func (t tableRows) len() int { return len(t.values) / len(t.columns) }

func (r rows) count() (n int) {
	for _, t := range r.tables {
		n += t.len()
	}
	return n
}

// openFile opens a database with the driver alone, and with all that makes it faster at this, as a replica has it: no
// flush at each commit, which takes none of the rows apart, and room for the pages of the indexes.
func openFile(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_journal_mode=WAL&_synchronous=NORMAL&_busy_timeout=10000"+
		"&_foreign_keys=1&_pragma=cache_size(-65536)&_pragma=wal_autocheckpoint(8192)")
	if err == nil {
		db.SetMaxOpenConns(1)
	}
	return db, err
}

// readRows reads all rows that a bootstrap writes.
func readRows(ctx context.Context, path string) (r rows, err error) {
	db, err := openFile(path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, name := range []string{"records", "observations", "transactions", "raws", "feed"} {
		t := tableRows{name: name}
		if err := t.read(ctx, db); err != nil {
			return r, fmt.Errorf("read %s: %w", name, err)
		}
		r.tables = append(r.tables, t)
	}
	r.blocks = r.tables[0].len()
	return r, nil
}

func (t *tableRows) read(ctx context.Context, db *sql.DB) (err error) {
	found, err := db.QueryContext(ctx, "SELECT * FROM "+t.name+" ORDER BY 1") //nolint:gosec // a name of readRows
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, found.Close()) }()
	if t.columns, err = found.Columns(); err != nil {
		return err
	}
	for found.Next() {
		row := make([]any, len(t.columns))
		into := make([]any, len(row))
		for i := range row {
			into[i] = &row[i]
		}
		if err := found.Scan(into...); err != nil {
			return err
		}
		t.values = append(t.values, row...)
	}
	return found.Err()
}

// ceiling inserts rows into a new database with the driver alone: prepared statements of many rows, in few transactions,
// each with what belongs together, as it has to be for a replica that may crash. Nothing is decoded, checked or looked up.
func (p *place) ceiling(ctx context.Context, r rows) (took effort, err error) {
	path, err := p.fresh(ctx)
	if err != nil {
		return took, err
	}
	db, err := openFile(path)
	if err != nil {
		return took, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	begun := begin()
	full := make([]*sql.Stmt, len(r.tables))
	for i, t := range r.tables {
		if full[i], err = db.PrepareContext(ctx, t.insert(insertRows)); err != nil { //nolint:sqlclosecheck // closed with db
			return took, fmt.Errorf("prepare: %w", err)
		}
	}
	parts := max(1, r.blocks/transactionBlocks)
	for part := range parts {
		if err := r.insertPart(ctx, db, full, part, parts); err != nil {
			return took, err
		}
	}
	return begun.spent(), nil
}

// insertPart inserts one of so many parts of every table, in one transaction.
func (r rows) insertPart(ctx context.Context, db *sql.DB, full []*sql.Stmt, part, parts int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing once it is committed
	for i, t := range r.tables {
		width := len(t.columns)
		values := t.values[t.len()*part/parts*width : t.len()*(part+1)/parts*width]
		stmt := tx.StmtContext(ctx, full[i]) //nolint:sqlclosecheck // closed with tx
		for ; len(values) >= insertRows*width; values = values[insertRows*width:] {
			if _, err := stmt.ExecContext(ctx, values[:insertRows*width]...); err != nil {
				return fmt.Errorf("insert into %s: %w", t.name, err)
			}
		}
		if len(values) == 0 {
			continue
		}
		if _, err := tx.ExecContext(ctx, t.insert(len(values)/width), values...); err != nil {
			return fmt.Errorf("insert into %s: %w", t.name, err)
		}
	}
	return tx.Commit()
}

// insert is a statement that leaves its rows to the transaction if it fails, which spares SQLite a journal.
func (t tableRows) insert(n int) string {
	row := "(?" + strings.Repeat(",?", len(t.columns)-1) + ")"
	return "INSERT OR FAIL INTO " + t.name + " (`" + strings.Join(t.columns, "`,`") + "`) VALUES " + row + strings.Repeat(","+row, n-1)
}
