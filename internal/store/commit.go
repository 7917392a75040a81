package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// drain is how long a commit that is under way may go on once Run's context has ended.
const drain = 5 * time.Second

// entry is one key of a batch: the offer that inserts it and those folded onto it.
type entry struct {
	lead  *pending
	all   []*pending // the lead and its followers, in order of arrival
	id    uint64     // 0 while nothing needed it
	first bool       // the lead inserted the row
}

func (e *entry) chain() uint64 { return e.lead.offer.Chain }

func (e *entry) height() uint64 {
	if e.lead.offer.Header == nil {
		return 0
	}
	return e.lead.offer.Header.Number
}

// fold joins offers of the same key and sorts by key: writers that lock rows in one order do not deadlock.
func fold(batch []*pending) []*entry {
	type id struct {
		chain uint64
		key   schema.Key
	}
	at := make(map[id]*entry, len(batch))
	entries := make([]*entry, 0, len(batch))
	for _, p := range batch {
		k := id{p.offer.Chain, p.offer.Key}
		e := at[k]
		if e == nil {
			e = &entry{lead: p}
			at[k] = e
			entries = append(entries, e)
		}
		e.all = append(e.all, p)
	}
	slices.SortFunc(entries, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.chain(), b.chain()), cmp.Compare(a.lead.offer.Key, b.lead.offer.Key))
	})
	return entries
}

// committer is the one writer of a store's ingest.
type committer struct {
	store *Store
	stmts statements
}

// settle answers every offer of a batch, in order of arrival.
func (c *committer) settle(ctx context.Context, batch []*pending) {
	answers := make(map[*pending]schema.Settlement, len(batch))
	var good []*pending
	for _, p := range batch {
		if err := screen(p.offer); err != nil {
			answers[p] = schema.Settlement{Outcome: schema.Refused, Reason: err.Error()}
			continue
		}
		good = append(good, p)
	}
	if len(good) > 0 {
		c.answer(ctx, good, answers)
	}
	for _, p := range batch {
		c.store.settle(p, answers[p])
	}
}

// answer commits a batch. When the database refuses it for what is in it, each offer goes alone, so that exactly the
// poison ones are refused and none is refused for having been folded onto one.
func (c *committer) answer(ctx context.Context, batch []*pending, answers map[*pending]schema.Settlement) {
	entries := fold(batch)
	err := c.persist(ctx, entries)
	if err != nil && blamesRows(err) && len(batch) > 1 {
		for _, p := range batch {
			c.answer(ctx, []*pending{p}, answers)
		}
		return
	}
	for _, e := range entries {
		for _, p := range e.all {
			answers[p] = e.settlement(p, err)
		}
	}
}

func (e *entry) settlement(p *pending, err error) schema.Settlement {
	switch {
	case err != nil && blamesRows(err):
		return schema.Settlement{Outcome: schema.Refused, Reason: err.Error()}
	case err != nil:
		return schema.Settlement{Outcome: schema.Unsettled, Reason: err.Error()}
	case e.first && p == e.lead:
		return schema.Settlement{Outcome: schema.First}
	default:
		return schema.Settlement{Outcome: schema.Duplicate}
	}
}

// persist commits the entries, however long the database takes to let it, unless the error blames the rows or ctx
// ends. Every attempt uses the same tokens.
func (c *committer) persist(ctx context.Context, entries []*entry) error {
	s := c.store
	wait := newBackOff()
	lost := false // a COMMIT whose answer was lost: it may hold
	for {
		start := time.Now()
		err := c.attempt(ctx, entries, lost)
		if err == nil {
			s.metrics.commit.Observe(time.Since(start).Seconds())
			s.recovered()
			return nil
		}
		if blamesRows(err) {
			return err
		}
		var unanswered *commitError
		lost = lost || errors.As(err, &unanswered)
		s.stalled(err)
		if pause(ctx, wait.NextBackOff()) != nil {
			return err
		}
	}
}

// commitError is a COMMIT that failed: whether it held is unknown.
type commitError struct{ err error }

func (e *commitError) Error() string { return "commit: " + e.err.Error() }
func (e *commitError) Unwrap() error { return e.err }

func newBackOff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval = 5*time.Millisecond, 2*time.Second
	return b
}

// pause waits, or tells that ctx has ended.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// attempt is one transaction. It goes on for a while after ctx has ended, because a commit that is cut off leaves
// offers unsettled that are stored.
func (c *committer) attempt(ctx context.Context, entries []*entry, lost bool) error {
	ctx, cancel := lateCancel(ctx, drain)
	defer cancel()
	s := c.store
	if len(c.stmts) == 0 {
		if err := c.stmts.prepare(ctx, s.pool, s.dialect); err != nil {
			return err
		}
	}
	return s.transaction(ctx, func(tx *gorm.DB) error {
		inner, ok := tx.Statement.ConnPool.(*sql.Tx)
		if !ok {
			return fmt.Errorf("begin ingest: %T is no transaction", tx.Statement.ConnPool)
		}
		held, err := c.insert(ctx, inner, entries, lost)
		if err != nil || held {
			return err
		}
		if err := s.countClients(tx, entries); err != nil {
			return err
		}
		return c.publish(tx, entries)
	})
}

// insert writes records, observations and transactions and finds out which offers were first. Held means that an
// earlier attempt's COMMIT did hold, so that nothing remains to be done: nothing was inserted now, and there are rows
// with our own tokens.
//
// A batch of nothing but duplicates leaves no such trace. Repeating it is harmless except that it counts its bare
// payloads twice in clients, which are statistics.
func (c *committer) insert(ctx context.Context, tx *sql.Tx, entries []*entry, lost bool) (held bool, err error) {
	var args []any
	for _, e := range entries {
		args = recordArgs(args, e.lead)
	}
	inserted, err := c.stmts.insert(ctx, tx, recordsTable(), args)
	if err != nil {
		return false, err
	}
	if inserted == len(entries) && onlyBare(entries) {
		for _, e := range entries {
			e.first = true
		}
		return false, nil
	}
	if err := c.identify(ctx, tx, entries); err != nil {
		return false, err
	}
	if lost && inserted == 0 && slices.ContainsFunc(entries, func(e *entry) bool { return e.first }) {
		return true, nil
	}
	return false, c.insertDetails(ctx, tx, entries)
}

func onlyBare(entries []*entry) bool {
	return !slices.ContainsFunc(entries, func(e *entry) bool { return e.lead.offer.Header != nil })
}

// identify reads ids and tokens: whose token a row carries was first.
func (c *committer) identify(ctx context.Context, tx *sql.Tx, entries []*entry) error {
	for len(entries) > 0 {
		chain, n := entries[0].chain(), 1
		for n < len(entries) && entries[n].chain() == chain {
			n++
		}
		keys := make([]string, n)
		for i, e := range entries[:n] {
			keys[i] = string(e.lead.offer.Key)
		}
		found, err := c.stmts.find(ctx, tx, chain, keys)
		if err != nil {
			return err
		}
		for i, e := range entries[:n] {
			row, ok := found[keys[i]]
			if !ok {
				return fmt.Errorf("find records: %d %s is neither inserted nor there", chain, keys[i])
			}
			e.id, e.first = row.id, row.token == e.lead.token
		}
		entries = entries[n:]
	}
	return nil
}

// insertDetails writes who else saw the records, and the transactions of the new ones, each in the order of its key.
func (c *committer) insertDetails(ctx context.Context, tx *sql.Tx, entries []*entry) error {
	byID := slices.Clone(entries)
	slices.SortFunc(byID, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	var seen []any
	for _, e := range byID {
		seen = observationArgs(seen, e)
	}
	if _, err := c.stmts.insert(ctx, tx, observationsTable(), seen); err != nil {
		return err
	}
	var (
		args []any
		err  error
	)
	for _, e := range entries {
		if !e.first {
			continue
		}
		if args, err = transactionArgs(args, e.lead.offer); err != nil {
			return err
		}
	}
	_, err = c.stmts.insert(ctx, tx, transactionsTable(), args)
	return err
}

// publish places new blocks and writes the feed, under its lock, which is taken as late as this because every other
// server waits for it until our COMMIT.
func (c *committer) publish(tx *gorm.DB, entries []*entry) error {
	var firsts []*entry
	for _, e := range entries {
		if e.first {
			firsts = append(firsts, e)
		}
	}
	if len(firsts) == 0 {
		return nil
	}
	l, err := openLedger(tx, schema.Micros(c.store.now()))
	if err != nil {
		return err
	}
	if err := place(l, firsts); err != nil {
		return err
	}
	return l.close()
}

// countClients counts bare payloads, duplicates too, by the address that they came from.
func (s *Store) countClients(tx *gorm.DB, entries []*entry) error {
	counts := map[string]uint64{}
	for _, e := range entries {
		for _, p := range e.all {
			if p.offer.Header == nil {
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
	sum := gorm.Expr("clients.count + excluded.count")
	if s.dialect == dialectMySQL {
		sum = gorm.Expr("clients.count + VALUES(count)")
	}
	err := tx.Clauses(clause.OnConflict{
		Columns:   []clause.Column{{Name: "ip"}},
		DoUpdates: clause.Assignments(map[string]any{"count": sum}),
	}).Create(&rows).Error
	if err != nil {
		return fmt.Errorf("count clients: %w", err)
	}
	return nil
}
