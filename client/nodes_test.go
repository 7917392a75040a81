package client

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// testNode returns the node of this address once it is ready.
func testNode(t *testing.T, url string, maxAnswer int64) *nodepool.Node {
	t.Helper()
	p, err := nodepool.New(nodepool.Options{Nodes: []string{url}, Poll: 5 * time.Millisecond, MaxAnswer: maxAnswer})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	var n *nodepool.Node
	wait(t, "node", func() bool { n, _, err = p.Pick(); return err == nil })
	return n
}

func TestNodeOnAnotherChainIsNotUsed(t *testing.T) {
	t.Parallel()
	d, other := draw(t).line("a", 0, 3, ""), draw(t).line("x", 0, 900, "")
	other.id = 8
	s := serveRelay(t, d)
	c := start(t, []string{"good=" + serveDrawing(t, d).URL, "alien=" + serveDrawing(t, other).URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	wait(t, "verdict", func() bool { return c.Stats().Nodes[1].State == schema.NodeWrongChain })
	views := c.Stats().Nodes
	if views[1].State != schema.NodeWrongChain || views[1].Chain != 8 || views[0].State != schema.NodeReady {
		t.Errorf("views %+v", views)
	}
	if !c.log.has("chain 8, but 7 is that of most nodes: not used") {
		t.Error("not said in the log")
	}
}

func TestConfiguredChainRefusesTheFirstNodeToo(t *testing.T) {
	t.Parallel()
	d, other := draw(t).line("a", 0, 3, ""), draw(t).line("x", 0, 900, "")
	other.id = 8
	s := serveRelay(t, d)
	c := start(t, []string{"alien=" + serveDrawing(t, other).URL, "good=" + serveDrawing(t, d).URL}, []string{s.addr()},
		func(o *Options) { o.Chain = 7 })
	s.wants("a3")
	c.at(d, "a3")
}

func TestForgedBlockIsNotRelayed(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	one, two := serveDrawing(t, d), serveDrawing(t, d)
	c := start(t, []string{"liar=" + one.URL, "two=" + two.URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	one.misbehave(on("eth_getBlockByHash", func(w http.ResponseWriter, _ string) bool {
		b := d.answer("eth_getBlockByNumber", []json.RawMessage{[]byte(`"latest"`)}).(map[string]any)
		b["stateRoot"] = common.Hash{1}
		_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": 1, "result": b})
		return true
	}))
	d.line("a", 4, 5, "a3")
	s.wants("a3", "a4", "a5")
	if o := s.metas["a5"]; o.Node != "two" {
		t.Errorf("a5 came from %s", o.Node)
	}
	if !c.log.has("does not match its header") {
		t.Error("not said in the log")
	}
}

func TestHangingNodeGivesWay(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	one := serveDrawing(t, d)
	c := start(t, []string{"one=" + one.URL, "two=" + serveDrawing(t, d).URL}, []string{s.addr()},
		func(o *Options) { o.CallTimeout = 100 * time.Millisecond })
	c.at(d, "a3")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	one.misbehave(func(http.ResponseWriter, string) bool { <-release; return true })
	d.line("a", 4, 4, "a3")
	s.wants("a3", "a4")
	if got := s.metas["a4"].Node; got != "two" {
		t.Errorf("a4 came from %s", got)
	}
}

func TestNodeErrorIsNotHeightZero(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	n := serveDrawing(t, d)
	c := start(t, []string{"one=" + n.URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	n.misbehave(rpcError("-32000", "header not found"))
	wait(t, "fault", func() bool { return c.Stats().NodeFault["one"] > 2 })
	st := c.Stats()
	if st.Nodes[0].Height != nil || st.Head.Latest.Number != 3 || st.Halted != "" || len(st.Gaps) != 0 {
		t.Errorf("%+v", st)
	}
	n.misbehave(nil)
	d.line("a", 4, 4, "a3")
	s.wants("a3", "a4")
}

func TestBlockOtherThanTheOneAskedForIsNotRelayed(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	n := testNode(t, serveDrawing(t, d).URL, 0)
	if _, err := blockByHash(t.Context(), n, 7, d.hash("a2")); err != nil {
		t.Error(err)
	}
	d.mu.Lock()
	d.names[d.blocks["a1"].Hash()] = "a2"
	d.mu.Unlock()
	if _, err := blockByHash(t.Context(), n, 7, d.hash("a1")); !errors.Is(err, chain.ErrHashMismatch) {
		t.Errorf("%v, want ErrHashMismatch", err)
	}
}

func TestStalledNodeGivesWay(t *testing.T) {
	t.Parallel()
	d, stuck := draw(t).line("a", 0, 3, ""), draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	c := start(t, []string{"stuck=" + serveDrawing(t, stuck).URL, "two=" + serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	d.line("a", 4, 30, "a3")
	s.wants(names("a", 3, 30)...)
	c.at(d, "a30")
}

func TestPinnedNodeIsTheOnlyOneObserved(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	c := start(t, []string{"one=" + serveDrawing(t, d).URL, "two=" + serveDrawing(t, d).URL}, []string{s.addr()},
		func(o *Options) { o.Node = "two" })
	c.at(d, "a3")
	if got := s.metas["a3"].Node; got != "two" {
		t.Errorf("a3 came from %s", got)
	}
	if err := c.Cordon("two"); err != nil {
		t.Fatal(err)
	}
	d.line("a", 4, 5, "a3")
	wait(t, "fault", func() bool { return c.board.state().bad != "" })
	if err := c.Uncordon("two"); err != nil {
		t.Fatal(err)
	}
	s.wants("a3", "a4", "a5")
}

func TestTransitionsOfNodesAreReportedOnce(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	c := start(t, []string{"one=" + serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	var states []schema.NodeState
	wait(t, "ready reported", func() bool {
		states = nil
		for _, e := range s.transitions() {
			states = append(states, e.To)
		}
		return len(states) == 2
	})
	if states[0] != schema.NodeLive || states[1] != schema.NodeReady {
		t.Errorf("transitions to %v", states)
	}
}
