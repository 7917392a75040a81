// Package live follows the feed as clients do, through several instances of the stats API.
package live

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

// accepting tells whether the long forms of tests are asked for, as `make accept` does.
func accepting() bool { return os.Getenv("FIRSTSEEN_ACCEPT") != "" }

const chainID = 5

// source is a store that a test grows chains in.
type source struct {
	t     testing.TB
	store *store.Store
}

func newSource(t testing.TB, committed func(uint64)) *source {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: "sqlite://" + t.TempDir() + "/live.db", Committed: committed})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	return &source{t: t, store: s}
}

// background runs f until the test ends, and waits for it.
func background(t testing.TB, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// block is a block of a branch, by name.
type block struct {
	number uint64
	name   string
	parent string
}

func (b block) hash() schema.Hash { return sha256.Sum256([]byte(b.name)) }

// add stores blocks.
func (s *source) add(blocks ...block) {
	s.t.Helper()
	var settled sync.WaitGroup
	for _, b := range blocks {
		h := &schema.Header{
			Hash: b.hash(), Parent: sha256.Sum256([]byte(b.parent)), Number: b.number, Time: time.Unix(1e9, 0),
		}
		offer := &schema.Offer{
			Chain: chainID, Key: h.Hash.Key(), Header: h, ContentType: "text/plain", Payload: []byte(b.name),
			Observer: "alice", Node: "geth", Origin: schema.OriginHead, Server: "server-1", Remote: "192.0.2.1",
			ObservedAt: time.Now(), ReceivedAt: time.Now(),
		}
		settled.Add(1)
		err := s.store.Offer(s.t.Context(), offer, func(a schema.Settlement) {
			if a.Outcome != schema.First {
				s.t.Errorf("%s: %s %s", b.name, a.Outcome, a.Reason)
			}
			settled.Done()
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	settled.Wait()
}

// judge makes the only observer report a head, which the chain follows.
func (s *source) judge(head block) {
	s.t.Helper()
	report := schema.Report{Heads: []schema.Head{{
		Chain: chainID, Node: "geth", Latest: schema.Point{Number: head.number, Hash: head.hash()},
	}}}
	for range 2 {
		if err := s.store.Report(s.t.Context(), "alice", report); err != nil {
			s.t.Fatal(err)
		}
	}
}

// grow stores n blocks in batches. After each part of them the last few are replaced by another branch.
func (s *source) grow(n, reorgs int, half func()) {
	s.t.Helper()
	every := n / reorgs
	tip := block{name: "root"}
	next := func(at block, branch string) block {
		return block{number: at.number + 1, name: fmt.Sprint(branch, at.number+1), parent: at.name}
	}
	var batch []block
	before := []block{tip} // the last blocks, from which a reorganisation may start
	for i := 1; i <= n; i++ {
		tip = next(tip, "a")
		batch = append(batch, tip)
		before = append(before, tip)
		if len(before) > 6 {
			before = before[1:]
		}
		if len(batch) == 20 || i%every == 0 {
			s.add(batch...)
			batch = batch[:0]
		}
		if i == n/2 {
			half()
		}
		if i%every != 0 {
			continue
		}
		depth := 1 + i/every%4
		at := before[len(before)-1-depth]
		var branch []block
		for range depth + 1 {
			at = next(at, fmt.Sprint("r", i, "-"))
			branch = append(branch, at)
		}
		s.add(branch...)
		s.judge(at)
		tip, before = at, append(before[:len(before)-depth], branch...)
	}
	s.add(batch...)
}

// instance is one stats API with a feed of its own.
type instance struct {
	feed *feed.Feed
	addr string
}

func newInstance(t testing.TB, s *source, hints *feed.Hints, live statsapi.LiveOptions) *instance {
	t.Helper()
	f, err := feed.New(feed.Options{Source: s.store, Hints: hints})
	if err != nil {
		t.Fatal(err)
	}
	background(t, f.Run)
	live.Feed = f
	api, err := statsapi.New(t.Context(), statsapi.Options{Addr: "127.0.0.1:0", Store: s.store, Live: live})
	if err != nil {
		t.Fatal(err)
	}
	background(t, api.Run)
	return &instance{feed: f, addr: api.Addr().String()}
}

// eventually polls cond, which is the only way to wait for another process.
func eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
