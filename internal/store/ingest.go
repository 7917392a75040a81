package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// attempt is one transaction. It goes on for a while after ctx has ended, because a commit that is cut off leaves
// offers unsettled that are stored.
func (c *committer) attempt(ctx context.Context, f *flight, entries []*entry, lost bool) error {
	ctx, cancel := lateCancel(ctx, drain)
	defer cancel()
	s := c.store
	if err := c.stmts.prepare(ctx, s.ingest); err != nil {
		return err
	}
	var (
		after map[uint64]*chainRow
		end   uint64
	)
	err := s.transactionOn(ctx, s.writes, func(tx *gorm.DB) error {
		inner, ok := tx.Statement.ConnPool.(*sql.Tx)
		if !ok {
			return fmt.Errorf("begin ingest: %T is no transaction", tx.Statement.ConnPool)
		}
		a := &ingest{committer: c, db: tx, tx: inner, entries: entries}
		if err := a.insert(ctx); err != nil {
			return err
		}
		if lost {
			if held, err := a.held(); err != nil || held {
				return err
			}
		}
		if err := a.insertDetails(ctx); err != nil {
			return err
		}
		if err := f.takeTurn(ctx, a.clean); err != nil {
			return err
		}
		if err := a.countClients(); err != nil {
			return err
		}
		var err error
		after, err = a.publish(ctx)
		f.misled = f.misled || a.misled
		end = a.end
		return err
	})
	if err == nil {
		maps.Copy(f.chains, after)
		s.tell(end)
	}
	return err
}

// ingest is one batch in one transaction.
type ingest struct {
	*committer
	db      *gorm.DB
	tx      *sql.Tx // db's own
	entries []*entry

	inserted int    // records
	clean    bool   // every record but the known ones was inserted now
	misled   bool   // a status was not as guessed
	end      uint64 // seq of the last feed row written, 0 if none was
}

// insert writes the records that are not known to be there, and finds out ids and which offers were first.
func (a *ingest) insert(ctx context.Context) error {
	fresh := those(a.entries, func(e *entry) bool { return !e.lead.known })
	for rest := fresh; len(rest) > 0; {
		n := chunk(len(rest))
		if err := a.insertRecords(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	a.clean = a.inserted == len(fresh)
	return nil
}

// insertRecords writes as many records as one statement takes.
func (a *ingest) insertRecords(ctx context.Context, entries []*entry) error {
	args := make([]any, 0, len(entries)*len(recordsTable().columns))
	for _, e := range entries {
		args = recordArgs(args, e)
	}
	result, err := a.stmts.exec(ctx, a.tx, statement{inRecords, len(entries)}, args)
	if err != nil {
		return fmt.Errorf("insert records: %w", err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return fmt.Errorf("insert records: %w", err)
	}
	a.inserted += int(n)
	if int(n) == len(entries) {
		known, err := a.numbered(ctx, result, entries)
		if err != nil || known {
			return err
		}
	}
	return a.identify(ctx, entries)
}

// numbered gives entries that were all inserted by one statement their ids, if those run on from one to the next: if
// the last is as far from the first as there are rows between, which one look tells. A server that counts in other
// steps, or that gives out ids of one statement in several pieces, makes it false.
func (a *ingest) numbered(ctx context.Context, result sql.Result, entries []*entry) (bool, error) {
	end, err := result.LastInsertId() // MySQL tells the first, SQLite the last
	if err != nil {
		return false, fmt.Errorf("insert records: %w", err)
	}
	span := uint64(len(entries) - 1)
	low, other := uint64(end), len(entries)-1
	if a.store.dialect == dialectSQLite {
		low, other = uint64(end)-span, 0
	}
	if span > 0 && !onlyBare(entries) {
		found, err := a.find(ctx, entries[other:other+1])
		if err != nil {
			return false, err
		}
		if want := low + uint64(other); found[entries[other].lead.key.hash].id != want {
			return false, nil
		}
	}
	for i, e := range entries {
		e.id, e.first = low+uint64(i), true
	}
	return true, nil
}

// onlyBare tells whether there are only bare payloads, whose ids nothing needs.
func onlyBare(entries []*entry) bool {
	return !slices.ContainsFunc(entries, func(e *entry) bool { return !e.bare() })
}

// identify reads ids and tokens: whose token a row carries was first.
func (a *ingest) identify(ctx context.Context, entries []*entry) error {
	for len(entries) > 0 {
		n := 1
		for n < len(entries) && entries[n].chain() == entries[0].chain() {
			n++
		}
		found, err := a.find(ctx, entries[:n])
		if err != nil {
			return err
		}
		for _, e := range entries[:n] {
			row, ok := found[e.lead.key.hash]
			if !ok {
				return fmt.Errorf("find records: %d %s is neither inserted nor there", e.chain(), e.lead.offer.Key)
			}
			e.id, e.first = row.id, row.token == e.lead.token
		}
		entries = entries[n:]
	}
	return nil
}

// held tells whether an earlier attempt's COMMIT, whose answer was lost, did hold: nothing was inserted now, and there
// are rows with our own tokens or, where there was nothing to insert, the mark that the attempt left.
func (a *ingest) held() (bool, error) {
	if a.inserted > 0 {
		return false, nil
	}
	if slices.ContainsFunc(a.entries, func(e *entry) bool { return e.first }) {
		return true, nil
	}
	var marks []markRow
	err := a.db.Where("writer = ? AND batch = ?", a.store.writer[:], a.mark()).Find(&marks).Error
	if err != nil {
		return false, fmt.Errorf("read ingest mark: %w", err)
	}
	return len(marks) > 0, nil
}

// mark names the batch: the same in every attempt, and another for any other batch.
func (a *ingest) mark() []byte { return a.entries[0].lead.token[:] }

// insertDetails writes who else saw the records, and transactions and raw JSON of the new ones, each in the order of its
// key.
func (a *ingest) insertDetails(ctx context.Context) error {
	byID := slices.Clone(a.entries)
	slices.SortFunc(byID, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	seen := make([]any, 0, len(a.entries)*len(observationsTable().columns))
	for _, e := range byID {
		seen = observationArgs(seen, e)
	}
	if err := a.stmts.insert(ctx, a.tx, inObservations, seen); err != nil {
		return err
	}
	var (
		args, raws []any
		err        error
	)
	for _, e := range byID {
		if e.first && e.lead.offer.Raw != nil {
			raws = append(raws, e.id, e.lead.offer.Raw)
		}
	}
	if err := a.stmts.insert(ctx, a.tx, inRaws, raws); err != nil {
		return err
	}
	for _, e := range a.entries {
		if !e.first {
			continue
		}
		if args, err = transactionArgs(args, e.lead.offer); err != nil {
			return err
		}
	}
	return a.stmts.insert(ctx, a.tx, inTransactions, args)
}

// publish places new blocks and writes the feed, under its lock, which is taken as late as this because every other
// server waits for it until our COMMIT. It tells where chains stand after that.
func (a *ingest) publish(ctx context.Context) (map[uint64]*chainRow, error) {
	firsts := those(a.entries, func(e *entry) bool { return e.first })
	if len(firsts) == 0 {
		return nil, nil
	}
	last, err := a.stmts.count(ctx, a.tx, len(firsts))
	if err != nil {
		return nil, err
	}
	l := &ledger{tx: a.db, at: schema.Micros(a.store.now()), last: last - uint64(len(firsts))}
	p := &placing{ledger: l, after: map[uint64]*chainRow{}}
	if err := p.place(firsts); err != nil {
		return nil, err
	}
	if l.last != last {
		return nil, fmt.Errorf("insert feed: %d rows for %d records", len(l.rows), len(firsts))
	}
	a.misled, a.end = p.misled, last
	args := make([]any, 0, len(l.rows)*len(feedTable().columns))
	for i := range l.rows {
		args = feedArgs(args, &l.rows[i])
	}
	return p.after, a.stmts.insert(ctx, a.tx, inFeed, args)
}

// countClients counts bare payloads, duplicates too, by the address that they came from. When nothing else tells a
// second attempt that this one's COMMIT held, it leaves a mark: a count, unlike all the rest, must not be repeated.
func (a *ingest) countClients() error {
	counts := map[string]uint64{}
	for _, e := range a.entries {
		for _, p := range e.all {
			if e.bare() && p.offer.Remote != "" { // what was imported came from no address
				counts[p.offer.Remote]++
			}
		}
	}
	if len(counts) == 0 {
		return nil
	}
	rows := make([]clientRow, 0, len(counts))
	for ip, n := range counts {
		rows = append(rows, clientRow{IP: ip, Count: n})
	}
	slices.SortFunc(rows, func(a, b clientRow) int { return cmp.Compare(a.IP, b.IP) })
	err := a.db.Clauses(a.store.dialect.countClients()).Create(&rows).Error
	if err != nil {
		return fmt.Errorf("count clients: %w", err)
	}
	if a.inserted > 0 {
		return nil
	}
	a.store.marked.Store(true)
	mark := markRow{Writer: a.store.writer[:], Batch: a.mark(), At: schema.Micros(a.store.now())}
	if err := a.db.Clauses(clause.OnConflict{UpdateAll: true}).Create(&mark).Error; err != nil {
		return fmt.Errorf("mark ingest: %w", err)
	}
	return nil
}

// countClients adds to the counts that are there.
func (d dialect) countClients() clause.OnConflict {
	sum := gorm.Expr("clients.count + excluded.count")
	if d == dialectMySQL {
		sum = gorm.Expr("clients.count + VALUES(count)")
	}
	return clause.OnConflict{
		Columns: []clause.Column{{Name: "ip"}}, DoUpdates: clause.Assignments(map[string]any{"count": sum}),
	}
}

// forgetMarks deletes this store's mark, if it left any, and those of stores that have long ended.
func (s *Store) forgetMarks(ctx context.Context) {
	if !s.marked.Load() {
		return
	}
	ctx, cancel := lateCancel(ctx, drain)
	defer cancel()
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		old := schema.Micros(s.now()) - markAge.Microseconds()
		return tx.Where("writer = ? OR at < ?", s.writer[:], old).Delete(&markRow{}).Error
	})
	if err != nil {
		s.log.WithError(err).Debug("ingest mark left behind") // a later store deletes it
	}
}
