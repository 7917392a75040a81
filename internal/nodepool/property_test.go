package nodepool

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/firstseen/firstseen/schema"
)

// For random sequences of node behaviours: a node that is out is never given, there is always one to use while a node
// answers honestly and nobody keeps it out, and the tip never goes where only one of several nodes is.
func TestRandomBehaviour(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		count := rapid.IntRange(1, 5).Draw(rt, "nodes")
		reference := rapid.Bool().Draw(rt, "reference")
		b := seat(t, count, func(o *Options) {
			if reference {
				o.Reference = "http://reference.example"
			}
		})
		w := &world{bench: b, rt: rt, head: 50, at: make([]schema.Header, count), honest: make([]int, count)}
		for range rapid.IntRange(1, 60).Draw(rt, "rounds") {
			w.round()
		}
	})
}

// world lets nodes behave at random around an honest chain, the branch called a.
type world struct {
	*bench
	rt     *rapid.T
	head   uint64 // of the honest chain
	at     []schema.Header
	honest []int // rounds in a row in which the node was at the honest head and nothing else was wrong with it
}

func (w *world) round() {
	w.head += rapid.Uint64Range(0, 2).Draw(w.rt, "mined")
	w.top = w.head
	if w.reference != nil && rapid.IntRange(0, 3).Draw(w.rt, "reference is down") > 0 {
		w.heard(w.reference, block('a', w.head), false)
	} else if w.reference != nil {
		w.missed(w.reference, errDown)
	}
	for i := range w.nodes {
		w.behave(i)
		w.check()
	}
	w.pass(time.Second)
	w.check()
	w.checkNotEmpty()
}

// moods are what a node may do next. One that has been honest for long tends to stay so, else no node ever would.
func (w *world) moods(i int) []string {
	all := []string{"honest", "honest", "honest", "lags", "stalls", "fails", "lies", "far", "inconsistent", "silent", "busy",
		"faulty", "cordon", "uncordon"}
	if rapid.IntRange(0, 9).Draw(w.rt, "steadiness") < min(w.honest[i]*4, 9) {
		return all[:1]
	}
	return all
}

func (w *world) behave(i int) {
	letter, number := byte('a'), w.head
	n := w.nodes[i]
	kind := rapid.SampledFrom(w.moods(i)).Draw(w.rt, "behaviour")
	switch kind {
	case "lags":
		number -= min(number, rapid.Uint64Range(1, 40).Draw(w.rt, "lag"))
	case "stalls":
		number = max(1, w.at[i].Number)
	case "lies":
		letter, number = byte('k'+i), w.head+rapid.Uint64Range(0, 30).Draw(w.rt, "lead")
	case "far":
		letter, number = byte('k'+i), 30_000_000+w.head
	}
	if kind != "honest" {
		w.honest[i] = 0
	}
	before := w.tipNow()
	switch kind {
	case "fails":
		w.fails(i)
	case "busy":
		w.missed(n, busy{errDown})
	case "silent":
	case "faulty":
		w.Fault(n, errDown)
	case "cordon", "uncordon":
		if err := w.setCordon(n.name, kind == "cordon"); err != nil {
			w.rt.Fatal(err)
		}
	case "inconsistent":
		h := block('a', number)
		h.Parent = block('a', number-2).Hash
		w.heard(n, h, false)
	default:
		w.honest[i]++
		w.says(i, letter, number)
		w.at[i] = block(letter, number)
	}
	w.checkMove(before, i)
}

func (w *world) tipNow() schema.Point {
	tip, _, _ := w.Tip()
	return tip
}

// checkMove holds the tip, where it has just moved, against what the nodes have.
func (w *world) checkMove(before schema.Point, mover int) {
	tip, corroborated, ok := w.Tip()
	if !ok || tip == before {
		return
	}
	var support, alive int
	for _, n := range w.nodes {
		if votes(n.state) && w.fresh(n, w.now) {
			alive++
		}
		if n.branch.has(tip) && (votes(n.state) || n == w.nodes[mover]) {
			support++
		}
	}
	byReference := w.reference != nil && w.reference.branch.has(tip)
	switch {
	case corroborated && support < 2 && !byReference:
		w.rt.Fatalf("tip %s is called corroborated, but %d nodes have it", tip, support)
	case !corroborated && alive > 1:
		w.rt.Fatalf("tip %s by one of %d nodes that answer", tip, alive)
	}
}

// check is that what is given may be used.
func (w *world) check() {
	given := map[string]bool{}
	for _, u := range w.Serving() {
		given[u.Name] = true
	}
	if n, _, err := w.Pick(); err == nil {
		given[n.name] = true
	}
	for _, n := range w.nodes {
		if given[n.name] && (n.state != schema.NodeReady || n.cordoned || w.now.Before(n.rest) || w.now.Sub(n.heard) > w.o.Stale) {
			w.rt.Fatalf("node %s is given: %s, cordoned %v, left alone until %s", n.name, n.state, n.cordoned, n.rest)
		}
	}
}

// checkNotEmpty is that not everyone is out once a node has been on the honest chain for long enough to be taken back.
func (w *world) checkNotEmpty() {
	var steady, long int
	for i, n := range w.nodes {
		if w.honest[i] > 5 && !n.cordoned && !w.now.Before(n.rest) {
			steady++
		}
		if w.honest[i] > 15 {
			long++
		}
	}
	tip, _, known := w.Tip()
	if long >= 2 && 2*long > len(w.nodes) && tip.Number > w.head {
		w.rt.Fatalf("tip %s is above the chain's head %d although %d nodes are on it", tip, w.head, long)
	}
	if steady == 0 || !known {
		return
	}
	if len(w.Serving()) == 0 {
		w.rt.Fatalf("no node is left: %s; tip %v", w.faults(), w.tip)
	}
}
