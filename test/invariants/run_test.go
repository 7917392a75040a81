package invariants_test

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	_ "modernc.org/sqlite" // the database of these runs

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/server"
	"github.com/firstseen/firstseen/templates"
	"github.com/firstseen/firstseen/test/invariants"
)

// run is one in this process: observers, a server, a database, a chain.
type run struct {
	t         *testing.T
	path      string // of the database
	db        *sql.DB
	chain     *devnet.Net
	chronicle *invariants.Chronicle
	recorder  *invariants.Recorder
	evidence  invariants.Evidence // of when it was at rest last
}

// newRun starts a server over a SQLite store, which spoil may wrap, and observers of one node.
func newRun(t *testing.T, observers []string, spoil func(server.Store) server.Store) *run {
	t.Helper()
	r := &run{t: t, path: filepath.Join(t.TempDir(), "run.db")}
	var err error
	if r.chain, err = devnet.New(devnet.Options{Endpoints: 1, Safe: safeDepth, Finalized: finalDepth}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.chain.Close() })
	r.chronicle = invariants.NewChronicle(r.chain.Truth().URL())
	s, err := store.Open(t.Context(), store.Options{DSN: "sqlite:" + r.path})
	if err == nil {
		err = s.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	background(t, s.Run)
	srv, err := server.New(server.Options{Addr: "127.0.0.1:0", Name: "server", Store: spoil(s), Drain: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	background(t, srv.Run)
	r.db = openTables(t, r.path)
	r.recorder, err = invariants.NewRecorder(srv.Addr().String(), func(ctx context.Context, keys []schema.Key) ([]schema.Key, error) {
		return invariants.Absent(ctx, r.db, keys)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.recorder.Close() })
	for _, name := range observers {
		r.observe(name)
	}
	return r
}

// The devnet's safe and finalized blocks trail its head by so many.
const safeDepth, finalDepth = 2, 4

func honest(s server.Store) server.Store { return s }

func (r *run) observe(name string) {
	r.t.Helper()
	template, err := templates.Default(invariants.Template)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := client.New(client.Options{Name: name, Nodes: r.chain.URLs(), Servers: []string{r.recorder.Addr()}, Template: template,
		Poll: 10 * time.Millisecond, Start: client.StartEarliest, Drain: time.Millisecond})
	if err != nil {
		r.t.Fatal(err)
	}
	background(r.t, c.Run)
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

func openTables(t *testing.T, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// step changes the chain and writes down what it shows.
func (r *run) step(err error) {
	r.t.Helper()
	if err := errors.Join(err, r.chronicle.See(r.t.Context(), r.chain.Canonical())); err != nil {
		r.t.Fatal(err)
	}
}

// rest waits until accept likes the evidence.
func (r *run) rest(accept func(invariants.Evidence) error) {
	r.t.Helper()
	head := r.chain.Head().Number
	truth := r.chronicle.Truth(r.chain.Canonical(), 0, head-min(head, safeDepth), head-min(head, finalDepth))
	eventually(r.t, func() error {
		tables, err := invariants.ReadTables(r.t.Context(), r.db)
		if err != nil {
			return err
		}
		r.evidence.Tables, r.evidence.Exchanges, r.evidence.Truth = tables, r.recorder.Exchanges(), truth
		return accept(r.evidence)
	})
}

// unbroken accepts evidence that shows no violation.
func unbroken(e invariants.Evidence) error { return invariants.Check(e).Err() }

func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatal(err)
		case <-again.C:
		}
	}
}
