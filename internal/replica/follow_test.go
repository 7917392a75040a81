package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func TestFollowsLiveSegmentsAndReorgs(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	p.grow("a", 1, 20, "a0")
	p.ship(3)
	f, _ := p.follow(s, nil)
	p.reaches(f, s)
	p.grow("b", 11, 22, "a10")
	p.see(22, "b22")
	p.ship(5)
	p.reaches(f, s)
	p.grow("a", 21, 25, "a20")
	p.see(25, "a25")
	p.ship(1)
	p.reaches(f, s)
	testenv.Eventually(t, func() error { return f.Ready(t.Context()) })
	st := f.State()
	want := []schema.ReplicaChain{{Chain: pressChain, Number: 25, Writer: new(uint64(25)), Lag: new(uint64(0))}}
	if diff := cmp.Diff(want, st.Chains); diff != "" {
		t.Errorf("chains (-want +got):\n%s", diff)
	}
	testenv.Eventually(t, func() error {
		p.sign() // on a busy machine the last one is too long ago by now
		if st := f.State(); st.Digests == 0 || len(st.Differ) > 0 || st.Lag == nil || *st.Lag != 0 {
			return fmt.Errorf("state %+v", st)
		}
		return nil
	})
}

func TestBeginsWithBulkSegmentsAndInTheMiddleOfOne(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	p.grow("a", 1, 10, "a0")
	p.ship(5)
	f, stop := p.follow(s, nil)
	p.reaches(f, s)
	stop()
	p.grow("a", 11, 30, "a10")
	p.ship(5)
	p.bulk(15)
	p.bulk(25)
	f, _ = p.follow(s, nil) // which is at 10, within the first
	p.reaches(f, s)
	fresh := openStore(t, "memory", false)
	f, _ = p.follow(fresh, nil)
	p.reaches(f, fresh)
}

func TestWaitsForWhatIsMissingOrDamagedAndGoesOn(t *testing.T) {
	t.Parallel()
	down := errors.New("connection refused")
	for name, c := range map[string]struct {
		hurt func(p *press) (heal func())
		says string
	}{
		"a block object is missing": {func(p *press) func() {
			key := p.names.Block(pressChain, blockHash("a3").Key())
			body := p.depot.remove(key)
			return func() { p.depot.put(key, body) }
		}, "/block/" + string(blockHash("a3").Key())},
		"a segment is missing": {func(p *press) func() {
			key := p.names.Feed(1)
			body := p.depot.remove(key)
			return func() { p.depot.put(key, body) }
		}, "object test/primary/feed/000000000001 is missing"},
		"a bit of a segment is flipped": {func(p *press) func() {
			key := p.names.Feed(1)
			p.depot.fail(key, func(b []byte) ([]byte, error) { b[len(b)/2] ^= 4; return b, nil })
			return func() { p.depot.fail(key, nil) }
		}, "object test/primary/feed/000000000001 is damaged"},
		"a segment is cut off": {func(p *press) func() {
			key := p.names.Feed(1)
			p.depot.fail(key, func(b []byte) ([]byte, error) { return b[:len(b)-3], nil })
			return func() { p.depot.fail(key, nil) }
		}, "object test/primary/feed/000000000001 is damaged"},
		"a segment is another's": {func(p *press) func() {
			p.grow("a", 7, 8, "a6")
			p.ship(10)
			key := p.names.Feed(7)
			body := p.depot.remove(key)
			swapped, _, _ := p.depot.Get(context.Background(), p.names.Feed(1))
			p.depot.put(key, swapped)
			return func() { p.depot.put(key, body) }
		}, "object test/primary/feed/000000000007 is damaged"},
		"a bulk segment ends early": {func(p *press) func() {
			p.bulk(6)
			key := p.names.Bulk(1)
			body := p.depot.remove(key)
			seg, err := DecodeSegment(body)
			if err != nil {
				p.t.Fatal(err)
			}
			seg.Rows = seg.Rows[:3]
			short, err := EncodeSegment(seg)
			if err != nil {
				p.t.Fatal(err)
			}
			p.depot.put(key, short)
			return func() { p.depot.put(key, body) }
		}, "object test/primary/bulk/000000000001 is damaged"},
		"a block object is another's": {func(p *press) func() {
			key, other := p.names.Block(pressChain, blockHash("a3").Key()), p.names.Block(pressChain, blockHash("a4").Key())
			body := p.depot.remove(key)
			swapped, _, _ := p.depot.Get(context.Background(), other)
			p.depot.put(key, swapped)
			return func() { p.depot.put(key, body) }
		}, "/block/" + string(blockHash("a3").Key())},
		"the object store is down": {func(p *press) func() {
			p.depot.away(down)
			return func() { p.depot.away(nil) }
		}, "the object store does not answer: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, s := newPress(t), openStore(t, "memory", false)
			p.grow("a", 1, 6, "a0")
			p.ship(10)
			heal := c.hurt(p)
			f, _ := p.follow(s, nil)
			testenv.Eventually(t, func() error {
				st, err := f.State(), f.Ready(t.Context())
				if st.Phase != schema.ReplicaWaiting || !strings.Contains(st.Reason, c.says) || err == nil || !strings.Contains(err.Error(), c.says) {
					return fmt.Errorf("%s: %s; ready: %w", st.Phase, st.Reason, err)
				}
				return nil
			})
			heal()
			p.reaches(f, s)
			testenv.Eventually(t, func() error { p.sign(); return f.Ready(t.Context()) })
		})
	}
}

func TestHaltsAtAnotherHistory(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	p.grow("a", 1, 6, "a0")
	p.ship(10)
	f, stop := p.follow(s, nil)
	p.reaches(f, s)
	stop()
	other := newPress(t)
	other.at = other.at.Add(time.Hour)
	other.grow("z", 1, 9, "z0")
	other.ship(3)
	f, _ = other.follow(s, nil)
	testenv.Eventually(t, func() error {
		if st, err := f.State(), f.Ready(t.Context()); st.Phase != schema.ReplicaHalted || err == nil || st.Seq != 6 {
			return fmt.Errorf("%+v, %w", st, err)
		}
		return nil
	})
	p.same(s)
}

func TestRefusesADatabaseThatIsNone(t *testing.T) {
	t.Parallel()
	p := newPress(t)
	p.grow("a", 1, 2, "a0")
	p.ship(10)
	run := func(s FollowStore, names Names) error {
		f, err := NewFollower(FollowOptions{Names: names, Store: s, Objects: p.depot})
		if err != nil {
			t.Fatal(err)
		}
		return f.Run(t.Context())
	}
	if err := run(p.store, p.names); !errors.Is(err, store.ErrOwnFeed) {
		t.Errorf("a writer's: %v", err)
	}
	s := openStore(t, "memory", false)
	f, stop := p.follow(s, nil)
	p.reaches(f, s)
	stop()
	if err := run(s, Names{Env: "other", Role: "primary"}); err == nil || !strings.Contains(err.Error(), "environment") {
		t.Errorf("of another environment: %v", err)
	}
}

func TestADigestThatDiffersIsTold(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	p.grow("a", 1, 6, "a0")
	p.ship(10)
	body, _, err := p.depot.Get(t.Context(), p.names.Feed(1))
	if err != nil {
		t.Fatal(err)
	}
	seg, err := DecodeSegment(body)
	if err != nil {
		t.Fatal(err)
	}
	seg.Digests[0].Facts[0] ^= 1
	if body, err = EncodeSegment(seg); err != nil {
		t.Fatal(err)
	}
	p.depot.put(p.names.Feed(1), body)
	f, _ := p.follow(s, nil)
	testenv.Eventually(t, func() error {
		if err := f.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "blocks 0 to 999 of chain 7 are not the writer's") {
			return fmt.Errorf("ready: %w", err)
		}
		return nil
	})
	if st := f.State(); len(st.Differ) != 1 {
		t.Errorf("state %+v", st)
	}
	p.grow("a", 7, 7, "a6") // the next time all is well
	p.ship(10)
	testenv.Eventually(t, func() error { p.sign(); return f.Ready(t.Context()) })
}

// gossip is a broker that says whatever it is told to.
type gossip struct {
	broker.None
	said chan broker.Pointer
}

func (g *gossip) Listen(ctx context.Context, hear func(broker.Pointer)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case p := <-g.said:
			hear(p)
		}
	}
}

func TestHintsOnlyShortenTheWait(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	g := &gossip{said: make(chan broker.Pointer, 100)}
	p.grow("a", 1, 3, "a0")
	p.ship(2)
	f, _ := p.follow(s, func(o *FollowOptions) {
		o.Poll, o.Sign = time.Hour, time.Hour
		o.Broker = func(string) (broker.Broker, error) { return g, nil }
	})
	p.reaches(f, s)
	for n := uint64(4); n < 10; n++ {
		p.grow("a", n, n, fmt.Sprint("a", n-1))
		p.ship(1)
		for _, last := range []uint64{1, 99, n, n, 2} { // behind, made up, right, twice, behind
			g.said <- broker.Pointer{First: last, Last: last, Epoch: 9, Key: "nowhere"}
		}
		testenv.Eventually(t, func() error {
			if st := f.State(); st.Seq != n {
				return fmt.Errorf("at %d of %d", st.Seq, n)
			}
			return nil
		})
	}
	p.same(s)
}

func TestSomebodyElseMovesThePlace(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "sqlite://"+t.TempDir()+"/replica.db", false)
	p.grow("a", 1, 6, "a0")
	p.ship(2)
	f, _ := p.follow(s, nil)
	second, _ := p.follow(s, nil) // both apply to one database, each what the other has not
	for n := uint64(7); n < 30; n++ {
		p.grow("a", n, n, fmt.Sprint("a", n-1))
		p.ship(1)
	}
	p.reaches(f, s)
	p.reaches(second, s)
}

func TestPauseKeepsSessionsAway(t *testing.T) {
	t.Parallel()
	p, s := newPress(t), openStore(t, "memory", false)
	p.grow("a", 1, 3, "a0")
	p.ship(1)
	f, stop := p.follow(s, nil)
	p.reaches(f, s)
	resume, err := f.pause(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	p.grow("a", 4, 6, "a3")
	p.ship(1)
	if st := f.State(); st.Seq != 3 {
		t.Errorf("paused, and at %d", st.Seq)
	}
	resume()
	p.reaches(f, s)
	stop()
	if _, err := f.pause(t.Context()); err == nil {
		t.Error("paused what has ended")
	}
}
