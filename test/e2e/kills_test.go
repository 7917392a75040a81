package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/process"
)

// accepting tells whether the long forms of tests are asked for, as `make accept` does.
func accepting() bool { return os.Getenv("FIRSTSEEN_ACCEPT") != "" }

// member is one process of a fleet that can be killed and started again as it was.
type member struct {
	args []string
	p    *process.Process
}

func (m *member) restart(t *testing.T) {
	t.Helper()
	m.p.Kill()
	m.p = start(t, m.args...)
}

// members are the fleet's servers, now with the ports they were given for good, and an observer of each node.
func (f *fleet) members(t *testing.T, nodes []string) []*member {
	t.Helper()
	var all []*member
	for _, s := range f.servers {
		args := slices.Clone(s.Args)
		args[slices.Index(args, "--listen")+1] = s.Addr(t, "server")
		all = append(all, &member{args, s})
	}
	for i, node := range nodes {
		observer := f.observe(t, fmt.Sprintf("observer-%d", i), node)
		all = append(all, &member{observer.Args, observer})
	}
	return all
}

// Servers and observers are killed at random, and started again, while the chain grows and reorganises. In the end
// every block of the chain is stored once, with the chain's own status.
func TestNothingIsLostWhileProcessesAreKilled(t *testing.T) {
	t.Parallel()
	rounds := 4
	if accepting() {
		rounds = 50
	}
	ctx := t.Context()
	geths, err := devnet.StartGeths(ctx, devnet.GethOptions{Path: testenv.Geth(t), Nodes: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = geths.Close() })
	f := newFleet(t)
	all := f.members(t, geths.URLs())
	f.stored(t, geths.Head().Hash)

	random := rand.New(rand.NewPCG(1, 2)) // the same kills each time
	for round := range rounds {
		if err := geths.Mine(ctx, 1+random.IntN(12)); err != nil {
			t.Fatal(err)
		}
		victim := all[random.IntN(len(all))]
		victim.p.Kill()
		if err := geths.Mine(ctx, random.IntN(6)); err != nil {
			t.Fatal(err)
		}
		victim.restart(t)
		if round%2 == 1 {
			f.stored(t, geths.Head().Hash)
			if err := geths.Reorg(ctx, 1+random.Uint64N(5)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := geths.Mine(ctx, 3); err != nil {
		t.Fatal(err)
	}
	safe, finalized := marks(t, geths.URLs()[0])
	eventually(t, time.Minute, func() error {
		return f.matches(ctx, geths.Canonical(), safe, finalized)
	})
	f.connected(t, 2, 2)
}

// stored waits until anyone has delivered the block.
func (f *fleet) stored(t *testing.T, hash schema.Hash) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		n, err := f.count(t.Context(), "SELECT COUNT(*) FROM records WHERE `key` = ?", hash.Key())
		if err == nil && n != 1 {
			err = fmt.Errorf("block %s is stored %d times", hash, n)
		}
		return err
	})
}

// matches compares the blocks on the chain's branch with the chain. Which of the replaced blocks are stored depends on
// who was alive to see them; none may count as part of the chain.
func (f *fleet) matches(ctx context.Context, chain []schema.Hash, safe, finalized uint64) error {
	got, err := f.rows(ctx)
	if err != nil {
		return err
	}
	for number, hash := range chain {
		if want := statusAt(uint64(number), safe, finalized); got[hash.Key()] != want {
			return fmt.Errorf("block %d %s is %q, want %q", number, hash, got[hash.Key()], want)
		}
	}
	for key, status := range got {
		hash, err := key.Hash()
		if err == nil && status.OnBranch() && !slices.Contains(chain, hash) {
			err = fmt.Errorf("block %s is %q and not of the chain", key, status)
		}
		if err != nil {
			return err
		}
	}
	return f.contiguousFeed(ctx, len(got))
}

// statusAt is the status that a block of the chain has at a height.
func statusAt(number, safe, finalized uint64) schema.Status {
	switch {
	case number <= finalized:
		return schema.StatusFinalized
	case number <= safe:
		return schema.StatusSafe
	}
	return schema.StatusCanonical
}
