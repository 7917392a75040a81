package store

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/firstseen/firstseen/schema"
)

// table is what a prepared insert needs to know. An insert never changes a row that is already there: keep is the
// column that MySQL assigns to itself to say so, and empty where a row that is there is an error. INSERT IGNORE would say
// so too, and also truncate what is too long.
type table struct {
	name    string
	columns []string
	keep    string
}

func recordsTable() table {
	return table{"records", []string{"chain", "key", "number", "parent", "status", "block_time", "observed_at",
		"received_at", "content_type", "payload", "observer", "node", "origin", "server", "remote", "token",
		"fee_recipient", "header"}, "id"}
}

func observationsTable() table {
	return table{"observations", []string{"record", "observer", "node", "server", "origin", "observed_at",
		"received_at"}, "record"}
}

func transactionsTable() table {
	return table{"transactions", []string{"chain", "block", "hash", "number", "tx_index", "sender", "recipient",
		"value", "gas_used", "tx_status", "contract"}, "id"}
}

func rawsTable() table { return table{"raws", []string{"record", "body"}, "record"} }

func feedTable() table {
	return table{"feed", []string{"seq", "kind", "chain", "key", "number", "to_number", "status", "was", "note", "at"}, ""}
}

// chunkRows bounds one statement. Statements come in powers of two only, so that few of them stay prepared, and their
// placeholders stay below the 65,535 that MySQL takes, and SQLite's 32,766.
const chunkRows = 256

// chunk is the biggest power of two that is not above n or chunkRows.
func chunk(n int) int {
	size := chunkRows
	for size > n {
		size /= 2
	}
	return size
}

// statement names a prepared text: an insert of so many rows into a table, a select of so many records by key, or the
// move of the feed's counter.
type statement struct {
	what string
	rows int
}

const (
	inRecords      = "records"
	inObservations = "observations"
	inTransactions = "transactions"
	inRaws         = "raws"
	inFeed         = "feed"
	lookup         = "lookup"
	moveCounter    = "counter"
)

// statements are the prepared texts of the ingest on its own connections, of which there are as many as lanes: a server
// whose max_prepared_stmt_count all stores share holds at most maxStatements for each. All are prepared before the first
// transaction, because within one an in-memory database has no second connection to prepare on.
type statements struct {
	texts map[statement]string

	mu       sync.Mutex // guards prepared until it is complete
	prepared map[statement]*sql.Stmt
}

// maxStatements bounds what one connection of the ingest keeps prepared.
const maxStatements = 6*9 + 1 // six kinds by powers of two from 1 to chunkRows, and the counter

func newStatements(d dialect) *statements {
	texts := map[statement]string{{moveCounter, 1}: d.counterSQL()}
	for size := 1; size <= chunkRows; size *= 2 {
		texts[statement{lookup, size}] = selectSQL(size)
		for _, t := range []table{recordsTable(), observationsTable(), transactionsTable(), rawsTable(), feedTable()} {
			texts[statement{t.name, size}] = d.insertSQL(t, size)
		}
	}
	return &statements{texts: texts}
}

func (st *statements) prepare(ctx context.Context, pool *sql.DB) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.prepared != nil {
		return nil
	}
	made := map[statement]*sql.Stmt{}
	for name, text := range st.texts {
		stmt, err := pool.PrepareContext(ctx, text) //nolint:sqlclosecheck // kept; close closes it
		if err != nil {
			closeAll(made)
			return fmt.Errorf("prepare ingest: %w", err)
		}
		made[name] = stmt
	}
	st.prepared = made
	return nil
}

func (st *statements) close() { closeAll(st.prepared) }

func closeAll(prepared map[statement]*sql.Stmt) {
	for _, stmt := range prepared {
		_ = stmt.Close()
	}
}

func (d dialect) insertSQL(t table, rows int) string {
	marks := "(" + strings.TrimSuffix(strings.Repeat("?,", len(t.columns)), ",") + ")"
	values := strings.TrimSuffix(strings.Repeat(marks+",", rows), ",")
	text := "INSERT INTO " + t.name + " (`" + strings.Join(t.columns, "`,`") + "`) VALUES " + values
	switch {
	case t.keep == "":
		return text
	case d == dialectMySQL:
		return text + " ON DUPLICATE KEY UPDATE " + t.keep + " = " + t.keep
	default:
		return text + " ON CONFLICT DO NOTHING"
	}
}

func selectSQL(keys int) string {
	return "SELECT id, `key`, token FROM records WHERE chain = ? AND `key` IN (?" + strings.Repeat(",?", keys-1) + ")"
}

// counterSQL takes the feed's lock and its next numbers at once.
func (d dialect) counterSQL() string {
	if d == dialectMySQL {
		return "UPDATE feed_counter SET last_seq = LAST_INSERT_ID(last_seq + ?) WHERE id = 1"
	}
	return "UPDATE feed_counter SET last_seq = last_seq + ? WHERE id = 1 RETURNING last_seq"
}

// in is a prepared statement within a transaction, which ends it.
func (st *statements) in(ctx context.Context, tx *sql.Tx, s statement) *sql.Stmt {
	return tx.StmtContext(ctx, st.prepared[s])
}

func (st *statements) exec(ctx context.Context, tx *sql.Tx, s statement, args []any) (sql.Result, error) {
	return st.in(ctx, tx, s).ExecContext(ctx, args...) //nolint:sqlclosecheck // the transaction ends it
}

// insert writes rows, whose columns lie one after the other in args.
func (st *statements) insert(ctx context.Context, tx *sql.Tx, table string, args []any) error {
	width := strings.Count(st.texts[statement{table, 1}], "?")
	for len(args) > 0 {
		rows := chunk(len(args) / width)
		if _, err := st.exec(ctx, tx, statement{table, rows}, args[:rows*width]); err != nil {
			return fmt.Errorf("insert %s: %w", table, err)
		}
		args = args[rows*width:]
	}
	return nil
}

// count takes the feed's lock until the transaction ends, and its next n numbers. It returns the last of them.
func (st *statements) count(ctx context.Context, tx *sql.Tx, n int) (uint64, error) {
	stmt := st.in(ctx, tx, statement{moveCounter, 1}) //nolint:sqlclosecheck // ends with the transaction
	if strings.HasSuffix(st.texts[statement{moveCounter, 1}], "RETURNING last_seq") {
		var last uint64
		if err := stmt.QueryRowContext(ctx, n).Scan(&last); err != nil {
			return 0, fmt.Errorf("lock feed: %w", err)
		}
		return last, nil
	}
	result, err := stmt.ExecContext(ctx, n)
	if err != nil {
		return 0, fmt.Errorf("lock feed: %w", err)
	}
	last, err := result.LastInsertId()
	if err != nil || last < int64(n) {
		return 0, fmt.Errorf("lock feed: counter at %d: %w", last, cmp.Or(err, sql.ErrNoRows))
	}
	return uint64(last), nil
}

// stored is what the database says of one key.
type stored struct {
	id    uint64
	token token
}

// find looks up records of one chain.
func (a *ingest) find(ctx context.Context, entries []*entry) (map[schema.Hash]stored, error) {
	found := make(map[schema.Hash]stored, len(entries))
	for len(entries) > 0 {
		n := chunk(len(entries))
		args := make([]any, 0, n+1)
		args = append(args, entries[0].chain())
		for _, e := range entries[:n] {
			args = append(args, string(e.lead.offer.Key))
		}
		if err := scan(ctx, a.stmts.in(ctx, a.tx, statement{lookup, n}), args, found); err != nil {
			return nil, fmt.Errorf("find records: %w", err)
		}
		entries = entries[n:]
	}
	return found, nil
}

func scan(ctx context.Context, stmt *sql.Stmt, args []any, into map[schema.Hash]stored) error {
	rows, err := stmt.QueryContext(ctx, args...)
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var (
			row       stored
			key, mark sql.RawBytes
			hash      schema.Hash
		)
		if err := rows.Scan(&row.id, &key, &mark); err != nil {
			return err
		}
		if _, err := hex.Decode(hash[:], key); err != nil {
			return fmt.Errorf("key %q: %w", key, err)
		}
		copy(row.token[:], mark)
		into[hash] = row
	}
	return rows.Err()
}

// feedArgs appends one event.
func feedArgs(args []any, r *feedRow) []any {
	return append(args, r.Seq, r.Kind, r.Chain, null(r.Key), null(r.Number), null(r.ToNumber), null(r.Status), null(r.Was),
		null(r.Note), r.At)
}

func null[T any](v *T) any {
	if v == nil {
		return nil
	}
	return *v
}

// recordArgs appends the row of an entry's lead.
func recordArgs(args []any, e *entry) []any {
	o := e.lead.offer
	payload := o.Payload
	if payload == nil {
		payload = []byte{} // NULL otherwise
	}
	var number, parent, status, blockTime, observedAt, observer, node, origin, recipient, header any
	if h := o.Header; h != nil {
		number, parent, blockTime = h.Number, string(h.Parent.Key()), schema.Micros(h.Time)
		status = string(e.wrote())
		observedAt, observer, node = schema.Micros(o.ObservedAt), o.Observer, o.Node
		origin = string(o.Origin)
		if len(o.HeaderRLP) > 0 {
			header = o.HeaderRLP
		}
		if h.FeeRecipient != (schema.Address{}) {
			recipient = h.FeeRecipient.Digits()
		}
	}
	return append(args, o.Chain, string(o.Key), number, parent, status, blockTime, observedAt,
		schema.Micros(o.ReceivedAt), o.ContentType, payload, observer, node, origin, o.Server, o.Remote, e.lead.token[:],
		recipient, header)
}

// observationArgs appends one row for each observer of the entry, in the order of their names: first arrivals within
// the batch.
func observationArgs(args []any, e *entry) []any {
	if e.bare() {
		return args
	}
	seen := e.all
	if len(seen) > 1 {
		seen = slices.Clone(seen)
		slices.SortStableFunc(seen, func(a, b *pending) int { return cmp.Compare(a.offer.Observer, b.offer.Observer) })
		seen = slices.CompactFunc(seen, func(a, b *pending) bool { return a.offer.Observer == b.offer.Observer })
	}
	for _, p := range seen {
		o := p.offer
		args = append(args, e.id, o.Observer, o.Node, o.Server, string(o.Origin), schema.Micros(o.ObservedAt),
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
