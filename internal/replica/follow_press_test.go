package replica

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
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

// depot is an object store in memory that can be told to fail.
type depot struct {
	mu   sync.Mutex // guards the rest
	kept map[string][]byte
	hurt map[string]func([]byte) ([]byte, error) // by key: what Get returns instead
	down error
}

func newDepot() *depot {
	return &depot{kept: map[string][]byte{}, hurt: map[string]func([]byte) ([]byte, error){}}
}

// Get implements Getter.
func (d *depot) Get(_ context.Context, key string) ([]byte, string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down != nil {
		return nil, "", d.down
	}
	body, ok := d.kept[key]
	if !ok {
		return nil, "", fmt.Errorf("get %s: %w", key, objects.ErrNotFound)
	}
	if hurt := d.hurt[key]; hurt != nil {
		var err error
		if body, err = hurt(slices.Clone(body)); err != nil {
			return nil, "", err
		}
	}
	sum := sha256.Sum256(body)
	return body, string(sum[:]), nil
}

func (d *depot) put(key string, body []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept[key] = body
}

func (d *depot) remove(key string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	body := d.kept[key]
	delete(d.kept, key)
	return body
}

func (d *depot) fail(key string, hurt func([]byte) ([]byte, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hurt[key] = hurt
}

func (d *depot) away(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = err
}

// press is a writer's store with what ships it, by hand.
type press struct {
	t     *testing.T
	store *store.Store
	depot *depot
	names Names
	check Checkpoint
	index Index
	at    time.Time
}

const pressChain = 7

func newPress(t *testing.T) *press {
	t.Helper()
	p := &press{
		t: t, store: openStore(t, "memory", true), depot: newDepot(), names: Names{Env: "test", Role: "primary"},
		check: Checkpoint{Epoch: 1, Holder: "test"}, at: time.Unix(1e9, 0),
	}
	return p
}

func openStore(t *testing.T, dsn string, run bool) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if run {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
	}
	return s
}

func blockHash(name string) schema.Hash { return sha256.Sum256([]byte(name)) }

// grow stores blocks of a branch; the first one's parent is given.
func (p *press) grow(branch string, from, to uint64, parent string) {
	p.t.Helper()
	var settled sync.WaitGroup
	for n := from; n <= to; n++ {
		name := fmt.Sprint(branch, n)
		h := &schema.Header{Hash: blockHash(name), Parent: blockHash(parent), Number: n, Time: time.Unix(int64(n), 0)}
		settled.Add(1)
		err := p.store.Offer(p.t.Context(), &schema.Offer{
			Chain: pressChain, Key: h.Hash.Key(), Header: h, Payload: []byte(strings.Repeat(name, 20)), Observer: "alice", Node: "n1",
			Origin: schema.OriginHead, Server: "s1", Remote: "127.0.0.1", ObservedAt: p.at, ReceivedAt: p.at,
			Transactions: []schema.Transaction{{Hash: blockHash("t" + name), Value: "5"}},
		}, func(a schema.Settlement) {
			if a.Outcome != schema.First {
				p.t.Errorf("%s: %v", name, a)
			}
			settled.Done()
		})
		if err != nil {
			p.t.Fatal(err)
		}
		parent = name
	}
	settled.Wait()
}

// see lets the only observer report a head.
func (p *press) see(number uint64, name string) {
	p.t.Helper()
	err := p.store.Report(p.t.Context(), "alice", schema.Report{Heads: []schema.Head{{
		Chain: pressChain, Node: "n1", Latest: schema.Point{Number: number, Hash: blockHash(name)},
	}}})
	if err != nil {
		p.t.Fatal(err)
	}
}

// ship makes live segments of so many rows at most out of all that is new, and the checkpoint.
func (p *press) ship(rows int) {
	p.t.Helper()
	for {
		shipped, err := p.store.Shipment(p.t.Context(), p.check.Seq, rows, 1<<30)
		if err != nil {
			p.t.Fatal(err)
		}
		if len(shipped) == 0 {
			break
		}
		p.segment(shipped)
	}
	p.sign()
}

func (p *press) segment(shipped []schema.ShippedRow) {
	p.t.Helper()
	end, chains, digests, err := p.store.Digests(p.t.Context(), schema.HeightRange{Chain: pressChain, From: 0, To: 999})
	if err != nil {
		p.t.Fatal(err)
	}
	seg := &Segment{Head: Head{
		Env: p.names.Env, Role: p.names.Role, Epoch: 1, Source: end.Epoch, First: p.check.Seq + 1, Prev: p.check.Link, At: p.at,
	}}
	var ids []uint64
	for _, row := range shipped {
		r := Row{Event: row.FeedEvent}
		if row.Record != nil {
			body, object := storedRecord(p.t, row.Record)
			ids = append(ids, row.Record.ID)
			r.Object = object
			p.depot.put(p.names.Block(row.Chain, row.Key), body)
		}
		seg.Rows = append(seg.Rows, r)
	}
	if seg.Sightings, err = p.store.SightingsOf(p.t.Context(), ids); err != nil {
		p.t.Fatal(err)
	}
	if last := shipped[len(shipped)-1].Seq; last == end.Seq {
		seg.Chains, seg.Digests = chains, digests
	}
	body, err := EncodeSegment(seg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.depot.put(p.names.Feed(seg.First), body)
	p.check.Seq, p.check.Link, p.check.Source, p.check.Chains = seg.Last, seg.Link, end.Epoch, chains
}

// sign writes the checkpoint.
func (p *press) sign() {
	p.t.Helper()
	end, err := p.store.FeedEnd(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	p.at = p.at.Add(time.Second)
	p.check.At, p.check.End = p.at, end.Seq
	body, err := EncodeCheckpoint(p.check)
	if err != nil {
		p.t.Fatal(err)
	}
	p.depot.put(p.names.Writer(), body)
}

// bulk makes one bulk segment of the rows up to last and takes the live ones away.
func (p *press) bulk(last uint64) {
	p.t.Helper()
	first := p.index.End() + 1
	rows, err := p.store.Shipment(p.t.Context(), first-1, int(last-first+1), 1<<30)
	if err != nil {
		p.t.Fatal(err)
	}
	seg := &Segment{Head: Head{Env: p.names.Env, Role: p.names.Role, Epoch: 1, Source: p.check.Source, First: first, At: p.at}}
	for seq := first; seq <= last; { // from live segments, for their links
		live, err := DecodeSegment(p.depot.remove(p.names.Feed(seq)))
		if err != nil {
			p.t.Fatal(err)
		}
		if seq == first {
			seg.Prev = live.Prev
		}
		seq = live.Last + 1
	}
	for _, row := range rows {
		seg.Rows = append(seg.Rows, Row{Event: row.FeedEvent, Record: row.Record})
	}
	body, err := EncodeSegment(seg)
	if err != nil {
		p.t.Fatal(err)
	}
	p.depot.put(p.names.Bulk(first), body)
	p.index.Segments = append(p.index.Segments, IndexSegment{First: first, Last: last, Rows: last - first + 1, Bytes: uint64(len(body))})
	if body, err = EncodeIndex(&p.index); err != nil {
		p.t.Fatal(err)
	}
	p.depot.put(p.names.Index(), body)
}

// follow runs a replica of what is shipped until the test ends or stop is called.
func (p *press) follow(s FollowStore, change func(o *FollowOptions)) (f *Follower, stop func()) {
	p.t.Helper()
	o := FollowOptions{
		Names: p.names, Store: s, Objects: p.depot, Poll: 5 * time.Millisecond, Sign: 5 * time.Millisecond,
		Patience: 50 * time.Millisecond,
	}
	if change != nil {
		change(&o)
	}
	f, err := NewFollower(o)
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Errorf("Run: %v", err)
		}
	})
	p.t.Cleanup(stop)
	return f, stop
}

// reaches waits until a replica has all that the writer has, and compares.
func (p *press) reaches(f *Follower, s *store.Store) {
	p.t.Helper()
	testenv.Eventually(p.t, func() error {
		if st := f.State(); st.Seq != p.check.Seq || st.Phase != schema.ReplicaFollowing {
			return fmt.Errorf("at %d of %d, %s: %s", st.Seq, p.check.Seq, st.Phase, st.Reason)
		}
		return nil
	})
	p.same(s)
}

func (p *press) same(s *store.Store) {
	p.t.Helper()
	r := schema.HeightRange{Chain: pressChain, From: 0, To: 999}
	end, chains, digests, err := p.store.Digests(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	itsEnd, itsChains, itsDigests, err := s.Digests(p.t.Context(), r)
	if err != nil {
		p.t.Fatal(err)
	}
	if diff := cmp.Diff([]any{end, chains, digests}, []any{itsEnd, itsChains, itsDigests}); diff != "" {
		p.t.Errorf("replica (-writer +replica):\n%s", diff)
	}
}
