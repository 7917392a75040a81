package nodepool

import (
	"context"
	"encoding/json"
	"slices"
	"sync/atomic"
	"time"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

// Node is one node of a pool, for asking it things.
type Node struct {
	*conn
	reference bool
	wake      chan struct{} // one signal: probe now
	believed  atomic.Bool   // see Trust

	// What follows is guarded by Pool.mu.
	state    schema.NodeState
	reason   string
	since    time.Time // of state
	cordoned bool
	chain    uint64 // that it said it is on; 0: not said yet
	head     schema.Header
	branch   branch
	trail    map[schema.Hash]schema.Header // what walks of its parents have met since one came to its end
	had      schema.Point                  // the tip that it had, when the tip was last agreed on

	probed    bool      // at least one probe has ended
	heard     time.Time // when it last gave a good head; zero: never
	misses    int       // probes in a row that failed
	good      int       // probes in a row that were near the tip
	pauses    int       // probes since it went out, for the pause before the next
	rest      time.Time // asked to be left alone until then, or the breaker is open
	apart     int       // looks in a row at a head far ahead of the tip that is not linked to it
	jumped    bool      // the latest head is such a one
	overruled bool      // a majority was elsewhere when it was put out for that
	trails    bool      // it was too far behind the best, when it was last looked at
	kept      bool      // ready only because no other node is
	syncing   bool      // says so itself, which is a hint and no more
	peers     *uint64   // as it says; nil: it did not
	faults    int       // times in a row that Fault was told of it
	benched   time.Time // not for Pick before then, if there is another
	failures  int       // calls in a row that failed, for the breaker
	failed    uint64    // probes and uses that failed, ever
	latency   latencies
	out       time.Time // since when it has not been ready; zero: it is
	repaired  time.Time // when its restart was last tried
}

// Name returns what the node is called in the configuration, or else its host and port.
func (n *Node) Name() string { return n.name }

// Trust says whether the hashes of the node's blocks are to be recomputed, as they are on every chain that is not one of
// Options.Unverified.
func (n *Node) Trust() chain.Trust { return chain.Trust(n.believed.Load()) }

// Ask calls the node, within Options.CallTimeout; a look at a block's header gets at most 3 s of it. The answer is the
// raw JSON of the result, "null" included. Errors name the node and never hold its URL; a JSON-RPC error is there for
// errors.As with rpc.Error of go-ethereum.
func (n *Node) Ask(ctx context.Context, method string, args ...any) (json.RawMessage, error) {
	within := n.timeout
	if len(args) == 2 && args[1] == any(false) && (method == "eth_getBlockByNumber" || method == "eth_getBlockByHash") {
		within = quickCall
	}
	return n.call(ctx, within, method, args...)
}

// maxMarks is how many of a node's blocks are remembered.
const maxMarks = 64

// branch is what is known of the blocks a node has, by number. When more than maxMarks are known, the lowest is
// forgotten.
type branch struct {
	marks   map[uint64]mark
	numbers []uint64 // of marks, sorted
}

// mark is one block of a branch. Time is zero when only its child is known.
type mark struct {
	hash schema.Hash
	time time.Time
}

// grow takes in the node's latest head. A branch that it does not continue is forgotten, as is what was above it.
func (b *branch) grow(h schema.Header) {
	if m, ok := b.marks[h.Number]; ok && m.hash != h.Hash {
		b.clear()
	} else if m, ok := b.marks[h.Number-1]; ok && h.Number > 0 && m.hash != h.Parent {
		b.clear()
	}
	for len(b.numbers) > 0 && b.numbers[len(b.numbers)-1] > h.Number {
		b.drop(len(b.numbers) - 1)
	}
	b.add(h)
}

// add notes a block that the node has, and its parent.
func (b *branch) add(h schema.Header) {
	b.set(h.Number, mark{h.Hash, h.Time})
	if h.Number > 0 {
		if _, ok := b.marks[h.Number-1]; !ok {
			b.set(h.Number-1, mark{hash: h.Parent})
		}
	}
}

func (b *branch) set(number uint64, m mark) {
	if b.marks == nil {
		b.marks = map[uint64]mark{}
	}
	if _, ok := b.marks[number]; !ok {
		i, _ := slices.BinarySearch(b.numbers, number)
		b.numbers = slices.Insert(b.numbers, i, number)
	}
	b.marks[number] = m
	if len(b.numbers) > maxMarks {
		b.drop(0)
	}
}

func (b *branch) drop(i int) {
	delete(b.marks, b.numbers[i])
	b.numbers = slices.Delete(b.numbers, i, i+1)
}

func (b *branch) clear() { *b = branch{} }

func (b *branch) has(p schema.Point) bool {
	return b.marks[p.Number].hash == p.Hash && !p.Hash.IsZero()
}

// lacks tells whether the node is known not to have the block: it has another one at its height, or its head is lower.
func (b *branch) lacks(p schema.Point) bool {
	if len(b.numbers) == 0 {
		return false
	}
	if m, ok := b.marks[p.Number]; ok {
		return m.hash != p.Hash
	}
	return p.Number > b.numbers[len(b.numbers)-1]
}

// latencies are how long the last answers took.
type latencies struct {
	took [128]time.Duration
	n    int // ever
}

func (l *latencies) add(d time.Duration) {
	l.took[l.n%len(l.took)] = d
	l.n++
}

// quantiles returns nil before the first answer.
func (l *latencies) quantiles() *schema.Latency {
	if l.n == 0 {
		return nil
	}
	sorted := slices.Clone(l.took[:min(l.n, len(l.took))])
	slices.Sort(sorted)
	at := func(q int) float64 {
		return float64(sorted[(len(sorted)-1)*q/100]) / float64(time.Millisecond)
	}
	return &schema.Latency{P50: at(50), P99: at(99)}
}
