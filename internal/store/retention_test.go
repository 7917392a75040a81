package store

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// aged stores n blocks, one received each hour up to now, each seen by two observers.
func aged(t testing.TB, s *Store, n int, now time.Time) {
	t.Helper()
	answers := &settlements{t: t}
	for i := range n {
		for _, observer := range []string{"alice", "bob"} {
			o := blockOffer(observer, uint64(i+1), fmt.Sprint("a", i+1), fmt.Sprint("a", i))
			o.ReceivedAt = now.Add(-time.Duration(n-1-i) * time.Hour)
			answers.offer(s, o)
		}
	}
	answers.wait()
}

func TestRetentionForgetsByAgeAndByCount(t *testing.T) {
	t.Parallel()
	now := time.Unix(2e9, 0)
	const n = 700 // more than one batch of each
	hours := func(n int) time.Duration { return time.Duration(n)*time.Hour - time.Minute }
	for name, c := range map[string]struct {
		keep                   Retention
		observations, payloads int // that are left
	}{
		"nothing by default":           {Retention{}, 2 * n, n},
		"observations by age":          {Retention{ObservationsFor: hours(10)}, 2 * 10, n},
		"observations by count":        {Retention{ObservationsOf: 7}, 2 * 7, n},
		"payloads by age":              {Retention{PayloadsFor: hours(20)}, 2 * n, 20},
		"payloads by count":            {Retention{PayloadsOf: 5}, 2 * n, 5},
		"whichever is less":            {Retention{PayloadsOf: 5, PayloadsFor: hours(3), ObservationsOf: 3, ObservationsFor: hours(9)}, 6, 3},
		"everything is young":          {Retention{PayloadsFor: hours(n + 1), ObservationsFor: hours(n + 1)}, 2 * n, n},
		"fewer than what is to remain": {Retention{PayloadsOf: n, ObservationsOf: 2 * n}, 2 * n, n},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bothDialects(t, func(t *testing.T, dsn string) {
				aged(t, running(t, opened(t, Options{DSN: dsn})), n, now)
				s := opened(t, Options{DSN: dsn, Keep: c.keep, Now: func() time.Time { return now }})
				for range 2 { // the second time there is nothing to do
					if err := s.forget(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				var payloads int64
				if err := s.db.Model(&recordRow{}).Where("payload <> ?", []byte{}).Count(&payloads).Error; err != nil {
					t.Fatal(err)
				}
				if got := s.countRows(t, "observations"); got != c.observations || int(payloads) != c.payloads {
					t.Errorf("left: %d observations and %d payloads, want %d and %d", got, payloads, c.observations, c.payloads)
				}
				if got := pruned(t, s); got != n-c.payloads {
					t.Errorf("%d payloads are said to be pruned, want %d", got, n-c.payloads)
				}
				if got := s.countRows(t, "records"); got != n {
					t.Errorf("%d records are left of %d", got, n)
				}
				feedIsWhole(t, s, n)
			})
		})
	}
}

// pruned counts the records that say so of their payloads.
func pruned(t *testing.T, s *Store) (n int) {
	t.Helper()
	var ids []uint64
	if err := s.db.Model(&recordRow{}).Pluck("id", &ids).Error; err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		switch payload, err := s.Payload(t.Context(), id); {
		case errors.Is(err, schema.ErrPayloadPruned):
			n++
		case err != nil || len(payload) == 0:
			t.Errorf("payload of record %d: %q, %v", id, payload, err)
		}
	}
	return n
}

func TestRetentionGoesOnAsTimePassesAndOffersComeIn(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		now := time.Unix(2e9, 0)
		s := opened(t, Options{DSN: dsn, Keep: Retention{PayloadsFor: 90 * time.Minute, ObservationsFor: 90 * time.Minute},
			Now: func() time.Time { return now }})
		aged(t, running(t, opened(t, Options{DSN: dsn})), 5, now)
		for _, left := range []int{2, 1, 0} {
			if err := s.forget(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := s.countRows(t, "observations"); got != 2*left {
				t.Errorf("%d observations are left, want %d", got, 2*left)
			}
			now = now.Add(time.Hour)
		}
		running(t, s)
		if got := offerAll(t, s, blockOffer("alice", 5, "a5", "a4")); got[0].Outcome != schema.Duplicate {
			t.Errorf("a block without its payload, offered again, settled as %v", got)
		}
	})
}

func TestRetentionRunsBesideTheIngest(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		aged(t, running(t, opened(t, Options{DSN: dsn})), 20, time.Now())
		s := running(t, opened(t, Options{DSN: dsn, Keep: Retention{ObservationsOf: 4}}))
		eventually(t, func() bool { return value(t, s.metrics.pruned.WithLabelValues("observations")) == 2*16 })
		if got := s.countRows(t, "observations"); got != 2*4 {
			t.Errorf("%d observations are left", got)
		}
	})
}

func TestNegativeRetentionIsRefused(t *testing.T) {
	t.Parallel()
	if _, err := Open(t.Context(), Options{DSN: "memory", Keep: Retention{PayloadsFor: -1}}); err == nil {
		t.Error("accepted")
	}
}
