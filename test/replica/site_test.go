package replica

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	_ "github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/process"
)

// binary is the production binary, built once for all tests of this package by TestMain.
var binary process.Binary

func TestMain(m *testing.M) {
	os.Exit(process.Main(m, func(b process.Binary) { binary = b }))
}

// accepting tells whether the long forms of tests are asked for, as `make accept` does.
func accepting() bool { return os.Getenv("FIRSTSEEN_ACCEPT") != "" }

// network is the nodes of a site: geth processes, or a chain in this process.
type network interface {
	URLs() []string
	Mine(ctx context.Context, blocks int) error
	Reorg(ctx context.Context, depth uint64) error
	Head() schema.Point
	Canonical() []schema.Hash
	Close() error
}

// marks is how far the safe and the finalized block trail the head.
type marks struct{ safe, final uint64 }

func newDevnet(t *testing.T, m marks) network {
	t.Helper()
	n, err := devnet.New(devnet.Options{Endpoints: 2, Safe: m.safe, Finalized: m.final})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func newGeths(t *testing.T, nodes int, m marks) network {
	t.Helper()
	g, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: testenv.Geth(t), Nodes: nodes, Safe: m.safe, Finalized: m.final})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// site is a writer with all that is around it: nodes, two observers, a server, a database, an API, an object store, a
// broker, ship, and replicas.
type site struct {
	t        *testing.T
	net      network
	marks    marks
	role     string
	dsn      string
	db       *sql.DB
	api      string // base URL of the writer's API
	bucket   *bucket
	kafka    string // address of the broker
	ship     *process.Process
	replicas []*replica
}

// newSite starts everything but replicas.
func newSite(t *testing.T, n network, m marks, kafka string) *site {
	t.Helper()
	t.Cleanup(func() { _ = n.Close() })
	s := &site{t: t, net: n, marks: m, role: "primary", bucket: newBucket(t), kafka: kafka}
	s.write()
	return s
}

// another starts another writer of the same chain that ships under a role of its own.
func (s *site) another(role string) *site {
	s.t.Helper()
	other := &site{t: s.t, net: s.net, marks: s.marks, role: role, bucket: s.bucket, kafka: s.kafka}
	other.write()
	return other
}

// write starts the writer and ship.
func (s *site) write() {
	s.t.Helper()
	s.dsn = testenv.MySQL(s.t)
	var err error
	if s.db, err = sql.Open("mysql", s.dsn); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = s.db.Close() })
	if _, stderr, code := binary.Once(s.t, nil, "migrate", "--db", s.dsn); code != 0 {
		s.t.Fatalf("migrate: %s", stderr)
	}
	server := s.start("server", "--name", "server", "--listen", "127.0.0.1:0", "--db", s.dsn)
	s.api = "http://" + s.start("stats", "--listen", "127.0.0.1:0", "--db", s.dsn).Addr(s.t, "stats")
	nodes := s.net.URLs()
	for i, name := range []string{"alice", "bob"} {
		s.start("client", "--name", name, "--node", nodes[i%len(nodes)], "--poll", "50ms", "--start", "earliest", "--raw",
			"--server", server.Addr(s.t, "server"))
	}
	s.ship = s.start(s.shipping()...)
}

func (s *site) start(args ...string) *process.Process {
	s.t.Helper()
	return binary.Start(s.t, s.environ(), args...)
}

// environ is what processes are not told by flags: secrets.
func (s *site) environ() []string {
	return append(s.bucket.environ(), "FIRSTSEEN_ADMIN_TOKEN=0123456789abcdef")
}

// shipping is how ship is started.
func (s *site) shipping() []string {
	return append([]string{"ship", "--db", s.dsn, "--admin", "127.0.0.1:0"}, s.through()...)
}

// through is what ship and follow have to be told about what is between them.
func (s *site) through() []string {
	return []string{"--objects", s.bucket.url(), "--env", "test", "--role", s.role, "--kafka-brokers", s.kafka}
}

// replica is one replica, which can be killed and started again as it was.
type replica struct {
	*process.Process
	site *site
	file string // of its database
	args []string
}

// follow starts another replica, from nothing.
func (s *site) follow() *replica {
	s.t.Helper()
	r := &replica{site: s, file: filepath.Join(s.t.TempDir(), "replica.db")}
	r.args = append([]string{"follow", "--db", "sqlite://" + r.file, "--patience", "4s", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"}, s.through()...)
	r.Process = s.start(r.args...)
	s.replicas = append(s.replicas, r)
	return r
}

// restart starts the replica anew; one that lives is killed first.
func (r *replica) restart() {
	r.site.t.Helper()
	r.Kill()
	r.Process = r.site.start(r.args...)
}

// api is the base URL of the replica's own API.
func (r *replica) api() string {
	r.site.t.Helper()
	return "http://" + r.Addr(r.site.t, "stats")
}

// reship starts ship anew; one that lives is killed first.
func (s *site) reship() {
	s.t.Helper()
	s.ship.Kill()
	s.ship = s.start(s.shipping()...)
}

func (s *site) mine(blocks int) {
	s.t.Helper()
	if err := s.net.Mine(s.t.Context(), blocks); err != nil {
		s.t.Fatal(err)
	}
}

// reorg replaces the newest blocks, once the writer has them. A block on top lets observers report at once, instead of in
// their own time, that they still see the branch that they saw before, which is when it is believed.
func (s *site) reorg(depth uint64) {
	s.t.Helper()
	s.written()
	if err := s.net.Reorg(s.t.Context(), depth); err != nil {
		s.t.Fatal(err)
	}
	testenv.Eventually(s.t, func() error {
		var agree int
		err := s.db.QueryRowContext(s.t.Context(), "SELECT COUNT(*) FROM heads WHERE head_key = ?", string(s.net.Head().Hash.Key())).Scan(&agree)
		if err == nil && agree < 2 {
			err = fmt.Errorf("%d observers report the new branch", agree)
		}
		return err
	})
	s.mine(1)
}

// standing is where an API says that everything stands.
type standing struct {
	Seq    uint64 `json:"feed_seq"`
	Chains []struct {
		Head            schema.Point
		Safe, Finalized *uint64
	}
}

func (s *site) standing(api string) (st standing, err error) {
	if err = getJSON(s.t.Context(), api+"/v1/stats", &st); err == nil && len(st.Chains) != 1 {
		err = fmt.Errorf("%s has %d chains", api, len(st.Chains))
	}
	return st, err
}

// written waits until the writer has the whole chain, with its marks.
func (s *site) written() {
	s.t.Helper()
	testenv.Eventually(s.t, func() error {
		st, err := s.standing(s.api)
		if err != nil {
			return err
		}
		head, c := s.net.Head(), st.Chains[0]
		safe, final := head.Number-min(head.Number, s.marks.safe), head.Number-min(head.Number, s.marks.final)
		if c.Head != head || c.Safe == nil || *c.Safe != safe || c.Finalized == nil || *c.Finalized != final {
			return fmt.Errorf("the writer's chain stands at %+v, not %+v, %d, %d", c, head, safe, final)
		}
		return nil
	})
}

// caughtUp waits until the replicas have every row of the writer's feed.
func (s *site) caughtUp(replicas ...*replica) {
	s.t.Helper()
	s.written()
	for _, r := range replicas {
		api := r.api()
		testenv.Eventually(s.t, func() error {
			want, err := s.standing(s.api)
			got, err2 := s.standing(api)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			if got.Seq != want.Seq {
				return fmt.Errorf("replica at row %d of %d", got.Seq, want.Seq)
			}
			return nil
		})
	}
}

// converge waits until all replicas say what the writer says, and their nodes' and the chain's own nodes' answers are the
// same.
func (s *site) converge() {
	s.t.Helper()
	s.caughtUp(s.replicas...)
	for _, r := range s.replicas {
		testenv.Eventually(s.t, func() error { return sameAnswers(s.t.Context(), s.api, r.api()) })
	}
	nodes := []string{s.net.URLs()[0], s.api + "/rpc"}
	for _, r := range s.replicas {
		nodes = append(nodes, r.api()+"/rpc")
	}
	all, err := s.calls()
	if err != nil {
		s.t.Fatal(err)
	}
	testenv.Eventually(s.t, func() error { return sameCalls(s.t.Context(), all, nodes...) })
}

// calls is what to ask nodes about everything that the writer has.
func (s *site) calls() ([]call, error) {
	ctx, canonical := s.t.Context(), map[schema.Hash]bool{}
	for _, hash := range s.net.Canonical() {
		canonical[hash] = true
	}
	stored, err := blocks(ctx, s.api)
	var siblings, transactions []schema.Hash
	var contract string
	for _, b := range stored {
		if !canonical[b.Hash] {
			siblings = append(siblings, b.Hash)
			continue
		}
		for _, tx := range b.Transactions {
			transactions = append(transactions, tx.Hash)
			contract = cmp.Or(contract, tx.Contract)
		}
	}
	return calls(s.net.Canonical(), siblings, transactions, contract), err
}

// sameDigests ends the replicas and compares all that they hold, in their files, with all that the writer has.
func (s *site) sameDigests() {
	s.t.Helper()
	chain := schema.HeightRange{Chain: 1337, To: s.net.Head().Number + 100}
	want := s.digests(s.dsn, chain)
	for i, r := range s.replicas {
		if err := r.Stop(s.t); err != nil {
			s.t.Errorf("replica %d ended with %v", i, err)
		}
		got := s.digests("sqlite://"+r.file, chain)
		if got.Facts != want.Facts || got.Blocks != want.Blocks || got.Payloads == nil || *got.Payloads != *want.Payloads {
			s.t.Errorf("replica %d holds %+v, the writer %+v", i, got, want)
		}
	}
}

// digests opens a database and sums up a range of its blocks.
func (s *site) digests(dsn string, r schema.HeightRange) schema.RangeDigest {
	s.t.Helper()
	db, err := store.Open(s.t.Context(), store.Options{DSN: dsn})
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	_, _, digests, err := db.Digests(s.t.Context(), r)
	if err != nil {
		s.t.Fatal(err)
	}
	if digests[0].Blocks == 0 || digests[0].Payloads == nil {
		s.t.Fatalf("%s has %+v", dsn, digests[0])
	}
	return digests[0]
}
