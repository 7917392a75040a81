package devnet

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/ethereum/go-ethereum/node"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/sirupsen/logrus"
)

// Geth is one running geth process.
type Geth struct {
	name    string
	path    string // of the binary
	dir     string // of its files
	secret  [32]byte
	chainID uint64
	log     logrus.FieldLogger
	command *exec.Cmd
	exited  chan struct{} // closed by the goroutine that waits for the process

	http, ws, auth string
	public         *rpc.Client
	engine         *rpc.Client

	mu  sync.Mutex
	out bool // paused or killed: not driven
}

// URL is where the node answers JSON-RPC over HTTP: the eth, net, web3, admin, debug and txpool methods.
func (g *Geth) URL() string { return g.http }

// WebSocketURL is where it answers JSON-RPC over WebSocket, subscriptions included.
func (g *Geth) WebSocketURL() string { return g.ws }

// Pause freezes the process: connections to it stay open and nothing is answered. It misses the blocks made meanwhile.
func (g *Geth) Pause() error { return g.signal(syscall.SIGSTOP, true) }

// Resume lets a paused process go on. At the next block it finds that it is behind and fetches the rest from its
// peers; meanwhile eth_syncing answers an object.
func (g *Geth) Resume() error { return g.signal(syscall.SIGCONT, false) }

// Kill ends the process at once and for good.
func (g *Geth) Kill() error {
	if err := g.signal(syscall.SIGKILL, true); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-g.exited
	return nil
}

func (g *Geth) signal(s os.Signal, out bool) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.out = out
	if err := g.command.Process.Signal(s); err != nil {
		return fmt.Errorf("signal %s: %w", g.name, err)
	}
	return nil
}

func (g *Geth) driven() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return !g.out
}

func (g *Geth) close() error {
	g.disconnect()
	if g.command == nil {
		return nil
	}
	// Its files are thrown away, so it need not put them in order.
	return g.Kill()
}

func (g *Geth) disconnect() {
	for _, client := range []*rpc.Client{g.public, g.engine} {
		if client != nil {
			client.Close()
		}
	}
}

// launch writes a node's files below dir, starts it and waits until it listens. It picks its own ports and tells them
// in its log, so that no two runs can want the same one.
func launch(ctx context.Context, path, dir string, secret [32]byte, c *chain, log logrus.FieldLogger) (*Geth, error) {
	g := &Geth{name: filepath.Base(dir), path: path, dir: dir, secret: secret, chainID: c.chainID}
	g.log = log.WithField("node", g.name)
	if err := g.init(ctx); err != nil {
		return nil, err
	}
	if err := g.spawn(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", g.name, err), g.close())
	}
	return g, nil
}

// init writes the genesis block.
func (g *Geth) init(ctx context.Context) error {
	genesis := filepath.Join(filepath.Dir(g.dir), genesisFile)
	output, err := exec.CommandContext(ctx, g.path, "init", "--datadir", g.dir, genesis).CombinedOutput()
	if err != nil {
		return fmt.Errorf("initialise %s: %w: %s", g.name, err, output)
	}
	return nil
}

// spawn starts the process, on the ports that it had before if there was one before, and waits until it listens.
func (g *Geth) spawn(ctx context.Context) error {
	// Not bound to ctx, which only limits the start.
	command := exec.Command(g.path, //nolint:noctx // it outlives the context of its start
		"--datadir", g.dir, "--networkid", fmt.Sprint(g.chainID), "--syncmode", "full", "--cache", "64",
		"--nodiscover", "--nat", "none", "--port", "0", "--ipcdisable", "--log.format", "json",
		"--http", "--http.addr", "127.0.0.1", "--http.port", portOf(g.http), "--http.api", "eth,net,web3,admin,debug,txpool",
		"--ws", "--ws.addr", "127.0.0.1", "--ws.port", portOf(g.ws), "--ws.api", "eth,net,web3",
		"--authrpc.addr", "127.0.0.1", "--authrpc.port", portOf(g.auth),
		"--authrpc.jwtsecret", filepath.Join(filepath.Dir(g.dir), secretFile))
	stderr, err := command.StderrPipe()
	if err == nil {
		err = command.Start()
	}
	if err != nil {
		return err
	}
	exited := make(chan struct{})
	g.command, g.exited = command, exited
	g.http, g.ws, g.auth = "", "", ""
	listening := make(chan error, 1)
	go func() {
		defer close(exited)
		lines := bufio.NewReader(stderr)
		listening <- g.readPorts(lines)
		follow(lines, g.log)
		_ = command.Wait() // killed, as a rule
	}()
	select {
	case err = <-listening:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err == nil {
		err = g.connect(ctx, g.secret)
	}
	return err
}

// portOf is the port of a URL, 0 for one that is not known yet.
func portOf(address string) string {
	if u, err := url.Parse(address); err == nil && u.Port() != "" {
		return u.Port()
	}
	return "0"
}

// readPorts reads geth's log up to the point where it listens everywhere.
func (g *Geth) readPorts(lines *bufio.Reader) error {
	var tail []string
	for g.http == "" || g.ws == "" || g.auth == "" {
		line, err := lines.ReadString('\n')
		if err != nil {
			return fmt.Errorf("it ended: %s", strings.Join(tail, ""))
		}
		tail = append(tail[max(0, len(tail)-5):], line)
		g.notePort(line)
	}
	return nil
}

func (g *Geth) notePort(line string) {
	var entry struct {
		Msg      string
		Endpoint string
		Auth     bool
		URL      string
	}
	if json.Unmarshal([]byte(line), &entry) != nil {
		return
	}
	switch {
	case entry.Msg == "WebSocket enabled" && g.ws == "":
		g.ws = entry.URL
	case entry.Msg == "HTTP server started" && entry.Auth:
		g.auth = "http://" + entry.Endpoint
	case entry.Msg == "HTTP server started":
		g.http = "http://" + entry.Endpoint
	}
}

// follow passes warnings and worse on, and keeps the pipe from filling up.
func follow(lines *bufio.Reader, log logrus.FieldLogger) {
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var entry struct{ Lvl, Msg, Err string }
		if json.Unmarshal(line, &entry) == nil && entry.Lvl != "info" && entry.Lvl != "debug" {
			log.WithField("err", entry.Err).Debug(entry.Msg)
		}
	}
}

func (g *Geth) connect(ctx context.Context, secret [32]byte) (err error) {
	if g.public, err = rpc.DialContext(ctx, g.http); err != nil {
		return err
	}
	g.engine, err = rpc.DialOptions(ctx, g.auth, rpc.WithHTTPAuth(node.NewJWTAuth(secret)))
	return err
}

// peer connects two nodes.
func (g *Geth) peer(ctx context.Context, other *Geth) error {
	var info struct{ Enode string }
	if err := other.public.CallContext(ctx, &info, "admin_nodeInfo"); err != nil {
		return fmt.Errorf("ask %s for its address: %w", other.name, err)
	}
	var added bool
	if err := g.public.CallContext(ctx, &added, "admin_addPeer", info.Enode); err != nil {
		return fmt.Errorf("peer %s with %s: %w", g.name, other.name, err)
	}
	return nil
}
