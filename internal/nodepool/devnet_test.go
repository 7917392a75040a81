package nodepool

import (
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
)

// mining makes a block every so often until the test ends.
func mining(t testing.TB, every time.Duration, mine func() error) {
	stop := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				if err := mine(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	t.Cleanup(func() { close(stop); done.Wait() })
}

// One pool of three honest nodes and one for each way of being bad: every bad one is out, none of them moves the tip,
// and all come back once they are healed. How many polls it took is logged, not judged, because a busy machine polls
// late; the tests on a drawn clock judge it.
func TestBadNodesAreOutAndBackOnceHealed(t *testing.T) {
	t.Parallel()
	const poll = time.Second
	bad := []string{"ahead:30000000", "lie", "garbage", "truncate", "huge", "limit", "error", "dark", "hang", "drip", "null",
		"lag:20", "chain:5"}
	net, err := devnet.New(devnet.Options{Endpoints: 3 + len(bad)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	if err := net.Mine(t.Context(), 30); err != nil {
		t.Fatal(err)
	}
	p := run(t, Options{Nodes: net.URLs(), Poll: poll})
	wait(t, 20*time.Second, "all ready", func() bool { return len(p.Serving()) == 3+len(bad) })
	mining(t, 500*time.Millisecond, func() error { return net.Mine(t.Context(), 1) })

	began := time.Now()
	for i, name := range bad {
		f, err := devnet.ParseFaults(name)
		if err != nil {
			t.Fatal(err)
		}
		net.Endpoints()[3+i].Set(f)
	}
	if err := p.Uncordon(p.Views()[len(p.Views())-1].Name); err != nil { // has the last one looked at at once
		t.Fatal(err)
	}
	p.nodes[len(p.nodes)-1].doubt() // its chain id is read at each connection, which lasts
	out := make([]time.Duration, len(bad))
	wait(t, time.Minute, "every bad node out", func() bool {
		all := true
		for i, v := range p.Views()[3:] {
			if out[i] == 0 && v.State != schema.NodeReady {
				out[i] = time.Since(began)
			}
			all = all && out[i] != 0
		}
		return all
	})
	for i, took := range out {
		t.Logf("%-16s out after %.1f polls: %s", bad[i], float64(took)/float64(poll), p.Views()[3+i].Reason)
	}
	if tip, corroborated, _ := p.Tip(); tip.Number > net.Head().Number || !corroborated {
		t.Errorf("tip %s, corroborated %v", tip, corroborated)
	}
	if got := p.Serving(); len(got) != 3 {
		t.Errorf("serving %+v", got)
	}

	began = time.Now()
	for i := range bad {
		net.Endpoints()[3+i].Set(devnet.Faults{})
	}
	wait(t, time.Minute, "all but the one on another chain back", func() bool { return len(p.Serving()) == 2+len(bad) })
	t.Logf("all back after %s", time.Since(began).Round(100*time.Millisecond))
	if v := p.Views()[len(bad)+2]; v.State != schema.NodeWrongChain {
		t.Errorf("node on another chain is %s", v.State)
	}
}

func TestStalledNodeIsOutTenBlocksLater(t *testing.T) {
	t.Parallel()
	net, err := devnet.New(devnet.Options{Endpoints: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = net.Close() })
	if err := net.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	p := run(t, Options{Nodes: net.URLs(), Poll: 100 * time.Millisecond})
	wait(t, 30*time.Second, "all ready", func() bool { return len(p.Serving()) == 3 })
	net.Endpoints()[0].Set(devnet.Faults{Stall: true})
	if err := net.Mine(t.Context(), 12); err != nil {
		t.Fatal(err)
	}
	wait(t, 30*time.Second, "lagging", func() bool { return p.Views()[0].State == schema.NodeLagging })
	net.Endpoints()[0].Set(devnet.Faults{})
	wait(t, 30*time.Second, "back", func() bool { return p.Views()[0].State == schema.NodeReady })
	if err := net.Reorg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	wait(t, 30*time.Second, "the tip on the new branch", func() bool { tip, _, _ := p.Tip(); return tip == net.Head() })
}
