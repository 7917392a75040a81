package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/faults"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/invariants"
	"github.com/firstseen/firstseen/test/process"
)

// The safe and the finalized block of a scene's chain trail its head by so many, unless it says otherwise.
const safeDepth, finalDepth = 4, 8

// network is the nodes of a scene: geth processes, or a chain in this process.
type network interface {
	URLs() []string
	Mine(ctx context.Context, blocks int) error
	Reorg(ctx context.Context, depth uint64) error
	Head() schema.Point
	Canonical() []schema.Hash
	Close() error
}

// scene is a run of real processes to which faults happen, and those who watch it: the chain's chronicle and a recorder
// in front of each server.
type scene struct {
	t           *testing.T
	net         network
	safe, final uint64
	chronicle   *invariants.Chronicle
	dsn         string  // of the servers' database
	db          *sql.DB // a way to it without faults
	recorders   []*invariants.Recorder
	earlier     []invariants.Tables
}

// newScene puts a chain and an empty database together.
func newScene(t *testing.T, n network, dsn string) *scene {
	t.Helper()
	t.Cleanup(func() { _ = n.Close() })
	truth := n.URLs()[0]
	if n, ok := n.(*devnet.Net); ok {
		truth = n.Truth().URL()
	}
	s := &scene{t: t, net: n, safe: safeDepth, final: finalDepth, chronicle: invariants.NewChronicle(truth), dsn: dsn}
	driver, source := "mysql", dsn
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		driver, source = "sqlite", "file:"+path+"?_pragma=busy_timeout(10000)"
	}
	var err error
	if s.db, err = sql.Open(driver, source); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close() })
	if _, stderr, code := once(t, "migrate", "--db", dsn); code != 0 {
		t.Fatalf("migrate: %s", stderr)
	}
	s.step(nil)
	return s
}

func newDevnet(t *testing.T, nodes int) *devnet.Net {
	t.Helper()
	n, err := devnet.New(devnet.Options{Endpoints: nodes, Safe: safeDepth, Finalized: finalDepth})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newGeths(t *testing.T, nodes int, safe, final uint64) *devnet.Geths {
	t.Helper()
	g, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: testenv.Geth(t), Nodes: nodes, Safe: safe, Finalized: final})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// actor is a process of a scene that can be killed and started again as it was.
type actor struct {
	*process.Process
	scene    *scene
	recorder *invariants.Recorder // of a server
}

// server starts a server on the database that dsn names, with a recorder in front.
func (s *scene) server(name, dsn string) *actor {
	s.t.Helper()
	p := start(s.t, "server", "--name", name, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--db", dsn)
	return &actor{p, s, s.record(p.Addr(s.t, "server"))}
}

// record puts a recorder in front of an address.
func (s *scene) record(addr string) *invariants.Recorder {
	s.t.Helper()
	r, err := invariants.NewRecorder(addr, func(ctx context.Context, keys []schema.Key) ([]schema.Key, error) {
		return invariants.Absent(ctx, s.db, keys)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = r.Close() })
	s.recorders = append(s.recorders, r)
	return r
}

// observer starts an observer of node that knows the given addresses of servers.
func (s *scene) observer(name, node string, servers []string, more ...string) *actor {
	s.t.Helper()
	args := []string{"client", "--name", name, "--node", node, "--poll", "50ms", "--template", invariants.Template,
		"--start", "earliest", "--admin", "127.0.0.1:0"}
	for _, addr := range servers {
		args = append(args, "--server", addr)
	}
	return &actor{start(s.t, append(args, more...)...), s, nil}
}

// restart starts the process anew; one that lives is killed first.
func (a *actor) restart() {
	a.scene.t.Helper()
	a.Kill()
	a.Process = start(a.scene.t, a.Args...)
	if a.recorder != nil {
		a.recorder.Target(a.Addr(a.scene.t, "server"))
	}
}

// says waits until the process has logged a text.
func (a *actor) says(text string) {
	a.scene.t.Helper()
	eventually(a.scene.t, time.Minute, func() error {
		if a.count(text) == 0 {
			return fmt.Errorf("%s has not logged %q", a.Args[0], text)
		}
		return nil
	})
}

// count tells how often the process has logged a text.
func (a *actor) count(text string) int { return strings.Count(a.Log.String(), text) }

// ready waits until the process says that it is, or is not, ready.
func (a *actor) ready(want bool) {
	a.scene.t.Helper()
	url := "http://" + a.Addr(a.scene.t, "admin") + "/readyz"
	eventually(a.scene.t, time.Minute, func() error {
		code, body, err := fetch(a.scene.t.Context(), url)
		if err == nil && (code == 200) != want {
			err = fmt.Errorf("%s is ready: %d %s, want %v", a.Args[0], code, body, want)
		}
		return err
	})
}

// metric is a figure of the process that has no labels.
func (a *actor) metric(name string) (float64, error) {
	_, body, err := fetch(a.scene.t.Context(), "http://"+a.Addr(a.scene.t, "admin")+"/metrics")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("no metric %s", name)
}

// delivers waits until the observer has no block left that was not acked.
func (a *actor) delivers() {
	a.scene.t.Helper()
	eventually(a.scene.t, time.Minute, func() error {
		n, err := waiting(a.scene.t, a.Process)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d blocks wait", n)
		}
		return err
	})
}

// step writes down what the chain shows after a change.
func (s *scene) step(err error) {
	s.t.Helper()
	if err := errors.Join(err, s.chronicle.See(s.t.Context(), s.net.Canonical())); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) mine(blocks int) {
	s.t.Helper()
	s.step(s.net.Mine(s.t.Context(), blocks))
}

// reorg replaces the newest blocks. A block on top lets observers report at once, instead of in their own time, that they
// still see the branch that they saw before, which is when it is believed.
func (s *scene) reorg(depth uint64) {
	s.t.Helper()
	s.step(s.net.Reorg(s.t.Context(), depth))
	eventually(s.t, time.Minute, func() error {
		var all, agree int
		err := s.db.QueryRowContext(s.t.Context(), "SELECT COUNT(*), COALESCE(SUM(head_key = ?), 0) FROM heads",
			string(s.net.Head().Hash.Key())).Scan(&all, &agree)
		if err == nil && 2*agree <= all {
			err = fmt.Errorf("%d of %d observers report the new branch", agree, all)
		}
		return err
	})
	s.mine(1)
}

// evidence is what is known of the run by now.
func (s *scene) evidence() (invariants.Evidence, error) {
	tables, err := invariants.ReadTables(s.t.Context(), s.db)
	head := s.net.Head().Number
	e := invariants.Evidence{Earlier: s.earlier, Tables: tables,
		Truth: s.chronicle.Truth(s.net.Canonical(), 0, head-min(head, s.safe), head-min(head, s.final))}
	for _, r := range s.recorders {
		e.Exchanges = append(e.Exchanges, r.Exchanges()...)
	}
	return e, err
}

// rests waits until nothing is broken.
func (s *scene) rests() {
	s.t.Helper()
	var e invariants.Evidence
	eventually(s.t, time.Minute, func() (err error) {
		if e, err = s.evidence(); err != nil {
			return err
		}
		return invariants.Check(e).Err()
	})
	s.earlier = append(s.earlier, e.Tables)
}

// has waits until the head is, or is not, a committed record.
func (s *scene) has(hash schema.Hash) {
	s.t.Helper()
	eventually(s.t, time.Minute, func() error {
		absent, err := invariants.Absent(s.t.Context(), s.db, []schema.Key{hash.Key()})
		if err == nil && len(absent) > 0 {
			err = fmt.Errorf("block %s is not stored", hash)
		}
		return err
	})
}

// lacks checks that none of the blocks is a committed record.
func (s *scene) lacks(keys []schema.Key) {
	s.t.Helper()
	absent, err := invariants.Absent(s.t.Context(), s.db, keys)
	if err != nil || !slices.Equal(absent, keys) {
		s.t.Errorf("%d of %d blocks are not stored: %v", len(absent), len(keys), err)
	}
}

// acked lists the blocks of which a server said that they are stored.
func (s *scene) acked() map[schema.Key]bool {
	return s.passed(func(e invariants.Exchange) []schema.Key { return e.Offers[:len(e.Outcomes)] })
}

// offered lists the blocks that observers sent.
func (s *scene) offered() map[schema.Key]bool {
	return s.passed(func(e invariants.Exchange) []schema.Key { return e.Offers })
}

func (s *scene) passed(keys func(invariants.Exchange) []schema.Key) map[schema.Key]bool {
	out := map[schema.Key]bool{}
	for _, r := range s.recorders {
		for _, e := range r.Exchanges() {
			for _, key := range keys(e) {
				out[key] = true
			}
		}
	}
	return out
}

// told waits until each of the observers was told that the head is stored.
func (s *scene) told(observers ...string) {
	s.t.Helper()
	head := s.net.Head().Hash.Key()
	for _, name := range observers {
		eventually(s.t, time.Minute, func() error {
			if !s.passed(func(e invariants.Exchange) []schema.Key {
				if e.Observer != name {
					return nil
				}
				return e.Offers[:len(e.Outcomes)]
			})[head] {
				return fmt.Errorf("%s was not told of block %s", name, head)
			}
			return nil
		})
	}
}

// behindMySQL puts a proxy between the servers and their database and returns the DSN that leads through it.
func behindMySQL(t *testing.T, dsn string) (*faults.MySQLProxy, string) {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	p, err := faults.NewMySQLProxy(cfg.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	cfg.Addr = p.Addr()
	return p, cfg.FormatDSN()
}

// happens waits for a fault that was planted.
func happens(t *testing.T, fault <-chan struct{}) {
	t.Helper()
	select {
	case <-fault:
	case <-time.After(time.Minute):
		t.Fatal("the fault did not happen within a minute")
	}
}
