package store

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func TestFlightsKeepTheOrderOfOffers(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		const blocks = 12 * batchRows
		s := running(t, opened(t, Options{DSN: dsn}))
		answers := &settlements{t: t}
		for n := range uint64(blocks) {
			answers.offer(s, blockOffer("alice", n+1, fmt.Sprint("a", n+1), fmt.Sprint("a", n)))
		}
		if got := answers.wait(); count(got, schema.First) != blocks {
			t.Errorf("%d first of %d", count(got, schema.First), blocks)
		}
		feedIsWhole(t, s, blocks)
		var events []feedRow
		if err := s.db.Order("seq").Find(&events).Error; err != nil {
			t.Fatal(err)
		}
		for i, e := range events {
			if *e.Number != uint64(i)+1 || *e.Status != string(schema.StatusCanonical) {
				t.Fatalf("event %d is block %d, %s", i+1, *e.Number, *e.Status)
			}
		}
		var off int64
		err := s.db.Model(&recordRow{}).Where("status <> ?", schema.StatusCanonical).Count(&off).Error
		if c, _ := readChain(s.db, testChain); err != nil || off != 0 || c.HeadNumber != blocks {
			t.Errorf("head at %d, %d blocks off the branch: %v", c.HeadNumber, off, err)
		}
	})
}

func TestAWrongGuessOfAStatusIsMended(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		offerAll(t, running(t, opened(t, Options{DSN: dsn})), blockOffer("alice", 1, "a1", "a0"),
			blockOffer("alice", 2, "a2", "a1"))
		s := running(t, opened(t, Options{DSN: dsn})) // knows nothing of the chain
		offerAll(t, s, blockOffer("alice", 2, "b2", "a1"))
		offerAll(t, s, blockOffer("alice", 3, "b3", "b2"), blockOffer("alice", 3, "a3", "a2"))
		offerAll(t, s, blockOffer("alice", 4, "a4", "a3"), blockOffer("alice", 4, "b4", "b3"))
		wantChain(t, s, "a1 a2 a3 a4", "b2 b3 b4")
	})
}

func TestOnePoisonCostsLogarithmicallyManyTransactions(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		for _, poisons := range [][]int{{0}, {100}, {255}, {7, 200}} {
			f := &fault{}
			s := openedThrough(t, Options{DSN: dsn}, f)
			begun := 0
			f.set(func(call, _ string) error {
				if call == "begin" {
					begun++
				}
				return nil
			}, nil)
			f.refuse(func(value any) bool { return value == "poison" })
			answers := &settlements{t: t}
			for i := range batchRows {
				o := bareOffer(fmt.Sprint(poisons, i))
				if slices.Contains(poisons, i) {
					o.Server = "poison"
				}
				answers.offer(s, o)
			}
			running(t, s) // only now, so that all are in one batch
			for i, got := range answers.wait() {
				if want := slices.Contains(poisons, i); want != (got.Outcome == schema.Refused) {
					t.Errorf("offer %d of poison %v settled as %v", i, poisons, got)
				}
			}
			if limit := 1 + 2*8*len(poisons); begun > limit {
				t.Errorf("poison %v took %d transactions, want at most %d", poisons, begun, limit)
			}
		}
	})
}

func TestFewStatementsStayPrepared(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn}, f)
		prepared := 0
		f.set(func(call, _ string) error {
			if call == "prepare" {
				prepared++
			}
			return nil
		}, nil)
		running(t, s)
		answers := &settlements{t: t}
		height := uint64(0)
		for range 15 {
			for range rand.IntN(2 * batchRows) {
				height++
				o := blockOffer("alice", height, fmt.Sprint("a", height), fmt.Sprint("a", height-1))
				o.Transactions = make([]schema.Transaction, rand.IntN(3))
				for i := range o.Transactions {
					o.Transactions[i].Hash = named(fmt.Sprint(height, "/", i))
				}
				answers.offer(s, o)
			}
			answers.wait()
		}
		if limit := mysqlLanes * maxStatements; prepared == 0 || prepared > limit {
			t.Errorf("%d statements prepared, want at most %d", prepared, limit)
		}
	})
}

func TestStatementsStayWithinWhatADatabaseTakes(t *testing.T) {
	t.Parallel()
	for d, placeholders := range map[dialect]int{dialectMySQL: 65535, dialectSQLite: 32766} {
		st := newStatements(d)
		if len(st.texts) > maxStatements {
			t.Errorf("%s: %d statements, want at most %d", d, len(st.texts), maxStatements)
		}
		for name, text := range st.texts {
			if n := strings.Count(text, "?"); n > placeholders {
				t.Errorf("%s: %v has %d placeholders", d, name, n)
			}
			if name.rows&(name.rows-1) != 0 || name.rows > chunkRows {
				t.Errorf("%s: a statement of %d rows", d, name.rows)
			}
		}
	}
}

// The database sees no deadlock here: the second flight waits for the first, inside this process; the first waits for a
// stranger's row; the stranger waits for a row of the second.
func TestAFlightThatIsInTheWayLetsGo(t *testing.T) {
	t.Parallel()
	dsn := testenv.MySQL(t)
	migrated(t, dsn)
	f := &fault{}
	s := openedThrough(t, Options{DSN: dsn}, f)
	stranger, err := sql.Open("mysql", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close() }()
	tx, err := stranger.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	insert := func(chain uint64, hash string) error {
		_, err := tx.ExecContext(t.Context(), "INSERT INTO records (chain, `key`, received_at, content_type, payload, server, "+
			"remote, token) VALUES (?, ?, 0, '', '', '', '', REPEAT('x', 16))", chain, string(named(hash).Key()))
		return err
	}
	if err := insert(1, "a1"); err != nil {
		t.Fatal(err)
	}
	var ahead atomic.Bool // the second flight has inserted its records
	f.set(func(call, text string) error {
		if call == "exec" && strings.HasPrefix(text, "INSERT INTO observations") {
			ahead.Store(true)
		}
		return nil
	}, nil)
	running(t, s)
	answers := &settlements{t: t}
	first := blockOffer("alice", 1, "a1", "a0")
	first.Chain = 1 // below all others, so that the gap that is locked with it holds none of theirs
	answers.offer(s, first)
	eventually(t, func() bool { return !s.queue.holdsItems() })
	for n := uint64(2); n < 2+batchRows; n++ {
		answers.offer(s, blockOffer("alice", n, fmt.Sprint("a", n), fmt.Sprint("a", n-1)))
	}
	eventually(t, ahead.Load)
	start := time.Now()
	if err := insert(testChain, "a100"); err != nil {
		t.Fatalf("the stranger's second row: %v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the stranger waited for %v", took)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := answers.wait(); count(got, schema.First) != batchRows-1 || count(got, schema.Duplicate) != 2 {
		t.Errorf("%d first and %d duplicate", count(got, schema.First), count(got, schema.Duplicate))
	}
	feedIsWhole(t, s, batchRows-1)
	if value(t, s.metrics.yields) == 0 {
		t.Error("no flight let go")
	}
}

func (q *queue) holdsItems() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.items) > 0
}
