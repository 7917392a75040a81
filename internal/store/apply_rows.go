package store

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm/clause"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/firstseen/firstseen/schema"
)

// The tables as a replica writes them: with the writer's ids, and with what retention did there.

func shippedTable() table {
	t := recordsTable()
	return table{"records", append([]string{"id"}, append(t.columns, "payload_pruned_at")...), ""}
}

func shippedTransactionsTable() table {
	t := transactionsTable()
	return table{"transactions", append([]string{"id"}, t.columns...), "id"}
}

// indexBits is how far a record's id is shifted in the ids of its transactions, which are its own with the index.
const indexBits = 20

// newApplyStatements are the statements of Apply. Each inserts one row: of an insert of many, SQLite keeps a journal of
// every page that it touches, so that nothing would be left of that statement alone, and that costs more than it saves.
func newApplyStatements() *statements {
	texts := map[statement]string{}
	for size := 1; size <= chunkRows; size *= 2 {
		texts[statement{lookup, size}] = placedSQL(size)
	}
	for _, t := range []table{shippedTable(), observationsTable(), shippedTransactionsTable(), rawsTable(), feedTable()} {
		texts[statement{t.name, 1}] = dialectSQLite.insertSQL(t, 1)
	}
	return &statements{texts: texts}
}

func placedSQL(keys int) string {
	return "SELECT id, `key`, number, parent, status FROM records WHERE chain = ? AND `key` IN (?" + strings.Repeat(",?", keys-1) + ")"
}

// branching returns what is known of a chain.
func (a *application) branching(id uint64) (*branching, error) {
	if c := a.chains[id]; c != nil {
		return c, nil
	}
	row, err := readChain(a.db, id)
	if err != nil {
		return nil, err
	}
	c := &branching{db: a.db, id: id, row: row, blocks: map[string]*placed{}}
	a.chains[id] = c
	return c, nil
}

// microsOf is NULL for no time.
func microsOf(t *time.Time) any {
	if t == nil {
		return nil
	}
	return schema.Micros(*t)
}

// load reads at once what the rows are about and is stored already.
func (a *application) load() error {
	wanted := map[uint64][]string{}
	fresh := map[recordName]bool{} // not stored, or wanted already
	want := func(chain uint64, key schema.Key) {
		if name := (recordName{chain, key}); !fresh[name] {
			fresh[name] = true
			wanted[chain] = append(wanted[chain], string(key))
		}
	}
	for i := range a.Rows {
		r := &a.Rows[i]
		if a.told.skips(r.Chain, r.Seq) {
			continue
		}
		if r.Record != nil && !a.told.isForeign(r.Chain, heightOf(r)) {
			fresh[recordName{r.Chain, r.Key}] = true
		} else if r.Key != "" {
			want(r.Chain, r.Key)
		}
		if _, err := a.branching(r.Chain); err != nil {
			return err
		}
	}
	for i := range a.Sightings {
		want(a.Sightings[i].Chain, a.Sightings[i].Key)
	}
	for id, c := range a.chains {
		if c.row != nil {
			want(id, schema.Key(c.row.HeadKey))
		}
	}
	for chain, keys := range wanted {
		if err := a.lookUp(chain, keys); err != nil {
			return err
		}
	}
	for _, c := range a.chains {
		if c.row != nil {
			head := c.blocks[c.row.HeadKey]
			c.bare = head == nil || !head.status.OnBranch()
		}
	}
	return nil
}

type recordName struct {
	chain uint64
	key   schema.Key
}

// lookUp reads the blocks of one chain that are stored under the given keys.
func (a *application) lookUp(chain uint64, keys []string) error {
	c, err := a.branching(chain)
	if err != nil {
		return err
	}
	for len(keys) > 0 {
		n := chunk(len(keys))
		args := make([]any, 0, n+1)
		args = append(args, chain)
		for _, key := range keys[:n] {
			args = append(args, key)
		}
		if err := a.scanPlaced(a.stmts.in(a.ctx, a.tx, statement{lookup, n}), args, c); err != nil {
			return fmt.Errorf("find blocks: %w", err)
		}
		keys = keys[n:]
	}
	return nil
}

func (a *application) scanPlaced(stmt *sql.Stmt, args []any, c *branching) (err error) {
	rows, err := stmt.QueryContext(a.ctx, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var (
			b      placed
			number sql.Null[uint64]
			parent sql.NullString
			status sql.NullString
		)
		if err := rows.Scan(&b.id, &b.key, &number, &parent, &status); err != nil {
			return err
		}
		b.number, b.parent, b.status = number.V, parent.String, schema.Status(status.String)
		c.blocks[b.key] = &b
	}
	return rows.Err()
}

// writeRecords inserts the new records with the status that they have after the last row, and what hangs on them.
func (a *application) writeRecords() error {
	if err := a.renumber(); err != nil {
		return err
	}
	records := make([]any, 0, len(a.fresh)*len(shippedTable().columns))
	var seen, transactions, raws []any
	for _, b := range a.fresh {
		var err error
		records, seen = shippedArgs(records, b), firstArgs(seen, b)
		if transactions, err = shippedTransactionArgs(transactions, b); err != nil {
			return fmt.Errorf("record %s: %w", b.key, err)
		}
		if len(b.fresh.Raw) > 0 {
			raws = append(raws, b.id, b.fresh.Raw)
		}
	}
	n, err := a.insert(inRecords, records)
	if sqliteCode(err) == sqlite3.SQLITE_CONSTRAINT {
		return a.cannotStore(a.fresh[n], err)
	}
	if err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		args []any
	}{{inObservations, seen}, {inTransactions, transactions}, {inRaws, raws}} {
		if _, err := a.insert(t.name, t.args); err != nil {
			return err
		}
	}
	return nil
}

// cannotStore tells which record it is that the tables do not take.
func (a *application) cannotStore(b *placed, err error) error {
	for i := range a.Rows {
		if a.Rows[i].Record == b.fresh {
			return &Contradiction{a.Rows[i].FeedEvent, fmt.Sprintf("its record, id %d, is stored already or does not fit: %v", b.id, err)}
		}
	}
	return err
}

func shippedArgs(args []any, b *placed) []any {
	r := b.fresh
	payload := r.Payload
	if payload == nil {
		payload = []byte{} // NULL otherwise
	}
	var header, recipient, observer, node, origin any
	if r.Number != nil {
		observer, node, origin = r.Observer, r.Node, string(r.Origin)
		recipient = digits(r.FeeRecipient)
		if len(r.Header) > 0 {
			header = []byte(r.Header)
		}
	}
	var parent any
	if r.Parent != nil {
		parent = string(r.Parent.Key())
	}
	return append(args, b.id, r.Chain, string(r.Key), number(r.Number), parent, null(text(b.status)), microsOf(r.Time),
		microsOf(r.ObservedAt), schema.Micros(r.ReceivedAt), r.ContentType, payload, observer, node, origin, r.Server,
		r.Remote, noToken[:], recipient, header, microsOf(r.PrunedAt))
}

// firstArgs appends the observation of who was first, which the record tells.
func firstArgs(args []any, b *placed) []any {
	r := b.fresh
	if r.Number == nil || r.ObservedAt == nil {
		return args
	}
	return append(args, b.id, r.Observer, r.Node, r.Server, string(r.Origin), schema.Micros(*r.ObservedAt),
		schema.Micros(r.ReceivedAt))
}

// noToken stands where the writer keeps the mark of the offer that was first: nothing of a replica asks for it.
var noToken token

func shippedTransactionArgs(args []any, b *placed) ([]any, error) {
	r := b.fresh
	for i := range r.Transactions {
		t := &r.Transactions[i]
		value, err := wei(t.Value)
		if err != nil {
			return nil, err
		}
		if t.Index >= 1<<indexBits {
			return nil, fmt.Errorf("transaction %d of one block", t.Index)
		}
		args = append(args, b.id<<indexBits|uint64(t.Index), r.Chain, string(r.Key), string(t.Hash.Key()), number(r.Number),
			t.Index, t.From.Digits(), digits(t.To), value, number(t.GasUsed), number(t.Status), digits(t.Contract))
	}
	return args, nil
}

// writeSightings adds those of stored records. One that is told again changes nothing.
func (a *application) writeSightings() error {
	var args []any
	for i := range a.Sightings {
		t := &a.Sightings[i]
		c := a.chains[t.Chain]
		if c == nil || c.blocks[string(t.Key)] == nil {
			continue
		}
		args = append(args, c.blocks[string(t.Key)].id, t.Observer, t.Node, t.Server, string(t.Origin),
			schema.Micros(t.ObservedAt), schema.Micros(t.ReceivedAt))
	}
	_, err := a.insert(inObservations, args)
	return err
}

// writeStatuses changes the statuses of blocks that were stored before.
func (a *application) writeStatuses() error {
	ids := map[schema.Status][]uint64{}
	for _, c := range a.chains {
		for _, b := range c.blocks {
			if b != nil && b.changed && b.fresh == nil {
				ids[b.status] = append(ids[b.status], b.id)
			}
		}
	}
	for status, some := range ids {
		slices.Sort(some)
		if err := updateStatus(a.db, some, status); err != nil {
			return err
		}
	}
	return nil
}

// writeFeed appends the rows to the local feed, with the writer's times.
func (a *application) writeFeed() error {
	if len(a.events) == 0 {
		return nil
	}
	args := make([]any, 0, len(a.events)*len(feedTable().columns))
	for i := range a.events {
		r := &a.events[i]
		args = append(args, r.Seq, string(r.Kind), r.Chain, word(r.Key), number(r.Number), number(r.To), word(r.Status),
			word(r.Was), word(r.Note), schema.Micros(r.At))
	}
	if _, err := a.insert(inFeed, args); err != nil {
		return err
	}
	err := a.db.Model(&counterRow{}).Where("id = 1").UpdateColumn("last_seq", a.seq).Error
	if err != nil {
		return fmt.Errorf("move feed counter: %w", err)
	}
	return nil
}

// word is NULL for empty text.
func word[T ~string](s T) any {
	if s == "" {
		return nil
	}
	return string(s)
}

func (a *application) writeChains() error {
	for _, c := range a.chains {
		if !c.moved {
			continue
		}
		if err := a.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(c.row).Error; err != nil {
			return fmt.Errorf("save chain %d: %w", c.id, err)
		}
	}
	return nil
}

func (a *application) writePlace() error { return a.After.save(a.db, a.at) }
