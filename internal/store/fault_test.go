package store

import (
	"context"
	"database/sql/driver"
	"slices"
	"strings"
	"sync"

	"github.com/go-sql-driver/mysql"
)

// fault decides, before each call to the driver, whether it fails. Its hooks may be nil.
type fault struct {
	mu     sync.Mutex
	before func(call, text string) error // begin, exec, query, prepare, commit, ping
	after  func(call string) error       // once a commit has succeeded: its answer is lost
	poison func(value any) bool          // the database refuses every insert that holds such a value
	gate   func(call string)             // passed before each call, any number at once
	alter  *strings.Replacer             // what the database is asked instead
}

// hold sets gate.
func (f *fault) hold(gate func(call string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gate = gate
}

// refuse sets poison.
func (f *fault) refuse(poison func(value any) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.poison = poison
}

func (f *fault) taste(args []driver.NamedValue) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.poison != nil && slices.ContainsFunc(args, func(v driver.NamedValue) bool { return f.poison(v.Value) }) {
		return &mysql.MySQLError{Number: 1406, Message: "Data too long"}
	}
	return nil
}

func (f *fault) set(before func(call, text string) error, after func(call string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before, f.after = before, after
}

func (f *fault) strike(call, text string) error {
	f.mu.Lock()
	gate := f.gate
	f.mu.Unlock()
	if gate != nil {
		gate(call)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.before == nil {
		return nil
	}
	return f.before(call, text)
}

func (f *fault) lose(call string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.after == nil {
		return nil
	}
	return f.after(call)
}

type faultyConnector struct {
	driver.Connector
	fault *fault
}

func (c faultyConnector) Connect(ctx context.Context) (driver.Conn, error) {
	if err := c.fault.strike("connect", ""); err != nil {
		return nil, err
	}
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &faultyConn{conn.(driverConn), c.fault}, nil
}

// driverConn is what both drivers' connections offer.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

type faultyConn struct {
	driverConn
	fault *fault
}

func (c *faultyConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.driverConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c *faultyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.fault.strike("begin", ""); err != nil {
		return nil, err
	}
	tx, err := c.driverConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return faultyTx{tx, c.fault}, nil
}

func (c *faultyConn) PrepareContext(ctx context.Context, text string) (driver.Stmt, error) {
	if err := c.fault.strike("prepare", text); err != nil {
		return nil, err
	}
	stmt, err := c.driverConn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return &faultyStmt{stmt.(driverStmt), text, c.fault}, nil
}

func (c *faultyConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.fault.strike("exec", text); err != nil {
		return nil, err
	}
	return c.driverConn.ExecContext(ctx, text, args)
}

func (c *faultyConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.fault.strike("query", text); err != nil {
		return nil, err
	}
	if c.fault.alter != nil {
		text = c.fault.alter.Replace(text)
	}
	return c.driverConn.QueryContext(ctx, text, args)
}

func (c *faultyConn) Ping(ctx context.Context) error {
	if err := c.fault.strike("ping", ""); err != nil {
		return err
	}
	return c.driverConn.Ping(ctx)
}

type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

type faultyStmt struct {
	driverStmt
	text  string
	fault *fault
}

func (s *faultyStmt) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := s.driverStmt.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (s *faultyStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.fault.strike("exec", s.text); err != nil {
		return nil, err
	}
	if err := s.fault.taste(args); err != nil {
		return nil, err
	}
	return s.driverStmt.ExecContext(ctx, args)
}

type faultyTx struct {
	driver.Tx
	fault *fault
}

func (tx faultyTx) Commit() error {
	if err := tx.fault.strike("commit", ""); err != nil {
		_ = tx.Rollback() // the driver under it must not think that it is still in a transaction
		return err
	}
	if err := tx.Tx.Commit(); err != nil {
		return err
	}
	return tx.fault.lose("commit")
}
