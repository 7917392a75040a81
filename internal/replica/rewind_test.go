package replica

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// fleet is writers that ship into one object store, and a replica of one of them.
type fleet struct {
	t       *testing.T
	objects *shelf
	writers map[string]*store.Store // by role
	replica *store.Store
	now     time.Time
}

func newFleet(t *testing.T, roles ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, objects: newShelf(), writers: map[string]*store.Store{}, replica: openStore(t, "memory", false), now: time.Unix(1e9, 0)}
	for _, role := range roles {
		f.writers[role] = openStore(t, "memory", true)
	}
	return f
}

// one is a block that a test draws.
type one struct {
	chain, number uint64
	name, parent  string
}

// branch is the blocks of a branch of a chain; the first one's parent is given.
func branch(chain uint64, name string, from, to uint64, parent string) []one {
	var out []one
	for n := from; n <= to; n++ {
		block := fmt.Sprintf("%d%s%d", chain, name, n)
		out = append(out, one{chain, n, block, parent})
		parent = block
	}
	return out
}

// offer stores blocks in their order.
func (f *fleet) offer(role string, blocks ...one) {
	f.t.Helper()
	offers := make([]*schema.Offer, len(blocks))
	for i, b := range blocks {
		h := &schema.Header{Hash: blockHash(b.name), Parent: blockHash(b.parent), Number: b.number, Time: time.Unix(int64(b.number), 0)}
		offers[i] = &schema.Offer{
			Chain: b.chain, Key: h.Hash.Key(), Header: h, HeaderRLP: []byte("rlp of " + b.name), Payload: []byte(b.name),
			Observer: "observer-of-" + role, Node: "n", Origin: schema.OriginHead, Server: "s", Remote: "127.0.0.1",
			Transactions: []schema.Transaction{{Hash: blockHash("t" + b.name), Value: "5"}},
		}
	}
	f.put(role, offers...)
}

func (f *fleet) bare(role, payload string) {
	f.t.Helper()
	f.put(role, &schema.Offer{
		Key: schema.PayloadKey([]byte(payload)), Payload: []byte(payload), ContentType: "text/plain", Server: "s",
		Remote: "127.0.0.1",
	})
}

func (f *fleet) put(role string, offers ...*schema.Offer) {
	f.t.Helper()
	var settled sync.WaitGroup
	for _, o := range offers {
		f.now = f.now.Add(time.Millisecond)
		o.ObservedAt, o.ReceivedAt = f.now, f.now
		settled.Add(1)
		err := f.writers[role].Offer(f.t.Context(), o, func(s schema.Settlement) {
			if s.Outcome != schema.First {
				f.t.Errorf("%s: %v", o.Payload, s)
			}
			settled.Done()
		})
		if err != nil {
			f.t.Fatal(err)
		}
	}
	settled.Wait()
}

// see lets a role's only observer report a head and what is final.
func (f *fleet) see(role string, chain uint64, head one, final *one) {
	f.t.Helper()
	h := schema.Head{Chain: chain, Node: "n", Latest: schema.Point{Number: head.number, Hash: blockHash(head.name)}}
	if final != nil {
		h.Safe = &schema.Point{Number: final.number, Hash: blockHash(final.name)}
		h.Finalized = h.Safe
	}
	err := f.writers[role].Report(f.t.Context(), "observer-of-"+role, schema.Report{Heads: []schema.Head{h}})
	if err != nil {
		f.t.Fatal(err)
	}
}

// ship brings everything that the roles have into the object store.
func (f *fleet) ship(sizes sizes) {
	f.t.Helper()
	for role, s := range f.writers {
		shipper, err := NewShipper(ShipOptions{Names: Names{"test", role}, Store: s, Objects: f.objects, Poll: 5 * time.Millisecond, sizes: sizes})
		if err != nil {
			f.t.Fatal(err)
		}
		end, err := s.FeedEnd(f.t.Context())
		if err != nil {
			f.t.Fatal(err)
		}
		f.while(shipper.Run, func() bool { return shipper.Stats().Seq == end.Seq })
	}
}

// while runs something until a condition holds.
func (f *fleet) while(run func(context.Context) error, done func() bool) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(f.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	f.await("what was waited for", done)
	cancel()
	if err := <-ended; err != nil {
		f.t.Fatal(err)
	}
}

func (f *fleet) await(what string, done func() bool) {
	f.t.Helper()
	testenv.Eventually(f.t, func() error {
		if done() {
			return nil
		}
		return errors.New(what)
	})
}

func (f *fleet) follower(role string) *Follower {
	f.t.Helper()
	follower, err := NewFollower(FollowOptions{Names: Names{"test", role}, Store: f.replica, Objects: f.objects, Poll: 5 * time.Millisecond, Sign: 5 * time.Millisecond})
	if err != nil {
		f.t.Fatal(err)
	}
	return follower
}

// arrived tells whether the replica has all that a role has.
func (f *fleet) arrived(role string) bool {
	end, err := f.writers[role].FeedEnd(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	place, err := f.replica.ReplicaPlace(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	return place != nil && place.Role == role && place.Seq == end.Seq
}

// follow applies all that a role has shipped.
func (f *fleet) follow(role string) *Follower {
	f.t.Helper()
	follower := f.follower(role)
	f.while(follower.Run, func() bool {
		if st := follower.State(); st.Phase == schema.ReplicaHalted {
			f.t.Fatalf("halted: %s", st.Reason)
		}
		return f.arrived(role)
	})
	return follower
}

// equal wants chains, and digests above a height, to be as a role has them.
func (f *fleet) equal(role string, chain, above uint64) {
	f.t.Helper()
	type view struct {
		Chain  schema.ChainState
		Digest schema.RangeDigest
	}
	var views [2]view
	for i, s := range []*store.Store{f.writers[role], f.replica} {
		_, chains, digests, err := s.Digests(f.t.Context(), schema.HeightRange{Chain: chain, From: above, To: 9999})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, c := range chains {
			if c.Chain == chain {
				views[i].Chain = c
			}
		}
		views[i].Digest = digests[0]
		views[i].Digest.Seq = 0
	}
	if diff := cmp.Diff(views[0], views[1]); diff != "" {
		f.t.Fatalf("chain %d above %d (-%s +replica):\n%s", chain, above, role, diff)
	}
}

func (f *fleet) rewindOptions(chain, height uint64) RewindOptions {
	return RewindOptions{Store: f.replica, Objects: f.objects, Env: "test", Chain: chain, Height: height, Actor: "tester@here"}
}

func (f *fleet) rewind(chain, height uint64) *Rewind {
	f.t.Helper()
	r, err := PlanRewind(f.t.Context(), f.rewindOptions(chain, height))
	if err != nil {
		f.t.Fatal(err)
	}
	if err := r.Do(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return r
}

// small cuts feeds into many segments.
func small() sizes { return sizes{liveRows: 4, bulkRows: 16} }

func TestAReplicaIsRewoundAndFollowsOn(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary")
	first := branch(1, "a", 1, 20, "none")
	other := branch(2, "a", 1, 20, "none")
	for i := range first { // the chains take turns in the feed
		f.offer("primary", first[i], other[i])
	}
	f.bare("primary", "<p>bare</p>")
	f.see("primary", 1, first[19], &first[14])
	f.ship(small())
	f.follow("primary")
	f.equal("primary", 1, 0)

	r, err := PlanRewind(t.Context(), f.rewindOptions(1, 12))
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Leaving) != 8 || r.Both != 8 || len(r.OnlyHere)+len(r.OnlyThere) != 0 || r.Leaving[0].Number != 13 ||
		r.After.Head.Number != 12 || r.After.Finalized != nil || !r.BelowFinalized || r.Stood != 24 || r.Resume > 24 || r.Resume < 8 ||
		r.Changed != 12 {
		t.Fatalf("%+v", r)
	}
	f.equal("primary", 1, 0) // a plan is nothing but that
	if err := r.Do(t.Context()); err != nil {
		t.Fatal(err)
	}
	chains, err := f.replica.Chains(t.Context())
	if err != nil || chains[0].Head.Number != 12 || chains[1].Head.Number != 20 {
		t.Fatalf("%+v, %v", chains, err)
	}
	f.offer("primary", branch(1, "a", 21, 24, "1a20")...)
	f.ship(small())
	if err := f.follow("primary").Ready(t.Context()); err != nil {
		t.Error(err)
	}
	f.equal("primary", 1, 0)
	f.equal("primary", 2, 0)
	tally, err := f.replica.Tally(t.Context(), 0, 1000)
	if err != nil || tally.Blocks[1] != 24 || tally.Blocks[2] != 20 || tally.Bare != 1 || tally.Transactions != 44 {
		t.Errorf("%+v, %v", tally, err)
	}
}

func TestARewindGoesBackBeforeTheFirstBlockAbove(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary")
	blocks := branch(1, "a", 1, 30, "none")
	f.offer("primary", blocks[20:25]...) // the observer began at the tip: rows 1 to 5
	f.offer("primary", blocks[10:20]...) // and fills in what is below: rows 6 to 15, lowered by 10 more
	f.see("primary", 1, blocks[24], nil)
	f.offer("primary", blocks[25:30]...)
	f.offer("primary", one{1, 12, "late", "1a11"}) // a sibling far below
	f.see("primary", 1, blocks[29], nil)
	f.ship(small())
	f.follow("primary")
	f.equal("primary", 1, 0)
	r := f.rewind(1, 27) // the sibling at 12 was told after block 28
	if r.After == nil || r.After.Head.Number != 27 || r.After.Root.Number != 11 || r.Late != 1 || len(r.Leaving) != 4 {
		t.Fatalf("%+v", r)
	}
	f.follow("primary")
	f.equal("primary", 1, 0)
	r = f.rewind(1, 22) // block 23 was told before all history
	if r.After == nil || r.After.Head.Number != 22 || r.After.Root.Number != 21 || r.Late != 11 || r.Stood != 2 {
		t.Fatalf("%+v", r)
	}
	f.follow("primary")
	f.equal("primary", 1, 0)
	r = f.rewind(1, 15) // and the chain's first block was 21
	if r.After != nil || r.Stood != 0 || r.Resume != 0 || len(r.Leaving) != 21 {
		t.Fatalf("%+v", r)
	}
	f.follow("primary")
	f.equal("primary", 1, 0)
}

func TestARewindWhileFollowing(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary")
	f.offer("primary", branch(1, "a", 1, 20, "none")...)
	f.ship(small())
	follower := f.follower("primary")
	f.while(follower.Run, func() bool {
		f.await("the replica follows", func() bool { return f.arrived("primary") })
		was, err := f.replica.FeedEnd(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		f.rewind(1, 10)
		f.await("the replica comes back", func() bool {
			end, err := f.replica.FeedEnd(t.Context())
			return err == nil && end.Epoch != was.Epoch && f.arrived("primary")
		})
		return true
	})
	f.equal("primary", 1, 0)
}

func TestARewindFromARewoundPlace(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary")
	first, other := branch(1, "a", 1, 12, "none"), branch(2, "a", 1, 12, "none")
	for i := range first {
		f.offer("primary", first[i], other[i])
	}
	f.ship(small())
	f.follow("primary")
	f.rewind(1, 8)
	f.rewind(2, 3) // while chain 1 waits for its rows
	f.rewind(1, 6)
	f.follow("primary")
	f.equal("primary", 1, 0)
	f.equal("primary", 2, 0)
	entries, err := f.replica.Audit(t.Context(), 10)
	if err != nil || len(entries) != 3 || !strings.Contains(entries[0].Detail, `"to_height":6`) {
		t.Errorf("%+v, %v", entries, err)
	}
}

func TestRewindsThatCannotBeSayWhy(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary")
	refused := func(o RewindOptions, want string) {
		t.Helper()
		_, err := PlanRewind(t.Context(), o)
		var why Refused
		if !errors.As(err, &why) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	refused(f.rewindOptions(1, 5), "firstseen follow")
	f.offer("primary", branch(1, "a", 1, 9, "none")...)
	f.ship(small())
	f.follow("primary")
	refused(f.rewindOptions(1, 10), "is at height 9")
	refused(f.rewindOptions(3, 1), "there is 1")
	other := f.rewindOptions(1, 5)
	other.Env = "staging"
	refused(other, "--env test")
	if r := f.rewind(1, 9); len(r.Leaving) != 0 || r.After.Head.Number != 9 {
		t.Errorf("%+v", r)
	}
	if entries, err := f.replica.Audit(t.Context(), 10); err != nil || len(entries) != 0 {
		t.Errorf("%+v, %v", entries, err)
	}
	// An object store that does not hold what was followed.
	empty := f.rewindOptions(1, 5)
	empty.Objects = newShelf()
	if _, err := PlanRewind(t.Context(), empty); !errors.Is(err, objects.ErrNotFound) {
		t.Error(err)
	}
	stale, err := PlanRewind(t.Context(), f.rewindOptions(1, 5))
	if err != nil {
		t.Fatal(err)
	}
	f.rewind(1, 7)
	var why Refused
	if err := stale.Do(t.Context()); !errors.As(err, &why) {
		t.Errorf("after another rewind: %v", err)
	}
}
