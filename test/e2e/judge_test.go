package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
)

// Three observers of three nodes tell two servers of heads that differ: one node after the other goes astray on a branch
// of its own, while the chain itself grows and reorganises and servers die. The two nodes that agree decide.
func TestObserversDisagreeAndTheMajorityDecides(t *testing.T) {
	t.Parallel()
	rounds := 3
	if accepting() {
		rounds = 40
	}
	net := newDevnet(t, 3)
	s := newScene(t, net, testenv.MySQL(t))
	servers := []*actor{s.server("server-a", s.dsn), s.server("server-b", s.dsn)}
	for i, node := range s.net.URLs() {
		s.observer(fmt.Sprint("observer-", i), node, []string{servers[i%2].recorder.Addr(), servers[(i+1)%2].recorder.Addr()})
	}
	s.mine(finalDepth + 1)
	s.rests()

	random := rand.New(rand.NewPCG(3, 4)) // the same drawings each time
	for round := range rounds {
		astray := net.Endpoints()[random.IntN(3)]
		if err := net.Split(t.Context(), astray, 1+random.Uint64N(3)); err != nil {
			t.Fatal(err)
		}
		if err := s.chronicle.Follow(t.Context(), astray.URL()); err != nil {
			t.Fatal(err)
		}
		s.mine(1 + random.IntN(3))
		if round%2 == 1 {
			servers[random.IntN(2)].restart()
		}
		s.reorg(1 + random.Uint64N(3))
		s.rests()
		astray.Set(devnet.Faults{})
		s.mine(random.IntN(2))
	}
	s.mine(1)
	s.rests()
}
