package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// explained is one statement with what the database says of how it runs it.
type explained struct {
	sql  string
	plan []string
}

// capture returns the statements that f makes the store run.
func capture(t *testing.T, s *Store, f func(ctx context.Context) error) []explained {
	t.Helper()
	var out []explained
	type statement struct {
		sql  string
		vars []any
	}
	var statements []statement // copied, because gorm empties its own after use
	err := s.db.Callback().Query().After("gorm:query").Register("test:capture", func(tx *gorm.DB) {
		statements = append(statements, statement{tx.Statement.SQL.String(), slices.Clone(tx.Statement.Vars)})
	})
	if err != nil {
		t.Fatal(err)
	}
	err = f(t.Context())
	if removeErr := s.db.Callback().Query().Remove("test:capture"); removeErr != nil {
		t.Fatal(removeErr)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range statements {
		out = append(out, explained{st.sql, plan(t, s, st.sql, st.vars)})
	}
	return out
}

// plan returns the database's plan, a line for each table that the statement reads.
func plan(t *testing.T, s *Store, sql string, vars []any) []string {
	t.Helper()
	prefix := "EXPLAIN "
	if s.dialect == dialectSQLite {
		prefix = "EXPLAIN QUERY PLAN "
	}
	rows, err := s.pool.QueryContext(t.Context(), prefix+sql, vars...)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for rows.Next() {
		values := make([]any, len(columns))
		for i := range values {
			values[i] = new(any)
		}
		if err := rows.Scan(values...); err != nil {
			t.Fatal(err)
		}
		var line strings.Builder
		for i, name := range columns {
			value := *values[i].(*any)
			if text, ok := value.([]byte); ok {
				value = string(text)
			}
			fmt.Fprintf(&line, "%s=%v ", name, value)
		}
		lines = append(lines, line.String())
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return lines
}

// complaint says what is wrong with a line of a plan, or nothing. Sorting is wrong unless the statement may sort.
func complaint(d dialect, line string, maySort bool) string {
	switch {
	case strings.Contains(line, "table=<derived") || strings.Contains(line, "SCAN newest") ||
		strings.Contains(line, "SCAN part") || strings.Contains(line, "SCAN some"):
		return "" // what another line of the plan has found, bounded by its LIMIT
	case strings.Contains(line, "detail=SCAN clients"):
		return "" // a table without rowid is its own index; without a sort it is read in the key's order up to the limit
	case d == dialectSQLite && strings.Contains(line, "SCAN") && !strings.Contains(line, "USING"):
		return "reads a whole table"
	case d == dialectMySQL && !strings.Contains(line, "optimized away") && // answered by one look at the index's end, or empty
		(strings.Contains(line, "type=ALL") || strings.Contains(line, " key=<nil>")):
		return "reads a whole table"
	case !maySort && (strings.Contains(line, "filesort") || strings.Contains(line, "TEMP B-TREE")):
		return "sorts"
	}
	return ""
}

func TestQueriesUseIndexes(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		const blocks = 3000
		sd := &seed{t: t, db: s.db}
		for chain := uint64(1); chain <= 2; chain++ {
			var rows []recordRow
			var transactions []transactionRow
			for n := uint64(1); n <= blocks; n++ {
				r := seedRecord(chain, n, 0, schema.StatusCanonical)
				rows = append(rows, r)
				transactions = append(transactions, seedTransaction(r, 0), seedTransaction(r, 1))
			}
			sd.records(rows...)
			sd.create(transactions)
		}
		var observations []observationRow
		var clients []clientRow
		for i := range uint64(blocks) {
			observations = append(observations, observationRow{Record: i, Observer: "alice", Origin: "head"})
			clients = append(clients, clientRow{IP: fmt.Sprintf("10.0.%d.%d", i/256, i%256), Count: i})
		}
		sd.create(observations)
		sd.create(clients)
		if err := s.db.Exec("INSERT INTO raws (record, body) SELECT id, payload FROM records").Error; err != nil {
			t.Fatal(err)
		}
		analyze := "ANALYZE"
		if s.dialect == dialectMySQL {
			analyze = "ANALYZE TABLE records, observations, transactions, clients, feed, raws"
		}
		if err := s.db.Exec(analyze).Error; err != nil {
			t.Fatal(err)
		}
		place := &schema.BlockPlace{Number: blocks / 2, Chain: 2, ID: blocks}
		key := seedHash(1, 5, 0).Key()
		hot, five := account(0xaa), uint64(5)
		for name, q := range map[string]struct {
			maySort bool
			bounded bool // must read a range that is bounded on both sides, not all of a chain
			run     func(ctx context.Context) error
		}{
			"newest blocks": {run: func(ctx context.Context) error {
				return errOf2(s.ListBlocks(ctx, []uint64{1, 2}, schema.RecordFilter{}, false, nil, 20))
			}},
			"blocks after one": {bounded: true, run: func(ctx context.Context) error {
				return errOf2(s.ListBlocks(ctx, []uint64{1, 2, 3}, schema.RecordFilter{}, false, place, 20))
			}},
			"blocks by what no index serves": {run: func(ctx context.Context) error {
				f := schema.RecordFilter{Observer: "nobody", Statuses: []schema.Status{schema.StatusSafe}, From: &five}
				return errOf2(s.ListBlocks(ctx, []uint64{1, 2}, f, false, place, 20))
			}},
			"oldest blocks": {run: func(ctx context.Context) error {
				return errOf2(s.ListBlocks(ctx, []uint64{1, 2}, schema.RecordFilter{From: &five}, true, nil, 20))
			}},
			"newest records": {run: func(ctx context.Context) error {
				return errOf2(s.ListRecords(ctx, schema.RecordFilter{}, false, nil, 20))
			}},
			"records after one": {run: func(ctx context.Context) error {
				after := &schema.RecordPlace{ReceivedAt: 12e9, ID: blocks}
				return errOf2(s.ListRecords(ctx, schema.RecordFilter{}, true, after, 20))
			}},
			"records by what no index serves": {run: func(ctx context.Context) error {
				since := schema.FromMicros(12e9)
				f := schema.RecordFilter{Chain: &five, Since: &since, Node: "nobody", From: &five}
				return errOf2(s.ListRecords(ctx, f, false, nil, 20))
			}},
			"page of records": {run: func(ctx context.Context) error { return errOf(s.PageRecords(ctx, 2000, 20)) }},
			// What created a contract is sorted: it is one transaction in the block and perhaps in siblings.
			"account's transactions": {maySort: true, run: func(ctx context.Context) error {
				f := schema.TransactionFilter{Account: hot, Chains: []uint64{1, 2}}
				return errOf2(s.ListTransactions(ctx, f, false, &schema.TransactionPlace{Number: 1500, Chain: 2}, 20))
			}},
			"account's transactions, sent": {run: func(ctx context.Context) error {
				f := schema.TransactionFilter{
					Account: hot, Chains: []uint64{1, 2}, Roles: []schema.AccountRole{schema.RoleSender},
					MinValue: make([]byte, 32), Recipient: &hot, Statuses: []schema.Status{schema.StatusSafe}, To: &five,
				}
				return errOf2(s.ListTransactions(ctx, f, true, nil, 20))
			}},
			"page of account's transactions": {maySort: true, run: func(ctx context.Context) error {
				f := schema.TransactionFilter{Account: hot, Chains: []uint64{1, 2}}
				return errors.Join(errOf2(s.PageTransactions(ctx, f, false, 100, 20)), errOf(s.CountTransactions(ctx, f, 100)))
			}},
			"account":    {maySort: true, run: func(ctx context.Context) error { return errOf(s.AccountOn(ctx, 1, hot, 100)) }},
			"feed":       {run: func(ctx context.Context) error { return errOf(s.Feed(ctx, 100, 100)) }},
			"feed's end": {run: func(ctx context.Context) error { return errOf(s.FeedEnd(ctx)) }},
			"addresses of blocks": {run: func(ctx context.Context) error {
				return errOf(s.BlockAddresses(ctx, []schema.Key{key}))
			}},
			"recent records": {maySort: true, run: func(ctx context.Context) error {
				return errOf(s.Recent(ctx, schema.FromMicros(12*(blocks-100)*1e6), 50))
			}},
			"sightings": {run: func(ctx context.Context) error { return errOf(s.Sightings(ctx, nil, 100)) }},
			"sightings on a chain": {run: func(ctx context.Context) error {
				return errOf(s.Sightings(ctx, ptr(uint64(1)), 100))
			}},
			"page of blocks": {run: func(ctx context.Context) error { return errOf(s.PageBlocks(ctx, 1, 2000, 20)) }},
			"by key": {run: func(ctx context.Context) error {
				return errOf(s.RecordsByKey(ctx, key, []uint64{0, 1, 2}))
			}},
			"by number":    {run: func(ctx context.Context) error { return errOf(s.BlocksAt(ctx, 1, 5)) }},
			"payload":      {run: func(ctx context.Context) error { return errOf(s.Payload(ctx, 5)) }},
			"raws":         {run: func(ctx context.Context) error { return errOf(s.Raws(ctx, 1, []schema.Key{key, key})) }},
			"arrivals":     {run: func(ctx context.Context) error { return errOf(s.Arrivals(ctx, 5)) }},
			"transactions": {run: func(ctx context.Context) error { return errOf(s.TransactionsOf(ctx, key)) }},
			"newest keys":  {run: func(ctx context.Context) error { return errOf(s.NewestKeys(ctx, 100)) }},
			"clients":      {run: func(ctx context.Context) error { return errOf(s.Clients(ctx, 100)) }},
			"observations": {run: func(ctx context.Context) error { return errOf(s.CountObservations(ctx)) }},
			// These group the few rows that they find.
			"transaction counts": {maySort: true, run: func(ctx context.Context) error {
				return errOf(s.TransactionCounts(ctx, []schema.Key{key}))
			}},
			"tally": {maySort: true, run: func(ctx context.Context) error { return errOf(s.Tally(ctx, 100, 200)) }},
		} {
			for _, e := range capture(t, s, q.run) {
				if strings.Contains(e.sql, "feed_counter") || strings.Contains(e.sql, "`replica`") {
					continue // one row, or none
				}
				for _, line := range e.plan {
					c := complaint(s.dialect, line, q.maySort)
					if q.bounded && s.dialect == dialectMySQL && strings.Contains(line, "type=ref") {
						c = "reads a whole chain"
					}
					if c != "" {
						t.Errorf("%s %s: %s\n\t%s", name, c, e.sql, line)
					}
				}
			}
		}
	})
}

func errOf[T any](_ T, err error) error { return err }

func errOf2[T, U any](_ T, _ U, err error) error { return err }
