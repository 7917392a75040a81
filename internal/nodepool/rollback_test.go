package nodepool

import (
	"context"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// A geth whose operator sets its head back is out while it is behind and back once it has caught up, and a geth of
// another chain, which all the while answers well, is never used.
func TestARealGethIsSetBackAndOneOfAnotherChainIsNeverUsed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	g, err := devnet.StartGeths(ctx, devnet.GethOptions{Path: testenv.Geth(t), Nodes: 3, ChainID: 424242, Seed: 12})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Close() })
	if err := g.Mine(ctx, 30); err != nil {
		t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(t.Output())
	o := Options{Poll: 300 * time.Millisecond, Log: log, Nodes: []string{"stranger=" + devGeth(t)}}
	for i, node := range g.Nodes() {
		o.Nodes = append(o.Nodes, []string{"one", "two", "three"}[i]+"="+node.URL())
	}
	p := run(t, o)
	state := func(i int, want schema.NodeState) func() bool {
		return func() bool { return p.Views()[i].State == want }
	}
	wait(t, 30*time.Second, "three ready", func() bool { return len(p.Serving()) == 3 })
	wait(t, 30*time.Second, "the stranger recognised", state(0, schema.NodeWrongChain))

	node, err := rpc.DialContext(ctx, g.Nodes()[0].URL())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	if err := node.CallContext(ctx, nil, "debug_setHead", hexutil.Uint64(12)); err != nil {
		t.Fatal(err)
	}
	wait(t, 30*time.Second, "the node that was set back out", state(1, schema.NodeLagging))
	if n, _, err := p.Pick(); err != nil || n.Name() == "one" || n.Name() == "stranger" {
		t.Errorf("picks %v, %v", n, err)
	}
	mining(t, 300*time.Millisecond, func() error { return g.Mine(context.Background(), 1) })
	wait(t, 30*time.Second, "the node back", state(1, schema.NodeReady))
	if !state(0, schema.NodeWrongChain)() {
		t.Errorf("the stranger is %+v", p.Views()[0])
	}
}

// devGeth starts a geth with a chain of its own and returns its URL.
func devGeth(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Geth(t), "--dev", "--dev.period", "1", "--datadir", t.TempDir(),
		"--http", "--http.addr", "127.0.0.1", "--http.port", strconv.Itoa(port), "--port", "0", "--authrpc.port", "0",
		"--ipcdisable", "--verbosity", "1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return "http://127.0.0.1:" + strconv.Itoa(port)
}
