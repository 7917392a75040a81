package main

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite" // the driver

	"github.com/firstseen/firstseen/schema"
)

const ceilingBatch = 256

// ceiling writes what the store would write for new blocks, and looks at nothing: no duplicates, no chain, one
// statement a table. Rows of a batch are sorted by key. The counter is taken last, as the store does.
type ceiling struct {
	dsn         string // of the run
	connections int
	oneTable    bool // records only
}

func (c ceiling) run(ctx context.Context, dsn string, blocks []block) (result, error) {
	c.dsn = dsn
	db, err := c.open()
	if err != nil {
		return result{}, err
	}
	defer func() { _ = db.Close() }()
	batches := make(chan []*schema.Offer, len(blocks)/ceilingBatch+1)
	for b := range slices.Chunk(offersOf(blocks, "observer-1"), ceilingBatch) {
		if len(b) < ceilingBatch {
			break // one prepared size
		}
		slices.SortFunc(b, func(a, b *schema.Offer) int { return cmp.Compare(a.Key, b.Key) })
		batches <- b
	}
	close(batches)
	written := len(batches) * ceilingBatch
	writers, err := c.prepare(ctx, db)
	if err != nil {
		return result{}, err
	}
	var (
		work  errgroup.Group
		mu    sync.Mutex
		took  []time.Duration
		start = time.Now()
		cpu   = processTime()
	)
	for _, w := range writers {
		work.Go(func() error {
			for b := range batches {
				begun := time.Now()
				if err := w.write(ctx, b); err != nil {
					return err
				}
				mu.Lock()
				took = append(took, time.Since(begun))
				mu.Unlock()
			}
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return result{}, err
	}
	return measured(written, time.Since(start), processTime()-cpu, took), nil
}

func measured(rows int, elapsed, cpu time.Duration, took []time.Duration) result {
	slices.Sort(took)
	return result{
		rate: float64(rows) / elapsed.Seconds(), cpu: cpu.Seconds() / float64(rows) * 1e6,
		p50: took[len(took)/2], p99: took[len(took)*99/100],
	}
}

func (c ceiling) sqlite() (path string, ok bool) { return strings.CutPrefix(c.dsn, "sqlite://") }

func (c ceiling) open() (*sql.DB, error) {
	if path, ok := c.sqlite(); ok {
		return sql.Open("sqlite", "file:"+path+"?_txlock=immediate&_journal_mode=WAL&_synchronous=FULL&_busy_timeout=10000")
	}
	return sql.Open("mysql", c.dsn)
}

// prepare gives each connection its statements.
func (c ceiling) prepare(ctx context.Context, db *sql.DB) ([]*writer, error) {
	texts := map[string][]string{
		"records": {"chain", "key", "number", "parent", "status", "block_time", "observed_at", "received_at", "content_type",
			"payload", "observer", "node", "origin", "server", "remote", "token", "fee_recipient", "header"},
		"observations": {"record", "observer", "node", "server", "origin", "observed_at", "received_at"},
		"feed":         {"seq", "kind", "chain", "key", "number", "to_number", "status", "was", "note", "at"},
	}
	_, lite := c.sqlite()
	var writers []*writer
	for range c.connections {
		conn, err := db.Conn(ctx)
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
		if !lite {
			if _, err := conn.ExecContext(ctx, "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"); err != nil {
				return nil, fmt.Errorf("set up session: %w", err)
			}
		}
		w := &writer{conn: conn, lite: lite, oneTable: c.oneTable, stmts: map[string]*sql.Stmt{}}
		for table, columns := range texts {
			marks := "(?" + strings.Repeat(",?", len(columns)-1) + ")"
			text := fmt.Sprintf("INSERT INTO %s (`%s`) VALUES %s%s", //nolint:gosec // of constants alone
				table, strings.Join(columns, "`,`"), marks, strings.Repeat(","+marks, ceilingBatch-1))
			w.stmts[table], err = conn.PrepareContext(ctx, text) //nolint:sqlclosecheck // closed with its connection
			if err != nil {
				return nil, fmt.Errorf("prepare: %w", err)
			}
		}
		writers = append(writers, w)
	}
	return writers, nil
}

// writer is one connection.
type writer struct {
	conn     *sql.Conn
	stmts    map[string]*sql.Stmt
	lite     bool
	oneTable bool
}

func (w *writer) write(ctx context.Context, batch []*schema.Offer) error {
	tx, err := w.conn.BeginTx(ctx, nil)
	if err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	if err := w.fill(ctx, tx, batch); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

func (w *writer) fill(ctx context.Context, tx *sql.Tx, batch []*schema.Offer) error {
	args := make([]any, 0, 18*len(batch))
	token := make([]byte, 16)
	for _, o := range batch {
		h := o.Header
		args = append(args, o.Chain, string(o.Key), h.Number, string(h.Parent.Key()), "canonical", schema.Micros(h.Time),
			schema.Micros(o.ObservedAt), schema.Micros(o.ReceivedAt), o.ContentType, o.Payload, o.Observer, o.Node,
			string(o.Origin), o.Server, o.Remote, token, h.FeeRecipient.Digits(), o.HeaderRLP)
	}
	done, err := w.insert(ctx, tx, "records", args)
	if err != nil || w.oneTable {
		return err
	}
	id, err := done.LastInsertId()
	if err != nil {
		return err
	}
	if w.lite {
		id -= int64(len(batch)) - 1 // SQLite tells the last, MySQL the first
	}
	args = args[:0]
	for i, o := range batch {
		args = append(args, id+int64(i), o.Observer, o.Node, o.Server, string(o.Origin), schema.Micros(o.ObservedAt),
			schema.Micros(o.ReceivedAt))
	}
	if _, err := w.insert(ctx, tx, "observations", args); err != nil {
		return err
	}
	return w.feed(ctx, tx, batch)
}

// insert runs a prepared insert within a transaction, which ends it.
func (w *writer) insert(ctx context.Context, tx *sql.Tx, table string, args []any) (sql.Result, error) {
	return tx.StmtContext(ctx, w.stmts[table]).ExecContext(ctx, args...) //nolint:sqlclosecheck // see above
}

func (w *writer) feed(ctx context.Context, tx *sql.Tx, batch []*schema.Offer) error {
	var last int64
	query := "SELECT last_seq FROM feed_counter WHERE id = 1 FOR UPDATE"
	if w.lite {
		query = "SELECT last_seq FROM feed_counter WHERE id = 1"
	}
	if err := tx.QueryRowContext(ctx, query).Scan(&last); err != nil {
		return err
	}
	args := make([]any, 0, 10*len(batch))
	for i, o := range batch {
		args = append(args, last+int64(i)+1, "block", o.Chain, string(o.Key), o.Header.Number, nil, "canonical", nil, nil,
			schema.Micros(o.ReceivedAt))
	}
	if _, err := w.insert(ctx, tx, "feed", args); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "UPDATE feed_counter SET last_seq = ? WHERE id = 1", last+int64(len(batch)))
	return err
}
