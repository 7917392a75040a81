package store

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/firstseen/firstseen/schema"
)

// table is what a prepared insert needs to know. An insert never changes a row that is already there: keep is the
// column that MySQL assigns to itself to say so. INSERT IGNORE would say so too, and also truncate what is too long.
type table struct {
	name    string
	columns []string
	keep    string
}

func recordsTable() table {
	return table{"records", []string{"chain", "key", "number", "parent", "status", "block_time", "observed_at",
		"received_at", "content_type", "payload", "observer", "node", "origin", "server", "remote", "token"}, "id"}
}

func observationsTable() table {
	return table{"observations", []string{"record", "observer", "node", "server", "origin", "observed_at",
		"received_at"}, "record"}
}

func transactionsTable() table {
	return table{"transactions", []string{"chain", "block", "hash", "number", "tx_index", "sender", "recipient",
		"value", "gas_used", "tx_status", "contract"}, "id"}
}

// chunkRows bounds one statement. Statements come in powers of two only, so that few of them stay prepared.
const chunkRows = 256

// chunk is the biggest power of two that is not above n or chunkRows.
func chunk(n int) int {
	size := chunkRows
	for size > n {
		size /= 2
	}
	return size
}

// statement names a prepared text: an insert of so many rows into a table, or, for lookup, a select of so many keys.
type statement struct {
	table string
	rows  int
}

const lookup = ""

// statements are the prepared texts of the ingest, made once on the store's own pool. All sizes are prepared before
// the first transaction, because within one the pool may have no second connection to prepare on. Run owns them.
type statements map[statement]*sql.Stmt

func (st statements) prepare(ctx context.Context, pool *sql.DB, d dialect) error {
	for size := 1; size <= chunkRows; size *= 2 {
		texts := map[string]string{lookup: selectSQL(size)}
		for _, t := range []table{recordsTable(), observationsTable(), transactionsTable()} {
			texts[t.name] = d.insertSQL(t, size)
		}
		for name, text := range texts {
			stmt, err := pool.PrepareContext(ctx, text) //nolint:sqlclosecheck // kept; close closes it
			if err != nil {
				st.close()
				return fmt.Errorf("prepare ingest: %w", err)
			}
			st[statement{name, size}] = stmt
		}
	}
	return nil
}

func (st statements) close() {
	for key, stmt := range st {
		_ = stmt.Close()
		delete(st, key)
	}
}

func (d dialect) insertSQL(t table, rows int) string {
	marks := "(" + strings.TrimSuffix(strings.Repeat("?,", len(t.columns)), ",") + ")"
	values := strings.TrimSuffix(strings.Repeat(marks+",", rows), ",")
	text := "INSERT INTO " + t.name + " (`" + strings.Join(t.columns, "`,`") + "`) VALUES " + values
	if d == dialectMySQL {
		return text + " ON DUPLICATE KEY UPDATE " + t.keep + " = " + t.keep
	}
	return text + " ON CONFLICT DO NOTHING"
}

func selectSQL(keys int) string {
	return "SELECT id, `key`, token FROM records WHERE chain = ? AND `key` IN (?" + strings.Repeat(",?", keys-1) + ")"
}

// insert writes rows, whose columns lie one after the other in args, and counts those that were not there yet.
func (st statements) insert(ctx context.Context, tx *sql.Tx, t table, args []any) (int, error) {
	inserted, width := 0, len(t.columns)
	for len(args) > 0 {
		rows := chunk(len(args) / width)
		stmt := tx.StmtContext(ctx, st[statement{t.name, rows}]) //nolint:sqlclosecheck // ends with the transaction
		result, err := stmt.ExecContext(ctx, args[:rows*width]...)
		if err != nil {
			return 0, fmt.Errorf("insert %s: %w", t.name, err)
		}
		n, err := result.RowsAffected()
		if err != nil {
			return 0, fmt.Errorf("insert %s: %w", t.name, err)
		}
		inserted += int(n)
		args = args[rows*width:]
	}
	return inserted, nil
}

// stored is what the database says of one key.
type stored struct {
	id    uint64
	token token
}

// find looks up keys of one chain.
func (st statements) find(ctx context.Context, tx *sql.Tx, chain uint64, keys []string) (map[string]stored, error) {
	found := make(map[string]stored, len(keys))
	for len(keys) > 0 {
		n := chunk(len(keys))
		args := make([]any, 0, n+1)
		args = append(args, chain)
		for _, k := range keys[:n] {
			args = append(args, k)
		}
		if err := st.scan(ctx, tx.StmtContext(ctx, st[statement{lookup, n}]), args, found); err != nil {
			return nil, fmt.Errorf("find records: %w", err)
		}
		keys = keys[n:]
	}
	return found, nil
}

func (st statements) scan(ctx context.Context, stmt *sql.Stmt, args []any, into map[string]stored) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			row  stored
			key  string
			mark []byte
		)
		if err := rows.Scan(&row.id, &key, &mark); err != nil {
			return err
		}
		copy(row.token[:], mark)
		into[key] = row
	}
	return rows.Err()
}

// recordArgs appends the row of one offer.
func recordArgs(args []any, p *pending) []any {
	o := p.offer
	payload := o.Payload
	if payload == nil {
		payload = []byte{} // NULL otherwise
	}
	var number, parent, status, blockTime, observedAt, observer, node, origin any
	if h := o.Header; h != nil {
		number, parent, blockTime = h.Number, string(h.Parent.Key()), schema.Micros(h.Time)
		status = string(schema.StatusNonCanonical) // until it is placed, under the lock
		observedAt, observer, node = schema.Micros(o.ObservedAt), o.Observer, o.Node
		origin = string(o.Origin)
	}
	return append(args, o.Chain, string(o.Key), number, parent, status, blockTime, observedAt,
		schema.Micros(o.ReceivedAt), o.ContentType, payload, observer, node, origin, o.Server, o.Remote, p.token[:])
}

// observationArgs appends one row for each observer of the entry, in the order of their names: first arrivals within
// the batch.
func observationArgs(args []any, e *entry) []any {
	seen := map[string]*schema.Offer{}
	var names []string
	for _, p := range e.all {
		if o := p.offer; o.Header != nil && seen[o.Observer] == nil {
			seen[o.Observer] = o
			names = append(names, o.Observer)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		o := seen[name]
		args = append(args, e.id, name, o.Node, o.Server, string(o.Origin), schema.Micros(o.ObservedAt),
			schema.Micros(o.ReceivedAt))
	}
	return args
}

// transactionArgs appends the transactions of one block.
func transactionArgs(args []any, o *schema.Offer) ([]any, error) {
	for i := range o.Transactions {
		t := &o.Transactions[i]
		value, err := wei(t.Value)
		if err != nil {
			return nil, err
		}
		args = append(args, o.Chain, string(o.Key), string(t.Hash.Key()), o.Header.Number, t.Index, t.From.Digits(),
			digits(t.To), value, number(t.GasUsed), number(t.Status), digits(t.Contract))
	}
	return args, nil
}

func digits(a *schema.Address) any {
	if a == nil {
		return nil
	}
	return a.Digits()
}

func number[T uint8 | uint64](n *T) any {
	if n == nil {
		return nil
	}
	return uint64(*n)
}
