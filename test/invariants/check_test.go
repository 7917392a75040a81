package invariants_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/server"
	"github.com/firstseen/firstseen/test/invariants"
)

// mutants are what a wrong program could leave behind: in its database, by SQL, or in what it said. Words in capitals
// stand for blocks of the run.
var mutants = []struct {
	name  string
	rule  invariants.Rule
	sql   []string
	spoil func(*invariants.Evidence)
}{
	{name: "a block is skipped", rule: invariants.Once, sql: []string{"DELETE FROM records WHERE `key` = 'HEAD'"}},
	{name: "a block is stored twice", rule: invariants.Once, sql: []string{
		"CREATE TABLE doubled AS SELECT * FROM records", "DROP TABLE records",
		"INSERT INTO doubled SELECT * FROM doubled WHERE `key` = 'HEAD'", "ALTER TABLE doubled RENAME TO records"}},
	{name: "a payload is cut off", rule: invariants.Shown,
		sql: []string{"UPDATE records SET payload = substr(payload, 1, 100) WHERE `key` = 'HEAD'"}},
	{name: "a header was not hashed again", rule: invariants.Shown,
		sql: []string{"UPDATE records SET `key` = 'FORGED' WHERE `key` = 'REPLACED'", "UPDATE feed SET `key` = 'FORGED' WHERE `key` = 'REPLACED'"}},
	{name: "a block has the number of another", rule: invariants.Shown,
		sql: []string{"UPDATE records SET number = number - 1 WHERE `key` = 'HEAD'"}},
	{name: "an acked block is lost", rule: invariants.Durable, sql: []string{"DELETE FROM records WHERE `key` = 'REPLACED'"}},
	{name: "an acked observation is lost", rule: invariants.Durable, sql: []string{"DELETE FROM observations WHERE observer = 'bob'"}},
	{name: "an ack came before its commit", rule: invariants.Order,
		spoil: func(e *invariants.Evidence) { x := &e.Exchanges[0]; x.Early = x.Offers[:1] }},
	{name: "who was first is overwritten", rule: invariants.Immutable, sql: []string{"UPDATE records SET observer = 'mallory'"}},
	{name: "a row is replaced", rule: invariants.Immutable, sql: []string{"UPDATE records SET token = randomblob(16)"}},
	{name: "two offers of one block are told first", rule: invariants.Counts, spoil: func(e *invariants.Evidence) {
		for i := range e.Exchanges {
			for n := range e.Exchanges[i].Outcomes {
				e.Exchanges[i].Outcomes[n] = wire.FlagFirst
			}
		}
	}},
	{name: "nobody is told first", rule: invariants.Counts, spoil: func(e *invariants.Evidence) {
		for i := range e.Exchanges {
			for n := range e.Exchanges[i].Outcomes {
				e.Exchanges[i].Outcomes[n] = wire.FlagDuplicate
			}
		}
	}},
	{name: "a row that nobody offered", rule: invariants.Counts, spoil: func(e *invariants.Evidence) {
		e.Exchanges = []invariants.Exchange{{Observer: "alice"}}
	}},
	{name: "frames are settled that were not sent", rule: invariants.Protocol,
		spoil: func(e *invariants.Evidence) {
			e.Exchanges[1].Broken = []string{"ack of 2 frames up to 9, where 3 of 4 are settled"}
		}},
	{name: "the mark of a reorganisation is skipped", rule: invariants.Statuses,
		sql: []string{"UPDATE records SET status = 'canonical' WHERE `key` = 'REPLACED'"}},
	{name: "a head stays off the branch", rule: invariants.Statuses,
		sql: []string{"UPDATE records SET status = 'non_canonical' WHERE `key` = 'HEAD'"}},
	{name: "a change of status is not in the feed", rule: invariants.FeedWhole, sql: []string{"DELETE FROM feed WHERE kind = 'status'"}},
	{name: "a block is not in the feed", rule: invariants.FeedWhole,
		sql: []string{"DELETE FROM feed WHERE seq = (SELECT MAX(seq) FROM feed WHERE kind = 'block' AND `key` = 'HEAD')"}},
	{name: "a seq is used twice", rule: invariants.FeedWhole, sql: []string{
		"CREATE TABLE doubled AS SELECT * FROM feed", "DROP TABLE feed", "INSERT INTO doubled SELECT * FROM doubled WHERE seq = 3",
		"ALTER TABLE doubled RENAME TO feed"}},
	{name: "the feed adds a block twice", rule: invariants.FeedWhole, sql: []string{
		"INSERT INTO feed (seq, kind, chain, `key`, number, status, at) " +
			"SELECT (SELECT MAX(seq) + 1 FROM feed), kind, chain, `key`, number, status, at FROM feed WHERE kind = 'block' LIMIT 1"}},
	{name: "a chain is halted", rule: invariants.FeedWhole, sql: []string{
		"INSERT INTO feed (seq, kind, chain, note, at) SELECT MAX(seq) + 1, 'alarm', 1337, 'halted', 0 FROM feed"}},
}

func TestEachMutantIsCaught(t *testing.T) {
	t.Parallel()
	r := newRun(t, []string{"alice", "bob"}, honest)
	ctx := t.Context()
	r.step(r.chain.Mine(ctx, 3))
	r.rest(unbroken)
	r.evidence.Earlier = []invariants.Tables{r.evidence.Tables}
	replaced := r.chain.Head().Hash
	r.step(r.chain.Reorg(ctx, 2))
	r.rest(unbroken)
	r.step(r.chain.Mine(ctx, 1))
	r.rest(func(e invariants.Evidence) error {
		for _, row := range e.Tables.Rows {
			if len(row.Observers) == 0 {
				return fmt.Errorf("nobody saw block %d", row.Number)
			}
		}
		if counts := outcomes(e); counts[wire.FlagFirst] != len(e.Tables.Rows) || counts[wire.FlagDuplicate] == 0 {
			return fmt.Errorf("%v for %d blocks", counts, len(e.Tables.Rows))
		}
		return unbroken(e)
	})
	words := strings.NewReplacer("HEAD", string(r.chain.Head().Hash.Key()), "REPLACED", string(replaced.Key()),
		"FORGED", strings.Repeat("f", 64))
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			e := r.evidence
			if e.Exchanges = r.recorder.Exchanges(); m.spoil != nil {
				m.spoil(&e)
			}
			if m.sql != nil {
				e.Tables = doctored(t, r, words, m.sql)
			}
			found := invariants.Check(e)
			if !slices.ContainsFunc(found, func(v invariants.Violation) bool { return v.Rule == m.rule }) {
				t.Errorf("%q is not among the violations: %v", m.rule, found.Err())
			}
		})
	}
}

func outcomes(e invariants.Evidence) map[byte]int {
	n := map[byte]int{}
	for _, x := range e.Exchanges {
		for _, outcome := range x.Outcomes {
			n[outcome]++
		}
	}
	return n
}

// doctored are the tables of a copy of the run's database after some statements.
func doctored(t *testing.T, r *run, words *strings.Replacer, statements []string) invariants.Tables {
	t.Helper()
	path := filepath.Join(t.TempDir(), "copy.db")
	if _, err := r.db.ExecContext(t.Context(), "VACUUM INTO ?", path); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	db := openTables(t, path)
	for _, stmt := range statements {
		result, err := db.ExecContext(t.Context(), words.Replace(stmt))
		if err != nil {
			t.Fatalf("%s: %v", stmt, err)
		}
		if n, err := result.RowsAffected(); err != nil || n == 0 && !strings.HasPrefix(stmt, "DROP") && !strings.Contains(stmt, "TABLE") {
			t.Fatalf("%s changes nothing: %v", stmt, err)
		}
	}
	tables, err := invariants.ReadTables(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return tables
}

// hasty is a store that answers before it commits.
type hasty struct{ server.Store }

// Offer implements server.Store.
func (h hasty) Offer(_ context.Context, _ *schema.Offer, done func(schema.Settlement)) error {
	go done(schema.Settlement{Outcome: schema.First}) // and never stores it: the worst a power cut could make of it
	return nil
}

func TestAServerThatAcksBeforeItCommitsIsCaught(t *testing.T) {
	t.Parallel()
	r := newRun(t, []string{"alice"}, func(s server.Store) server.Store { return hasty{s} })
	r.step(r.chain.Mine(t.Context(), 2))
	r.rest(func(e invariants.Evidence) error {
		found := invariants.Check(e)
		for _, rule := range []invariants.Rule{invariants.Order, invariants.Durable, invariants.Once, invariants.Counts} {
			if !slices.ContainsFunc(found, func(v invariants.Violation) bool { return v.Rule == rule }) {
				return fmt.Errorf("%q is not among the violations: %w", rule, found.Err())
			}
		}
		return nil
	})
}
