package statsapi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/schema"
)

func TestStatsAddUp(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	total := 5
	s := serve(t, Options{Store: w.store, Presence: fixedPresence{Known: true, Total: total}})
	want := Stats{
		Time: Time{epoch}, Records: 9, Blocks: 7, Bare: 2, Transactions: 2, Observations: 8, Duplicates: 1,
		Chains: []ChainStats{{
			Chain: 5, Blocks: 7, Root: Point{1, named("b1").String()}, Head: Point{6, named("b6").String()},
			Safe: OptionalNumber{2, true}, Finalized: OptionalNumber{2, true},
			BlocksPerSecond: 7. / 60, TransactionsPerSecond: 2. / 60,
		}},
		Observers: []FirstCount{
			{Observer: "alice", First: 5, FirstPerSecond: 5. / 60}, {Observer: "bob", First: 2, FirstPerSecond: 2. / 60},
		},
		Servers:     []ServerStats{{Server: "server-1", Records: 9, RecordsPerSecond: 9. / 60}},
		Rates:       Rates{WindowSeconds: 60, Records: 9. / 60, Blocks: 7. / 60, Transactions: 2. / 60},
		Connections: ConnectionSum{Total: &total, Known: true},
	}
	got := decode[Stats](s, "/v1/stats")
	if got.FeedSeq < 9 {
		t.Errorf("feed seq %d after 9 records", got.FeedSeq)
	}
	want.FeedSeq = got.FeedSeq
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-9)); d != "" {
		t.Fatal(d)
	}
	w.see("bob", 5, 7, "b7", "b6")
	got = decode[Stats](s, "/v1/stats")
	if got.Blocks != 8 || got.Chains[0].Head.Number != 7 || got.Observers[1].First != 3 {
		t.Errorf("after one more block: %+v", got)
	}
}

func TestConnectionsAreKnownOrNullNeverZero(t *testing.T) {
	t.Parallel()
	store := newWorld(t).store
	servers := []presence.Server{{Server: "a", Count: 2, Age: 1500 * time.Millisecond, Address: "h:1"}, {Server: "b"}}
	for name, test := range map[string]struct {
		snapshot presence.Snapshot
		want     string
	}{
		"known": {
			presence.Snapshot{Known: true, Total: 2, Servers: servers},
			`{"total":2,"known":true,"servers":[{"server":"a","count":2,"age_seconds":1.5,"address":"h:1"},` +
				`{"server":"b","count":0,"age_seconds":0}]}`,
		},
		"known to be none": {
			presence.Snapshot{Known: true, Servers: servers[1:]},
			`{"total":0,"known":true,"servers":[{"server":"b","count":0,"age_seconds":0}]}`,
		},
		"unknown": {
			presence.Snapshot{Reason: "the presence store cannot be read", Servers: servers[:1]},
			`{"total":null,"known":false,"reason":"the presence store cannot be read",` +
				`"servers":[{"server":"a","count":2,"age_seconds":1.5,"address":"h:1"}]}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, Options{Store: store, Presence: fixedPresence(test.snapshot)})
			want := strings.TrimSuffix(test.want, "}") + `,"consistency":"availability"}` + "\n"
			if got := s.get("/v1/connections").body; got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

// scriptedFeed is a feed of blocks of one chain by one observer.
type scriptedFeed struct {
	seq, observations uint64
	err               error
	tallies, counts   int
	slow              time.Duration
}

func (f *scriptedFeed) Tally(_ context.Context, after, limit uint64) (schema.Tally, error) {
	f.tallies++
	if f.err != nil {
		return schema.Tally{}, f.err
	}
	to := min(f.seq, after+limit)
	t := schema.Tally{Seq: to, Blocks: map[uint64]uint64{}, First: map[string]uint64{}}
	if to > after {
		t.Blocks[5], t.First["alice"], t.Transactions = to-after, to-after, 2*(to-after)
	}
	return t, nil
}

func (f *scriptedFeed) CountObservations(context.Context) (uint64, error) {
	f.counts++
	time.Sleep(f.slow)
	return f.observations, f.err
}

func TestCounterReadsEachFeedRowOnce(t *testing.T) {
	t.Parallel()
	f := &scriptedFeed{seq: 3*tallyRows + 7}
	c := newCounter(f)
	for range 5 {
		if n, err := c.blocks(t.Context(), 5); err != nil || n != f.seq {
			t.Fatalf("%d blocks, %v, want %d", n, err, f.seq)
		}
	}
	if f.tallies != 4+4 {
		t.Errorf("%d tallies, want 4 for the history and one for each question after", f.tallies)
	}
}

func TestCounterStartsAgainOnAnotherDatabase(t *testing.T) {
	t.Parallel()
	f := &scriptedFeed{seq: 100}
	c := newCounter(f)
	for _, seq := range []uint64{100, 30, 31} {
		f.seq = seq
		if n, err := c.blocks(t.Context(), 5); err != nil || n != seq {
			t.Fatalf("%d blocks, %v, want %d", n, err, seq)
		}
	}
}

func TestCounterKeepsWhatItCountedBeforeAnError(t *testing.T) {
	t.Parallel()
	f := &scriptedFeed{seq: 100}
	c := newCounter(f)
	if _, err := c.totals(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.err, f.seq = errors.New("gone"), 120
	if _, err := c.totals(t.Context()); err == nil {
		t.Fatal("no error")
	}
	f.err = nil
	if got, err := c.totals(t.Context()); err != nil || got.Blocks[5] != 120 || got.Transactions != 240 {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestSlowObservationCountIsSpared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &scriptedFeed{seq: 1, observations: 8, slow: time.Second}
		c := newCounter(f)
		start := time.Now()
		for time.Since(start) < time.Minute {
			if got, err := c.totals(t.Context()); err != nil || got.Observations != 8 {
				t.Fatalf("%+v, %v", got, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if f.counts > 6 {
			t.Errorf("counted %d times a minute at a second each", f.counts)
		}
	})
}

func TestWaitingForTheCounterCanBeGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCounter(&scriptedFeed{seq: 1, slow: time.Hour})
		done := make(chan error, 1)
		go func() { _, err := c.totals(t.Context()); done <- err }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.blocks(ctx, 5); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(fmt.Errorf("waited to the end: %w", err))
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}
