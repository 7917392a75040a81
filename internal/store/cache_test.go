package store

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func TestTheCacheForgetsTheOldestHalf(t *testing.T) {
	t.Parallel()
	const size = 100
	key := func(i int) recordKey {
		k := recordKey{chain: 1}
		binary.BigEndian.PutUint64(k.hash[:], uint64(i))
		return k
	}
	c := newCache(size)
	for i := range 10 * size {
		c.add(key(i), uint64(i))
		if n := len(c.young) + len(c.old); n > size {
			t.Fatalf("%d keys in a cache of %d", n, size)
		}
		for j := max(0, i-size/2+1); j <= i; j++ {
			if id, ok := c.find(key(j)); !ok || id != uint64(j) {
				t.Fatalf("key %d is forgotten after %d", j, i)
			}
		}
	}
	if _, ok := c.find(key(0)); ok {
		t.Error("the first key is still there")
	}
}

func TestARefusedKeyIsNotTakenForStored(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := running(t, openedThrough(t, Options{DSN: dsn}, f))
		f.refuse(func(value any) bool { return value == "poison" })
		bad := blockOffer("alice", 1, "a1", "a0")
		bad.Node = "poison"
		if got := offerAll(t, s, bad); got[0].Outcome != schema.Refused {
			t.Fatalf("settled %v", got)
		}
		got := offerAll(t, s, blockOffer("bob", 1, "a1", "a0"))
		if n := s.countRows(t, "records"); got[0].Outcome != schema.First || n != 1 {
			t.Errorf("offered again: settled %v with %d records", got, n)
		}
	})
}

func TestObservationsOfKnownRecordsAreKept(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := running(t, opened(t, Options{DSN: dsn}))
		offerAll(t, s, blockOffer("alice", 1, "a1", "a0"), bareOffer("b"))
		got := offerAll(t, s, blockOffer("bob", 1, "a1", "a0"), blockOffer("alice", 1, "a1", "a0"), bareOffer("b"),
			blockOffer("carol", 2, "a2", "a1"))
		want := []schema.Outcome{schema.Duplicate, schema.Duplicate, schema.Duplicate, schema.First}
		if !slices.Equal(outcomes(got), want) {
			t.Errorf("settled %v", got)
		}
		wantObservers(t, s, "a1", "alice bob")
		wantObservers(t, s, "a2", "carol")
		wantChain(t, s, "a1 a2", "")
	})
}

func wantObservers(t *testing.T, s *Store, block, want string) {
	t.Helper()
	var names []string
	err := s.db.Raw("SELECT o.observer FROM observations o JOIN records r ON r.id = o.record WHERE r.`key` = ? ORDER BY 1",
		named(block).Key()).Scan(&names).Error
	if got := fmt.Sprint(names); err != nil || got != "["+want+"]" {
		t.Errorf("%s was seen by %s, want %s: %v", block, got, want, err)
	}
}

func TestADuplicateOfARowInFlightWaitsForItsCommit(t *testing.T) {
	t.Parallel()
	dsn := testenv.MySQL(t) // SQLite has one flight at a time
	migrated(t, dsn)
	f := &fault{}
	s := openedThrough(t, Options{DSN: dsn}, f)
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	f.hold(func(call string) {
		if call == "commit" {
			once.Do(func() { close(reached); <-release })
		}
	})
	running(t, s)
	answers := &settlements{t: t}
	answers.offer(s, blockOffer("alice", 1, "a1", "a0"))
	<-reached
	answers.offer(s, blockOffer("bob", 1, "a1", "a0"))
	for n := uint64(2); n < 2+2*batchRows; n++ { // enough for flights beside the one that is held
		answers.offer(s, blockOffer("alice", n, fmt.Sprint("a", n), fmt.Sprint("a", n-1)))
	}
	eventually(t, func() bool { return !s.queue.deep() })
	if bob := answers.at(1); bob != (schema.Settlement{}) {
		t.Errorf("settled as %v before the COMMIT", bob)
	}
	close(release)
	if got := answers.wait(); count(got, schema.First) != 2*batchRows+1 || got[1].Outcome != schema.Duplicate {
		t.Errorf("%d first, the duplicate settled as %v", count(got, schema.First), got[1])
	}
	if n := value(t, s.metrics.known); n != 1 {
		t.Errorf("%v offers were known to be duplicates, want the one that waited", n)
	}
	wantObservers(t, s, "a1", "alice bob")
	feedIsWhole(t, s, 2*batchRows+1)
}

func TestALostCommitOfDuplicatesCountsNobodyTwice(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		offerAll(t, running(t, opened(t, Options{DSN: dsn})), bareOffer("a"), bareOffer("b"))
		f := &fault{}
		s := running(t, openedThrough(t, Options{DSN: dsn}, f))
		for _, what := range []string{"not known to this store", "known"} {
			lost := 0
			f.set(nil, func(string) error {
				if lost++; lost > 2 {
					return nil
				}
				return mysql.ErrInvalidConn
			})
			got := offerAll(t, s, bareOffer("a"), bareOffer("b"), bareOffer("a"))
			if count(got, schema.Duplicate) != 3 || lost < 2 {
				t.Errorf("%s: settled %v after %d commits", what, got, lost)
			}
		}
		var client clientRow
		if err := s.db.Take(&client).Error; err != nil || client.Count != 8 {
			t.Errorf("counted %d messages, want 8: %v", client.Count, err)
		}
	})
}
