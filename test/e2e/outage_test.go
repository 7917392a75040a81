package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
)

// lasts lets a fault last while the chain goes on by a block each tick: a little, or for a minute in the long form.
func (s *scene) lasts(short time.Duration) {
	s.t.Helper()
	if accepting() {
		short = time.Minute
	}
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(short); time.Now().Before(end); {
		<-tick.C
		s.mine(1)
	}
}

// newNetwork is geth processes in the long form.
func newNetwork(t *testing.T, nodes int) network {
	t.Helper()
	if accepting() {
		return newGeths(t, nodes, safeDepth, finalDepth)
	}
	return newDevnet(t, nodes)
}

// Every server is away for a while; both observers, one with a spool and one without, keep what they see.
func TestAllServersAreAwayForAWhile(t *testing.T) {
	t.Parallel()
	s := newScene(t, newNetwork(t, 2), testenv.MySQL(t))
	a, b := s.server("server-a", s.dsn), s.server("server-b", s.dsn)
	servers := []string{a.recorder.Addr(), b.recorder.Addr()}
	keeper := s.observer("keeper", s.net.URLs()[0], servers, "--spool", filepath.Join(t.TempDir(), "spool"))
	forgetful := s.observer("forgetful", s.net.URLs()[1], servers)
	s.mine(3)
	s.rests()

	a.Kill()
	b.Kill()
	s.lasts(2 * time.Second)
	s.step(s.net.Reorg(t.Context(), 2))
	keeper.restart()
	if accepting() {
		keeper.ready(false)
		forgetful.ready(false)
	}
	a.restart()
	b.restart()
	s.rests()
	keeper.ready(true)
	forgetful.ready(true)
}

// The only observer's node stops for 70 blocks: nobody else fills in what it misses meanwhile.
func TestANodeStallsForSeventyBlocks(t *testing.T) {
	t.Parallel()
	net := newNetwork(t, 2)
	s := newScene(t, net, testenv.MySQL(t))
	a := s.server("server-a", s.dsn)
	s.observer("alice", net.URLs()[1], []string{a.recorder.Addr()})
	s.mine(2)
	s.rests()
	switch net := net.(type) {
	case *devnet.Net:
		net.Endpoints()[1].Set(devnet.Faults{Stall: true})
		s.mine(70)
		net.Endpoints()[1].Set(devnet.Faults{})
	case *devnet.Geths:
		if err := net.Nodes()[1].Pause(); err != nil {
			t.Fatal(err)
		}
		s.mine(70)
		s.resumes(net.Nodes()[1])
	}
	s.rests()
}

// resumes lets a node that was paused go on and waits until it has fetched what it missed. It hears which block is
// finalized with the next one only.
func (s *scene) resumes(node *devnet.Geth) {
	s.t.Helper()
	if err := node.Resume(); err != nil {
		s.t.Fatal(err)
	}
	s.mine(1)
	eventually(s.t, time.Minute, func() error {
		if head, want := numberOf(s.t, node.URL(), "latest"), s.net.Head().Number; head != want {
			return fmt.Errorf("the node's head is %d, not %d", head, want)
		}
		return nil
	})
	s.mine(1)
}

// The chain of a geth, or two in the long form, replaces its last block, its last five, and its last 64, the length of two
// epochs.
func TestReorgsOfOneFiveAndSixtyFourBlocks(t *testing.T) {
	t.Parallel()
	nodes := 1
	if accepting() {
		nodes = 2
	}
	s := newScene(t, newGeths(t, nodes, 66, 68), testenv.MySQL(t))
	s.safe, s.final = 66, 68
	a, b := s.server("server-a", s.dsn), s.server("server-b", s.dsn)
	s.observer("alice", s.net.URLs()[0], []string{a.recorder.Addr()})
	s.observer("bob", s.net.URLs()[nodes-1], []string{b.recorder.Addr()})
	s.mine(67)
	s.rests()
	for _, depth := range []uint64{1, 5, 64} {
		s.reorg(depth)
		s.rests()
	}
}
