// Package e2e runs the production binary against real nodes and real services.
package e2e

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/process"
)

// fleet is two servers and a stats API on one MariaDB and one Redis.
type fleet struct {
	db      *sql.DB
	servers []*process.Process
	api     string // base URL
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	dsn, redis := testenv.MySQL(t), testenv.Redis(t)
	if _, stderr, code := once(t, "migrate", "--db", dsn); code != 0 {
		t.Fatalf("migrate: %s", stderr)
	}
	f := &fleet{}
	for _, name := range []string{"server-a", "server-b"} {
		f.servers = append(f.servers, start(t, "server", "--name", name, "--listen", "127.0.0.1:0", "--db", dsn, "--redis", redis))
	}
	stats := start(t, "stats", "--listen", "127.0.0.1:0", "--db", dsn, "--redis", redis)
	f.api = "http://" + stats.Addr(t, "stats")
	var err error
	if f.db, err = sql.Open("mysql", dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	return f
}

// observe starts an observer of node that knows both servers.
func (f *fleet) observe(t *testing.T, name, node string) *process.Process {
	t.Helper()
	args := []string{"client", "--name", name, "--node", node, "--poll", "50ms"}
	for _, server := range f.servers {
		args = append(args, "--server", server.Addr(t, "server"))
	}
	return start(t, args...)
}

type connections struct {
	Known   bool
	Total   *int
	Reason  string
	Servers []struct {
		Server string
		Count  int
	}
}

// connected waits until the API knows of exactly so many connections, on so many servers.
func (f *fleet) connected(t *testing.T, total, servers int) connections {
	t.Helper()
	var c connections
	eventually(t, 20*time.Second, func() error {
		c = connections{}
		if err := getJSON(t.Context(), f.api+"/v1/connections", &c); err != nil {
			return err
		}
		if !c.Known || c.Total == nil || *c.Total != total || len(c.Servers) != servers {
			return fmt.Errorf("connections %+v, want %d on %d servers", c, total, servers)
		}
		return nil
	})
	return c
}

// busiest is the server with most connections.
func (f *fleet) busiest(c connections) *process.Process {
	most := slices.MaxFunc(c.Servers, func(a, b struct {
		Server string
		Count  int
	}) int {
		return a.Count - b.Count
	})
	if most.Server == "server-a" {
		return f.servers[0]
	}
	return f.servers[1]
}

// count runs a query that answers one number.
func (f *fleet) count(ctx context.Context, query string, args ...any) (n uint64, err error) {
	err = f.db.QueryRowContext(ctx, query, args...).Scan(&n)
	return n, err
}

// delivered waits until both observers have delivered the block.
func (f *fleet) delivered(t *testing.T, hash schema.Hash) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		n, err := f.count(t.Context(), "SELECT COUNT(*) FROM observations o JOIN records r ON r.id = o.record WHERE r.`key` = ?", hash.Key())
		if err == nil && n != 2 {
			err = fmt.Errorf("block %s has %d observations, want 2", hash, n)
		}
		return err
	})
}

// rows reads every block's status, and fails if a block is there twice.
func (f *fleet) rows(ctx context.Context) (map[schema.Key]schema.Status, error) {
	rows, err := f.db.QueryContext(ctx, "SELECT `key`, status FROM records WHERE chain <> 0")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := map[schema.Key]schema.Status{}
	for rows.Next() {
		var key schema.Key
		var status schema.Status
		if err := rows.Scan(&key, &status); err != nil {
			return nil, err
		}
		if _, twice := out[key]; twice {
			return nil, fmt.Errorf("block %s is stored twice", key)
		}
		out[key] = status
	}
	return out, rows.Err()
}

// contiguousFeed checks that the feed is numbered 1, 2, 3 … and adds each stored block once.
func (f *fleet) contiguousFeed(ctx context.Context, blocks int) error {
	count, err := f.count(ctx, "SELECT COUNT(*) FROM feed")
	last, err2 := f.count(ctx, "SELECT COALESCE(MAX(seq), 0) FROM feed")
	added, err3 := f.count(ctx, "SELECT COUNT(DISTINCT `key`) FROM feed WHERE kind = 'block'")
	rows, err4 := f.count(ctx, "SELECT COUNT(*) FROM feed WHERE kind = 'block'")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	if count != last || added != rows || added != uint64(blocks) {
		return fmt.Errorf("feed has %d rows up to %d, %d for %d blocks of %d", count, last, rows, added, blocks)
	}
	return nil
}

// settled compares the stored blocks with the chain: all of it and every replaced block, each once, with its status.
func (f *fleet) settled(ctx context.Context, chain []schema.Hash, replaced []schema.Hash, safe, finalized uint64) error {
	got, err := f.rows(ctx)
	if err != nil {
		return err
	}
	want := map[schema.Key]schema.Status{}
	for number, hash := range chain {
		want[hash.Key()] = statusAt(uint64(number), safe, finalized)
	}
	for _, hash := range replaced {
		want[hash.Key()] = schema.StatusNonCanonical
		if number := blockNumber(ctx, f, hash); number <= finalized {
			want[hash.Key()] = schema.StatusOrphaned
		}
	}
	for key, status := range want {
		if got[key] != status {
			return fmt.Errorf("block %s is %q, want %q", key, got[key], status)
		}
	}
	if len(got) != len(want) {
		return fmt.Errorf("%d blocks stored, want %d", len(got), len(want))
	}
	return f.contiguousFeed(ctx, len(want))
}

func blockNumber(ctx context.Context, f *fleet, hash schema.Hash) uint64 {
	n, err := f.count(ctx, "SELECT number FROM records WHERE `key` = ?", hash.Key())
	if err != nil {
		return 0
	}
	return n
}

// Two peered geths, an observer each, two servers: 60 blocks and a reorganisation of depth 3, and the server that
// holds most connections is killed half way.
func TestEveryBlockOnceWhileAServerIsKilledAndTheChainReorganises(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	geths, err := devnet.StartGeths(ctx, devnet.GethOptions{Path: testenv.Geth(t), Nodes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = geths.Close() })
	f := newFleet(t)
	for i, url := range geths.URLs() {
		f.observe(t, fmt.Sprintf("observer-%d", i), url)
	}
	before := f.connected(t, 2, 2)
	f.stored(t, geths.Head().Hash) // the genesis block: the chain is stored from its first on

	mine := func(blocks int) {
		t.Helper()
		if err := geths.Mine(ctx, blocks); err != nil {
			t.Fatal(err)
		}
	}
	mine(30)
	f.busiest(before).Kill()
	mine(15)
	f.delivered(t, geths.Head().Hash)
	f.connected(t, 2, 1)

	old := geths.Canonical()
	if err := geths.Reorg(ctx, 3); err != nil {
		t.Fatal(err)
	}
	mine(14)
	f.delivered(t, geths.Head().Hash)
	chain := geths.Canonical()
	if len(chain) != 61 { // 60 and the genesis block
		t.Fatalf("the chain has %d blocks", len(chain))
	}
	safe, finalized := marks(t, geths.URLs()[0])
	eventually(t, 30*time.Second, func() error {
		return f.settled(ctx, chain, old[len(old)-3:], safe, finalized)
	})
	f.connected(t, 2, 1)
	f.answers(t, chain)
}

// answers asks the API for each block of the chain by hash and number.
func (f *fleet) answers(t *testing.T, chain []schema.Hash) {
	t.Helper()
	for number, hash := range chain {
		for _, id := range []string{hash.String(), fmt.Sprint(number)} {
			var block struct {
				Hash   schema.Hash
				Number uint64
			}
			if err := getJSON(t.Context(), f.api+"/v1/blocks/"+id, &block); err != nil {
				t.Error(err)
			} else if block.Hash != hash || block.Number != uint64(number) {
				t.Errorf("/v1/blocks/%s answers block %d %s", id, block.Number, block.Hash)
			}
		}
	}
}

// marks asks a node for the numbers of its safe and finalized blocks.
func marks(t *testing.T, url string) (safe, finalized uint64) {
	t.Helper()
	for name, into := range map[string]*uint64{"safe": &safe, "finalized": &finalized} {
		*into = numberOf(t, url, name)
	}
	return safe, finalized
}
