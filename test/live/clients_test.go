package live

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	ethereum "github.com/ethereum/go-ethereum"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

// The versions of the clients that are installed from npm.
const (
	wsVersion     = "8.18.3"
	ethersVersion = "6.15.0"
)

// header is a real header on top of another, nil for the first.
func header(t testing.TB, parent *types.Header, salt string) *types.Header {
	t.Helper()
	h := &types.Header{
		Number: big.NewInt(1), Difficulty: new(big.Int), GasLimit: 30_000_000, Time: 1e9, Extra: []byte(salt),
		UncleHash: types.EmptyUncleHash, TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash,
		BaseFee: big.NewInt(7),
	}
	if parent != nil {
		h.ParentHash, h.Number, h.Time = parent.Hash(), new(big.Int).Add(parent.Number, big.NewInt(1)), parent.Time+12
	}
	return h
}

// addHeader stores a block with its real header.
func (s *source) addHeader(h *types.Header) {
	s.t.Helper()
	raw, err := rlp.EncodeToBytes(h)
	if err != nil {
		s.t.Fatal(err)
	}
	decoded, err := chain.DecodeHeader(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	settled := make(chan schema.Settlement, 1)
	err = s.store.Offer(s.t.Context(), &schema.Offer{
		Chain: chainID, Key: decoded.Hash.Key(), Header: &decoded, HeaderRLP: raw, ContentType: "text/plain",
		Observer: "alice", Node: "geth", Origin: schema.OriginHead, Server: "server-1", Remote: "192.0.2.1",
		ObservedAt: time.Now(), ReceivedAt: time.Now(),
	}, func(a schema.Settlement) { settled <- a })
	if err != nil {
		s.t.Fatal(err)
	}
	if a := <-settled; a.Outcome != schema.First {
		s.t.Fatalf("block %s: %s", h.Number, a.Outcome)
	}
}

// judgeHeader makes the chain follow a head.
func (s *source) judgeHeader(h *types.Header) {
	s.t.Helper()
	report := schema.Report{Heads: []schema.Head{{
		Chain: chainID, Node: "geth", Latest: schema.Point{Number: h.Number.Uint64(), Hash: schema.Hash(h.Hash())},
	}}}
	for range 2 {
		if err := s.store.Report(s.t.Context(), "alice", report); err != nil {
			s.t.Fatal(err)
		}
	}
}

// started is a source with one block and an instance that follows it.
func started(t *testing.T) (*source, *instance, *types.Header) {
	t.Helper()
	hints := feed.NewHints(feed.HintsOptions{})
	s := newSource(t, hints.Tell)
	first := header(t, nil, "a")
	s.addHeader(first)
	i := newInstance(t, s, hints, statsapi.LiveOptions{})
	eventually(t, "the feed is followed", func() bool { return i.feed.Ready(t.Context()) == nil })
	return s, i, first
}

func TestAnEthereumClientFollowsHeads(t *testing.T) {
	t.Parallel()
	s, i, tip := started(t)
	client, err := ethclient.DialContext(t.Context(), "ws://"+i.addr+"/v1/rpc")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if id, err := client.ChainID(t.Context()); err != nil || id.Uint64() != chainID {
		t.Fatalf("chain %v, %v", id, err)
	}
	if n, err := client.BlockNumber(t.Context()); err != nil || n != 1 {
		t.Fatalf("block number %d, %v", n, err)
	}
	heads := make(chan *types.Header, 16)
	sub, err := client.SubscribeNewHead(t.Context(), heads)
	if err != nil {
		t.Fatal(err)
	}
	want := func(h *types.Header) {
		t.Helper()
		select {
		case got := <-heads:
			if got.Hash() != h.Hash() {
				t.Errorf("head %s %s, want %s %s", got.Number, got.Hash(), h.Number, h.Hash())
			}
		case err := <-sub.Err():
			t.Fatalf("subscription ended: %v", err)
		case <-time.After(20 * time.Second):
			t.Fatalf("no head %s", h.Number)
		}
	}
	two := header(t, tip, "a")
	three := header(t, two, "a")
	s.addHeader(two)
	want(two)
	s.addHeader(three)
	want(three)
	// After a reorganisation each block of the new branch is a head, as geth has it.
	other := header(t, tip, "b")
	branch := []*types.Header{other, header(t, other, "b")}
	branch = append(branch, header(t, branch[1], "b"))
	for _, h := range branch {
		s.addHeader(h)
	}
	s.judgeHeader(branch[2])
	for _, h := range branch {
		want(h)
	}
	if _, err := client.SubscribeFilterLogs(t.Context(), ethereum.FilterQuery{}, make(chan types.Log)); err == nil {
		t.Error("logs are not kept, and nobody says so")
	}
	sub.Unsubscribe()
}

func TestCurlReadsTheStream(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("needs curl: apt-get install curl")
	}
	s, i, tip := started(t)
	lines := program(t, exec.Command(curl, "-sN", "-H", "Last-Event-ID: ", "http://"+i.addr+"/v1/stream?from=earliest&kind=block"))
	waitLine(t, lines, func(line string) bool { return strings.Contains(line, tip.Hash().Hex()) })
	next := header(t, tip, "a")
	s.addHeader(next)
	waitLine(t, lines, func(line string) bool { return strings.Contains(line, next.Hash().Hex()) })
}

func TestPackagesFromNpmFollowTheChain(t *testing.T) {
	t.Parallel()
	modules := npm(t)
	s, i, tip := started(t)
	script := `
const WebSocket = require('ws'), { ethers } = require('ethers')
const plain = new WebSocket('ws://` + i.addr + `/v1/ws')
plain.on('open', () => plain.send(JSON.stringify({op: 'subscribe', id: 'mine', kind: ['block'], from: 'earliest'})))
plain.on('message', text => console.log('ws ' + text))
const provider = new ethers.WebSocketProvider('ws://` + i.addr + `/v1/rpc')
provider.on('block', number => console.log('ethers ' + number))
provider.getBlockNumber().then(number => console.log('at ' + number))
`
	cmd := exec.Command("node", "-e", script)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	lines := program(t, cmd)
	seen := map[string]bool{}
	until := func(wants ...string) {
		t.Helper()
		for _, want := range wants {
			waitLine(t, lines, func(line string) bool {
				var e struct {
					ID     string
					Number uint64
				}
				if text, ok := strings.CutPrefix(line, "ws "); ok && json.Unmarshal([]byte(text), &e) == nil && e.Number > 0 {
					line = fmt.Sprint("ws ", e.ID, " ", e.Number)
				}
				seen[line] = true
				return seen[want]
			})
		}
	}
	until("ws mine 1", "at 1")
	// Nobody says when the provider's subscription stands, so blocks come until it has told of one.
	for n := 2; !seen[fmt.Sprint("ethers ", n-1)] && n < 40; n++ {
		tip = header(t, tip, "a")
		s.addHeader(tip)
		until(fmt.Sprint("ws mine ", n))
		select {
		case line := <-lines:
			seen[line] = true
		case <-time.After(200 * time.Millisecond):
		}
		if seen[fmt.Sprint("ethers ", n)] {
			return
		}
	}
	t.Error("the provider told of no block")
}

// npm installs the packages once into the user's cache and returns where they are.
func npm(t *testing.T) string {
	t.Helper()
	if _, err := exec.LookPath("npm"); err != nil {
		t.Skip("needs node and npm: apt-get install nodejs npm")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("needs a cache folder: %v", err)
	}
	dir := filepath.Join(cache, "firstseen", "npm-ws-"+wsVersion+"-ethers-"+ethersVersion)
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(filepath.Join(modules, "ethers", "package.json")); err == nil {
		return modules
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	work, err := os.MkdirTemp(os.TempDir(), "firstseen-npm")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(work)
	out, err := exec.CommandContext(ctx, "npm", "install", "--prefix", work, "--no-save", "--ignore-scripts", "--no-audit",
		"--no-fund", "ws@"+wsVersion, "ethers@"+ethersVersion).CombinedOutput()
	if err != nil {
		t.Skipf("needs the packages ws and ethers, which npm could not install: %v\n%s", err, out)
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(work, dir); err != nil { // another file system, or another test was faster
		if out, err := exec.CommandContext(ctx, "cp", "-r", work, dir).CombinedOutput(); err != nil {
			t.Logf("%s", out)
		}
	}
	return modules
}

// TestABrowserFollowsTheStream lets Chromium's EventSource read the stream from a page of another, allowed origin.
func TestABrowserFollowsTheStream(t *testing.T) {
	t.Parallel()
	browser, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs Chromium: apt-get install chromium")
	}
	said := make(chan string, 4)
	var page string
	site := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/said" {
			said <- r.URL.Query().Get("id")
			return
		}
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, page)
	}))
	defer site.Close()
	origin := "http://" + site.Listener.Addr().String()
	hints := feed.NewHints(feed.HintsOptions{})
	s := newSource(t, hints.Tell)
	s.addHeader(header(t, nil, "a"))
	f, err := feed.New(feed.Options{Source: s.store, Hints: hints})
	if err != nil {
		t.Fatal(err)
	}
	background(t, f.Run)
	api, err := statsapi.New(t.Context(), statsapi.Options{
		Addr: "127.0.0.1:0", Store: s.store, Origins: []string{origin}, Live: statsapi.LiveOptions{Feed: f},
	})
	if err != nil {
		t.Fatal(err)
	}
	background(t, api.Run)
	page = `<script>new EventSource("http://` + api.Addr().String() + `/v1/stream?from=earliest").onmessage =
		e => fetch("/said?id=" + e.lastEventId)</script>`
	site.Start()
	program(t, exec.Command(browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--user-data-dir="+t.TempDir(), origin))
	select {
	case id := <-said:
		if !strings.HasSuffix(id, ".1") {
			t.Errorf("the browser's last event id is %q", id)
		}
	case <-time.After(60 * time.Second):
		t.Error("the browser told of no event")
	}
}

// program runs a command until the test ends and returns the lines that it prints.
func program(t *testing.T, cmd *exec.Cmd) <-chan string {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = testLog{t}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 1024) // more than any of them prints
	read := make(chan struct{})
	go func() {
		defer close(read)
		for in := bufio.NewScanner(out); in.Scan(); {
			lines <- in.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-read
		_ = cmd.Wait()
	})
	return lines
}

// testLog shows what a program complains of with a test that fails.
type testLog struct{ t testing.TB }

func (l testLog) Write(text []byte) (int, error) { l.t.Logf("%s", text); return len(text), nil }

func waitLine(t *testing.T, lines <-chan string, found func(string) bool) {
	t.Helper()
	end := time.After(30 * time.Second)
	if found("") {
		return
	}
	for {
		select {
		case line := <-lines:
			if found(line) {
				return
			}
		case <-end:
			t.Fatal("the program did not print what it should")
		}
	}
}
