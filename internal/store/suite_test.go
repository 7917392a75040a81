package store

import (
	"context"
	"crypto/sha256"
	"flag"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// TestMain draws fewer random histories than rapid does by itself, unless the long tests are asked for: every one of them
// costs what all before it have stored.
func TestMain(m *testing.M) {
	if os.Getenv("FIRSTSEEN_ACCEPT") != "1" {
		if err := flag.Set("rapid.checks", "30"); err != nil {
			panic(err)
		}
	}
	m.Run()
}

// bothDialects runs a test against a fresh, migrated database of each dialect.
func bothDialects(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Helper()
	for name, dsn := range map[string]func(testing.TB) string{
		"sqlite": sqliteDSN,
		"mysql":  testenv.MySQL,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := dsn(t)
			migrated(t, dsn)
			test(t, dsn)
		})
	}
}

func sqliteDSN(t testing.TB) string { return "sqlite://" + t.TempDir() + "/test.db" }

func migrated(t testing.TB, dsn string) {
	t.Helper()
	s := opened(t, Options{DSN: dsn})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func opened(t testing.TB, opts Options) *Store {
	t.Helper()
	s, err := Open(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// openedThrough opens a store whose connections pass a fault.
func openedThrough(t testing.TB, opts Options, f *fault) *Store {
	t.Helper()
	src, err := parseDSN(opts.DSN)
	if err != nil {
		t.Fatal(err)
	}
	connector, err := src.connector()
	if err != nil {
		t.Fatal(err)
	}
	s, err := open(t.Context(), opts, src, faultyConnector{connector, f})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// running starts the committer and ends it with the test.
func running(t testing.TB, s *Store) *Store {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

// settlements collects answers; wait waits for all of them.
type settlements struct {
	t       testing.TB
	pending sync.WaitGroup
	mu      sync.Mutex
	got     []schema.Settlement
}

// offer queues an offer and keeps its answer at the index of its place in the order of calls.
func (s *settlements) offer(store *Store, o *schema.Offer) {
	s.t.Helper()
	s.mu.Lock()
	i := len(s.got)
	s.got = append(s.got, schema.Settlement{})
	s.mu.Unlock()
	s.pending.Add(1)
	err := store.Offer(s.t.Context(), o, func(answer schema.Settlement) {
		s.mu.Lock()
		s.got[i] = answer
		s.mu.Unlock()
		s.pending.Done()
	})
	if err != nil {
		s.pending.Done()
		s.t.Errorf("Offer: %v", err)
	}
}

// at is the answer so far to the offer at an index.
func (s *settlements) at(i int) schema.Settlement {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[i]
}

func (s *settlements) wait() []schema.Settlement {
	s.t.Helper()
	done := make(chan struct{})
	go func() { s.pending.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		s.t.Fatal("offers are not settled after a minute")
	}
	return s.got
}

func count(answers []schema.Settlement, outcome schema.Outcome) int {
	n := 0
	for _, a := range answers {
		if a.Outcome == outcome {
			n++
		}
	}
	return n
}

// offerAll offers one after the other without waiting between them, and waits for the answers.
func offerAll(t testing.TB, s *Store, offers ...*schema.Offer) []schema.Settlement {
	t.Helper()
	answers := &settlements{t: t}
	for _, o := range offers {
		answers.offer(s, o)
	}
	return answers.wait()
}

const testChain = 1337

// named is the hash of a block that a drawing calls by a name.
func named(name string) schema.Hash { return sha256.Sum256([]byte(name)) }

func blockOffer(observer string, n uint64, hash, parent string) *schema.Offer {
	h := &schema.Header{Hash: named(hash), Parent: named(parent), Number: n, Time: time.Unix(int64(12*n), 0)}
	return &schema.Offer{
		Chain: testChain, Key: h.Hash.Key(), Header: h, ContentType: "text/html", Payload: []byte("<p>" + hash + "</p>"),
		Observer: observer, Node: "geth", Origin: schema.OriginHead, Server: "s1", Remote: "127.0.0.1",
		ObservedAt: time.Unix(1e9, 0), ReceivedAt: time.Unix(1e9+1, 0),
	}
}

func bareOffer(payload string) *schema.Offer {
	return &schema.Offer{
		Key: schema.PayloadKey([]byte(payload)), Payload: []byte(payload), ContentType: "application/octet-stream",
		Server: "s1", Remote: "10.0.0.1", ReceivedAt: time.Unix(1e9, 0),
	}
}

// rows counts the rows of a table.
func (s *Store) countRows(t testing.TB, table string) int {
	t.Helper()
	var n int64
	if err := s.db.Table(table).Count(&n).Error; err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// feedIsWhole checks that the feed's seq runs from 1 to n without a gap, as the counter says.
func feedIsWhole(t testing.TB, s *Store, n int) {
	t.Helper()
	var rows []feedRow
	if err := s.db.Order("seq").Find(&rows).Error; err != nil {
		t.Fatal(err)
	}
	if len(rows) != n {
		t.Errorf("feed has %d rows, want %d", len(rows), n)
	}
	for i, r := range rows {
		if r.Seq != uint64(i)+1 {
			t.Fatalf("feed row %d has seq %d", i+1, r.Seq)
		}
	}
	var counter counterRow
	if err := s.db.Take(&counter).Error; err != nil || counter.LastSeq != uint64(n) {
		t.Errorf("counter says %d (%v), want %d", counter.LastSeq, err, n)
	}
}
