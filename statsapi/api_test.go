package statsapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

var update = flag.Bool("update", false, "rewrite golden files")

func TestMain(m *testing.M) {
	// The devnet's go-ethereum never ends the first, and the second only after a while.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core.(*txSenderCacher).cache"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// epoch is when the tests' world begins.
var epoch = time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)

// world is a real store that tests draw chains into.
type world struct {
	t     testing.TB
	store *store.Store
	now   time.Time // of the next offer; each takes 1.5 s
}

func newWorld(t testing.TB) *world {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: "memory"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	background(t, s.Run)
	return &world{t: t, store: s, now: epoch}
}

// background runs f until stop is called or the test ends, and waits for it.
func background(t testing.TB, f func(context.Context) error) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return stop
}

// named is the hash of a block that a test calls by a name.
func named(name string) schema.Hash { return sha256.Sum256([]byte(name)) }

// offer stores what is offered, in few transactions.
func (w *world) offer(offers ...*schema.Offer) {
	w.t.Helper()
	settled := make(chan schema.Settlement, len(offers))
	for _, o := range offers {
		o.Server, o.Remote, o.ReceivedAt = "server-1", "192.0.2.7", w.now
		w.now = w.now.Add(1500 * time.Millisecond)
		if err := w.store.Offer(w.t.Context(), o, func(s schema.Settlement) { settled <- s }); err != nil {
			w.t.Fatal(err)
		}
	}
	for range offers {
		if s := <-settled; s.Outcome != schema.First && s.Outcome != schema.Duplicate {
			w.t.Fatalf("%s: %s", s.Outcome, s.Reason)
		}
	}
}

// see makes an observer report a block.
func (w *world) see(observer string, chain, number uint64, name, parent string, txs ...schema.Transaction) {
	w.t.Helper()
	w.offer(w.block(observer, chain, number, name, parent, txs...))
}

// grow makes alice report blocks 1 to n of chain 5, called b1 and so on.
func (w *world) grow(n uint64) {
	w.t.Helper()
	var offers []*schema.Offer
	for i := uint64(1); i <= n; i++ {
		offers = append(offers, w.block("alice", 5, i, fmt.Sprint("b", i), fmt.Sprint("b", i-1)))
	}
	w.offer(offers...)
}

func (w *world) block(
	observer string, chain, number uint64, name, parent string, txs ...schema.Transaction,
) *schema.Offer {
	h := &schema.Header{
		Hash: named(name), Parent: named(parent), Number: number, Time: epoch.Truncate(time.Second).Add(-time.Minute),
	}
	return &schema.Offer{
		Chain: chain, Key: h.Hash.Key(), Header: h, ContentType: "text/html; charset=utf-8",
		Payload: []byte("<p>" + name + "</p>"), Observer: observer, Node: "geth", Origin: schema.OriginHead,
		ObservedAt: w.now.Add(-time.Second), Transactions: txs,
	}
}

// bare makes a client without headers send a payload.
func (w *world) bare(payload string) schema.Key {
	w.t.Helper()
	key := schema.PayloadKey([]byte(payload))
	w.offer(&schema.Offer{Key: key, Payload: []byte(payload), ContentType: "text/html"})
	return key
}

// report moves safe and finalized of a chain to one of its blocks.
func (w *world) report(observer string, chain uint64, head, final schema.Point) {
	w.t.Helper()
	err := w.store.Report(w.t.Context(), observer, schema.Report{Heads: []schema.Head{
		{Chain: chain, Node: "geth", Latest: head, Safe: &final, Finalized: &final},
	}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// drawn is a world with one chain 5: blocks 1 to 6, a sibling of 4, two observers, three bare payloads.
func drawn(t testing.TB) *world {
	t.Helper()
	w := newWorld(t)
	to := schema.Address{0xbb}
	gas, ok := uint64(21000), uint8(1)
	w.see("alice", 5, 1, "b1", "b0")
	w.see("alice", 5, 2, "b2", "b1", schema.Transaction{
		Hash: named("t1"), From: schema.Address{0xaa}, To: &to, Value: "1000000000000000000", GasUsed: &gas, Status: &ok,
	}, schema.Transaction{
		Hash: named("t2"), Index: 1, From: schema.Address{0xaa}, Value: "0", Contract: &schema.Address{0xcc},
	})
	w.see("bob", 5, 3, "b3", "b2")
	w.see("alice", 5, 3, "b3", "b2")
	w.see("alice", 5, 4, "b4", "b3")
	w.see("bob", 5, 4, "b4'", "b3")
	w.see("alice", 5, 5, "b5", "b4")
	w.see("alice", 5, 6, "b6", "b5")
	w.report("alice", 5, schema.Point{Number: 6, Hash: named("b6")}, schema.Point{Number: 2, Hash: named("b2")})
	w.bare("<p>one</p>")
	w.bare("<p>two</p>")
	w.bare("<p>two</p>")
	return w
}

// fixedPresence is a snapshot that never changes.
type fixedPresence presence.Snapshot

func (p fixedPresence) Snapshot() presence.Snapshot { return presence.Snapshot(p) }

// site is a running API with a client.
type site struct {
	t    testing.TB
	api  *API
	url  string
	http *http.Client
	stop func() error
}

func serve(t testing.TB, o Options) *site {
	t.Helper()
	o.Addr = "127.0.0.1:0"
	if o.Now == nil {
		o.Now = func() time.Time { return epoch }
	}
	if o.Log == nil {
		log := logrus.New()
		log.SetOutput(testWriter{t})
		o.Log = log
	}
	api, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{
		Transport:     transport,
		Timeout:       30 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &site{t: t, api: api, url: "http://" + api.Addr().String(), http: client, stop: background(t, api.Run)}
}

// testWriter shows log lines with a test that fails.
type testWriter struct{ t testing.TB }

func (w testWriter) Write(line []byte) (int, error) {
	w.t.Logf("%s", line)
	return len(line), nil
}

// answer is a response that was read to its end.
type answer struct {
	*http.Response
	body string
}

func (s *site) do(method, path string, header ...string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp, string(body)}
}

func (s *site) get(path string) answer { s.t.Helper(); return s.do(http.MethodGet, path) }

// decode answers path's JSON, which must be a success and have no field that T has not.
func decode[T any](s *site, path string) (out T) {
	s.t.Helper()
	got := s.get(path)
	if got.StatusCode != http.StatusOK {
		s.t.Fatalf("%s: %d %s", path, got.StatusCode, got.body)
	}
	if err := json.Unmarshal([]byte(got.body), &out); err != nil {
		s.t.Fatalf("%s: %v in %s", path, err, got.body)
	}
	return out
}

// golden compares with a file in testdata, or writes it with -update.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s (-want +got, -update rewrites it):\n%s", path, d)
	}
}

// brokenStore fails every question with an error that must not be shown.
type brokenStore struct {
	Store
	mu  sync.Mutex
	err error
}

var errSecret = errors.New("dial tcp db.internal:3306: password s3cret refused")

func (b *brokenStore) fail(err error) { b.mu.Lock(); defer b.mu.Unlock(); b.err = err }

func (b *brokenStore) Chains(ctx context.Context) ([]schema.ChainState, error) {
	if err := b.failure(ctx); err != nil {
		return nil, err
	}
	return b.Store.Chains(ctx)
}

func (b *brokenStore) Nodes(
	ctx context.Context, f schema.NodeFilter, after *schema.NodePlace, limit int,
) ([]schema.ObservedNode, error) {
	if err := b.failure(ctx); err != nil {
		return nil, err
	}
	return b.Store.Nodes(ctx, f, after, limit)
}

func (b *brokenStore) Audit(ctx context.Context, n int) ([]schema.AuditEntry, error) {
	if err := b.failure(ctx); err != nil {
		return nil, err
	}
	return b.Store.Audit(ctx, n)
}

func (b *brokenStore) failure(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if errors.Is(b.err, context.DeadlineExceeded) { // hangs
		<-ctx.Done()
		return ctx.Err()
	}
	return b.err
}

func (b *brokenStore) NewestKeys(ctx context.Context, n int) ([]schema.KeyTime, error) {
	if err := b.failure(ctx); err != nil {
		return nil, err
	}
	return b.Store.NewestKeys(ctx, n)
}
