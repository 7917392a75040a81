package replica

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
)

// seeded is a source of chance that a failed run can be repeated with: FIRSTSEEN_TEST_SEED sets it.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("FIRSTSEEN_TEST_SEED"), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("FIRSTSEEN_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// moment lets a little time pass, so that what happens next finds processes at any point of their work.
func moment(random *rand.Rand) { <-time.After(time.Duration(random.IntN(200)) * time.Millisecond) }

// Replicas and ship are killed at random points, over and over, while geth's chain grows and is reorganised, by one block,
// by ten and by sixty-four, the length of two epochs. In the end all of them, and one that begins with nothing, hold and
// answer what the writer does, and what geth does.
func TestReplicasEqualTheWriterWhateverIsKilled(t *testing.T) {
	t.Parallel()
	kills, depths, m, nodes := 4, []uint64{1, 10}, marks{12, 16}, 1
	if accepting() {
		kills, depths, m, nodes = 50, []uint64{1, 10, 64}, marks{66, 68}, 2
	}
	random := seeded(t)
	s := newSite(t, newGeths(t, nodes, m), m, testenv.Kafka(t))
	for range 3 {
		s.follow()
	}
	s.mine(int(m.final) + 2)
	for kill := range kills {
		s.mine(1 + random.IntN(4))
		moment(random)
		victim := s.replicas[random.IntN(3)]
		victim.Kill()
		s.mine(random.IntN(3))
		if kill%4 == 1 {
			s.reship()
		}
		if every := kills / len(depths); kill%every == every-1 && kill/every < len(depths) {
			s.reorg(depths[kill/every])
		}
		victim.restart()
	}
	s.follow()
	s.converge()
	s.sameDigests()
}
