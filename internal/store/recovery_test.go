package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

func TestALostAnswerToCommitIsNoSecondTruth(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn}, f)
		lost := 0
		f.set(nil, func(string) error {
			if lost++; lost > 2 {
				return nil
			}
			return mysql.ErrInvalidConn
		})
		answers := &settlements{t: t}
		for n := range uint64(5) {
			answers.offer(s, blockOffer("alice", n+1, fmt.Sprint("a", n+1), fmt.Sprint("a", n)))
		}
		answers.offer(s, bareOffer("bare"))
		running(t, s)
		if got := answers.wait(); count(got, schema.First) != 6 {
			t.Errorf("settled %v", got)
		}
		feedIsWhole(t, s, 6)
		var client clientRow
		if err := s.db.Take(&client).Error; err != nil || client.Count != 1 {
			t.Errorf("clients %+v: %v", client, err)
		}
		wantChain(t, s, "a1 a2 a3 a4 a5", "")
	})
}

func TestPassingFailuresAreRetriedWhole(t *testing.T) {
	t.Parallel()
	failures := map[string]error{
		"deadlock":          &mysql.MySQLError{Number: 1213},
		"lock wait":         &mysql.MySQLError{Number: 1205},
		"connection lost":   mysql.ErrInvalidConn,
		"disk full":         &mysql.MySQLError{Number: 1114},
		"never seen before": errors.New("weather"),
	}
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := running(t, openedThrough(t, Options{DSN: dsn}, f))
		n := uint64(0)
		for name, failure := range failures {
			for _, call := range []string{"begin", "INSERT INTO records", "INSERT INTO observations", "UPDATE feed_counter", "INSERT INTO feed", "commit"} {
				left := 2
				f.set(func(at, text string) error {
					if left > 0 && (at == call || at == "exec" && strings.HasPrefix(text, call)) {
						left--
						return failure
					}
					return nil
				}, nil)
				n++
				got := offerAll(t, s, blockOffer("alice", n, fmt.Sprint("a", n), fmt.Sprint("a", n-1)))
				if got[0].Outcome != schema.First {
					t.Errorf("%s at %s: settled %v", name, call, got[0])
				}
				if left > 0 && (call != "UPDATE feed_counter" || s.dialect == dialectMySQL) { // SQLite's returns rows: a query
					t.Errorf("%s at %s: fault not met", name, call)
				}
			}
		}
		feedIsWhole(t, s, int(n))
	})
}

func TestPoisonIsRefusedAloneAndNobodyFoldedOntoItWithIt(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn}, f)
		f.refuse(func(value any) bool { return value == "poison" })
		answers := &settlements{t: t}
		for i, hash := range []string{"a1", "p", "p", "b1"} {
			o := blockOffer("alice", 1, hash, "a0")
			if i == 1 {
				o.Node = "poison"
			}
			answers.offer(s, o)
		}
		running(t, s)
		want := []schema.Outcome{schema.First, schema.Refused, schema.First, schema.First}
		if got := answers.wait(); !slices.Equal(outcomes(got), want) {
			t.Errorf("settled %v", got)
		}
		feedIsWhole(t, s, 3)
	})
}

func TestADatabaseThatIsDownBlocksAndHeals(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn, QueueRows: 4}, f)
		down := errors.New("down")
		f.set(func(call, _ string) error {
			if call == "begin" || call == "connect" {
				return down
			}
			return nil
		}, nil)
		running(t, s)
		answers := &settlements{t: t}
		for i := range 4 {
			answers.offer(s, bareOffer(fmt.Sprint(i)))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		err := s.Offer(ctx, bareOffer("fifth"), func(schema.Settlement) { t.Error("settled after an error") })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("fifth offer to a queue of four: %v", err)
		}
		eventually(t, func() bool { return errors.Is(s.Ready(t.Context()), down) })
		f.set(nil, nil)
		if got := answers.wait(); count(got, schema.First) != 4 {
			t.Errorf("settled %v", got)
		}
		eventually(t, func() bool { return s.Ready(t.Context()) == nil })
		eventually(t, func() bool { // an offer keeps its place until done has returned
			rows, bytes := s.queue.depth()
			return rows == 0 && bytes == 0
		})
	})
}

// eventually waits for a condition that another goroutine brings about.
func eventually(t *testing.T, met func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	late := time.After(20 * time.Second)
	for !met() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("condition not met after 20 s")
		}
	}
}

func TestTheQueueIsBoundedByBytes(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{DSN: "memory", QueueBytes: 10000})
	drop := func(schema.Settlement) {}
	huge := bareOffer(strings.Repeat("a", 20000))
	if err := s.Offer(t.Context(), huge, drop); err != nil {
		t.Fatalf("one offer above the bound: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Offer(ctx, bareOffer("b"), drop); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("offer to a full queue: %v", err)
	}
}

func TestShutdownSettlesEverything(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn, QueueRows: 600}, f)
		f.set(func(call, _ string) error {
			if call == "begin" {
				return errors.New("down")
			}
			return nil
		}, nil)
		answers := &settlements{t: t}
		for i := range 600 {
			answers.offer(s, bareOffer(fmt.Sprint(i)))
		}
		blocked := make(chan error, 1)
		go func() { blocked <- s.Offer(t.Context(), bareOffer("late"), func(schema.Settlement) {}) }()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		eventually(t, func() bool { return s.stall.Load() != nil })
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if got := answers.wait(); count(got, schema.Unsettled) != 600 {
			t.Errorf("%d of 600 unsettled", count(got, schema.Unsettled))
		}
		if err := <-blocked; !errors.Is(err, ErrStopped) {
			t.Errorf("offer that was blocked: %v", err)
		}
		if err := s.Offer(t.Context(), bareOffer("later"), nil); !errors.Is(err, ErrStopped) {
			t.Errorf("offer after the end: %v", err)
		}
	})
}

func TestACommitUnderWayIsFinishedAtShutdown(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn}, f)
		ctx, cancel := context.WithCancel(t.Context())
		f.set(func(call, _ string) error {
			if call == "commit" {
				cancel()
			}
			return nil
		}, nil)
		answers := &settlements{t: t}
		answers.offer(s, bareOffer("a"))
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if got := answers.wait(); got[0].Outcome != schema.First {
			t.Errorf("settled %v", got)
		}
	})
}

func TestAnInMemoryDatabaseOutlivesCancelledQueries(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{DSN: "sqlite::memory:"})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	running(t, s)
	offerAll(t, s, blockOffer("alice", 1, "a1", "a0"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	forever := "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n"
	if err := s.db.WithContext(ctx).Exec(forever).Error; err == nil {
		t.Fatal("endless query ended")
	}
	ctx, cancel = context.WithCancel(t.Context())
	err := s.transaction(ctx, func(tx *gorm.DB) error {
		cancel()
		return tx.Create(&clientRow{IP: "a"}).Error
	})
	if err == nil {
		t.Fatal("cancelled transaction succeeded")
	}
	if got := offerAll(t, s, blockOffer("alice", 2, "a2", "a1")); got[0].Outcome != schema.First {
		t.Errorf("settled %v", got)
	}
	wantChain(t, s, "a1 a2", "")
}

func TestAFailedTransactionLeavesNothing(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := opened(t, Options{DSN: dsn})
		stop := errors.New("stop")
		err := s.transaction(t.Context(), func(tx *gorm.DB) error {
			if err := tx.Create(&clientRow{IP: "a", Count: 1}).Error; err != nil {
				return err
			}
			return stop
		})
		if !errors.Is(err, stop) || s.countRows(t, "clients") != 0 {
			t.Errorf("%v, %d rows", err, s.countRows(t, "clients"))
		}
	})
}
