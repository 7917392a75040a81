package nodepool

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// Three peered geths, one of them stopped, continued, sent through a reorg and stopped again for good, until the pool's
// repair restarts its process.
func TestRealGethsStallReorgAndAreRestarted(t *testing.T) {
	t.Parallel()
	const poll = time.Second
	g, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: testenv.Geth(t), Nodes: 3, Seed: 11})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	var chain sync.Mutex // held while the chain or its nodes are changed
	mine := func(blocks int) error {
		chain.Lock()
		defer chain.Unlock()
		return g.Mine(context.Background(), blocks)
	}
	if err := mine(20); err != nil {
		t.Fatal(err)
	}
	restarts := make(chan string, 8)
	hooks := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/restart/one" {
			chain.Lock()
			defer chain.Unlock()
			if err := g.Restart(context.Background(), 0); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		restarts <- r.URL.Path
	}))
	t.Cleanup(hooks.Close)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(t.Output())
	o := Options{Poll: poll, Log: log, Repair: Repair{Execute: true, Grace: 5 * time.Second,
		Hook:       []string{self, hookWord, hooks.URL + "/restart/" + nodeMark},
		Dependants: []string{self, hookWord, hooks.URL + "/observer/" + nodeMark}}}
	for i, node := range g.Nodes() {
		o.Nodes = append(o.Nodes, []string{"one", "two", "three"}[i]+"="+node.URL()+"|"+node.WebSocketURL())
	}
	p := run(t, o)
	state := func(want schema.NodeState) func() bool {
		return func() bool { return p.Views()[0].State == want }
	}
	wait(t, 30*time.Second, "all ready", func() bool { return len(p.Serving()) == 3 })
	// Heads come over WebSocket, not with the next poll. On a busy machine one of many will be in time.
	quickest, tips := time.Hour, 0
	for ; tips < 5 || quickest > poll/2 && tips < 50; tips++ {
		if err := mine(1); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		wait(t, 30*time.Second, "the tip", func() bool { tip, _, _ := p.Tip(); return tip == g.Head() })
		quickest = min(quickest, time.Since(began))
	}
	t.Logf("the quickest of %d new tips: %s after the nodes had it", tips, quickest.Round(time.Millisecond))
	if quickest > poll/2 {
		t.Errorf("tip only %s after the nodes had it", quickest)
	}
	mining(t, 500*time.Millisecond, func() error { return mine(1) })

	if err := g.Nodes()[0].Pause(); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	wait(t, 30*time.Second, "stopped node out", state(schema.NodeQuarantined))
	t.Logf("stopped node out after %s: %s", time.Since(began).Round(time.Millisecond), p.Views()[0].Reason)
	if n, _, err := p.Pick(); err != nil || n.Name() == "one" {
		t.Errorf("picks %v, %v", n, err)
	}
	if err := g.Nodes()[0].Resume(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	wait(t, 30*time.Second, "continued node back", state(schema.NodeReady))
	t.Logf("continued node back after %s", time.Since(began).Round(time.Millisecond))

	chain.Lock()
	err = g.Reorg(t.Context(), 4)
	head := g.Head()
	chain.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	wait(t, 30*time.Second, "the tip on the new branch", func() bool { tip, _, _ := p.Tip(); return tip.Number >= head.Number })
	if got := g.Canonical(); got[head.Number] != head.Hash {
		t.Fatal("the chain left the branch again")
	}

	if err := g.Nodes()[0].Pause(); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	for _, want := range []string{"/restart/one", "/observer/one"} {
		select {
		case got := <-restarts:
			if got != want {
				t.Fatalf("hook %s, want %s", got, want)
			}
			t.Logf("%s after %s", got, time.Since(began).Round(time.Millisecond))
		case <-time.After(45 * time.Second):
			t.Fatal("no hook was run: " + want)
		}
	}
	wait(t, 60*time.Second, "restarted node back", state(schema.NodeReady))
	t.Logf("restarted node back %s after it was stopped", time.Since(began).Round(time.Millisecond))
	if len(restarts) > 0 {
		t.Error("more than one restart: " + fmt.Sprint(<-restarts))
	}
}
