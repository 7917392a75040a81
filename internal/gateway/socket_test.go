package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

const anyPort = "127.0.0.1:0"

func (s *site) wsURL() string { return "ws://" + s.gateway.AddrOf("websocket").String() }

// dial opens a WebSocket that the test speaks by hand.
func (s *site) dial(header http.Header) (*websocket.Conn, error) {
	s.t.Helper()
	conn, resp, err := websocket.Dial(context.Background(), s.wsURL(), &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		if resp != nil {
			err = fmt.Errorf("%d: %w", resp.StatusCode, err)
		}
		return nil, err
	}
	s.t.Cleanup(func() { _ = conn.CloseNow() })
	return conn, nil
}

func talk(t *testing.T, conn *websocket.Conn, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := conn.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
		t.Fatal(err)
	}
	_, answer, err := conn.Read(ctx)
	if err != nil {
		return "closed: " + websocket.CloseStatus(err).String()
	}
	return string(answer)
}

func TestSubscriptionToARealNodeOutlivesTheNode(t *testing.T) {
	t.Parallel()
	geths, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: testenv.Geth(t), Seed: 5})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = geths.Close() })
	pool := poolOf(geths.URLs()...)
	for i, n := range geths.Nodes() {
		pool.upstreams[i].WebSocket = n.WebSocketURL()
	}
	pool.set(0, 0, 0)
	s := serve(t, Options{Pool: pool, WSListen: anyPort, Rand: first})
	heads := make(chan *types.Header, 16)
	subscribe := func() (*ethclient.Client, interface {
		Err() <-chan error
		Unsubscribe()
	}) {
		t.Helper()
		c, err := ethclient.DialContext(t.Context(), s.wsURL())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		sub, err := c.SubscribeNewHead(t.Context(), heads)
		if err != nil {
			t.Fatal(err)
		}
		return c, sub
	}
	next := func(want uint64) {
		t.Helper()
		select {
		case h := <-heads:
			if h.Number.Uint64() != want || schema.Hash(h.Hash()) != geths.Canonical()[want] {
				t.Fatalf("head %d %s, want %d", h.Number, h.Hash(), want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("block %d was not announced", want)
		}
	}
	c, sub := subscribe()
	for n := uint64(1); n <= 3; n++ {
		if err := geths.Mine(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		next(n)
		// The pool has not heard of it, but this caller has.
		if got, err := c.BlockNumber(t.Context()); err != nil || got < n {
			t.Errorf("head %d after %d was announced: %v", got, n, err)
		}
		if block, err := c.BlockByNumber(t.Context(), nil); err != nil || block.NumberU64() < n {
			t.Errorf("latest block after %d was announced: %v", n, err)
		}
	}
	if err := geths.Nodes()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-sub.Err():
	case <-time.After(20 * time.Second):
		t.Fatal("the caller was not told that the node is gone")
	}
	_, sub = subscribe()
	if err := geths.Mine(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	next(4)
	sub.Unsubscribe()
}

func TestSocketIsAsStrictAsHTTP(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), WSListen: anyPort})
	conn, err := s.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	for request, want := range map[string]string{
		`{"jsonrpc":"2.0","id":"a","method":"eth_chainId"}`:                         `"id":"a","result":"0x1"`,
		`[{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}]`:                     `[{"jsonrpc":"2.0","id":1,"result":"0x64"}]`,
		`{"jsonrpc":"2.0","id":1,"method":"\u0061dmin_peers"}`:                      `-32601`,
		`{"jsonrpc":"2.0","id":1,"method":"debug_traceBlock"}`:                      `-32601`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"admin_peers"}`:    `-32600`,
		`[{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}]`: `-32601`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}`:   `no node serves subscriptions`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_unsubscribe","params":["0x1"]}`:      `no such subscription`,
		`{`:                         `-32700`,
		strings.Repeat("[", 10_000): `-32600`,
	} {
		if got := talk(t, conn, request); !strings.Contains(got, want) {
			t.Errorf("%.80s: %s", request, got)
		}
	}
	if got := talk(t, conn, strings.Repeat(" ", 1<<20)+"1"); got != "closed: StatusMessageTooBig" {
		t.Errorf("more than a megabyte: %.100s", got)
	}
	if conn, err = s.dial(nil); err != nil {
		t.Fatal(err)
	}
	_ = conn.Write(t.Context(), websocket.MessageBinary, []byte("{}"))
	if _, _, err := conn.Read(t.Context()); websocket.CloseStatus(err) != websocket.StatusUnsupportedData {
		t.Errorf("binary: %v", err)
	}
}

func TestPagesOfForeignOriginsGetNoSocket(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Pool: poolOf(), WSListen: anyPort, Origins: []string{"*.friend.example"}})
	for origin, want := range map[string]bool{
		"":                                    true,
		s.wsURL():                             true,
		"https://app.friend.example":          true,
		"https://evil.example":                false,
		"null":                                false,
		"https://friend.example.evil.example": false,
	} {
		header := http.Header{}
		if origin != "" {
			header.Set("Origin", origin)
		}
		conn, err := s.dial(header)
		if (err == nil) != want {
			t.Errorf("origin %q: %v", origin, err)
		}
		if conn != nil {
			_ = conn.Close(websocket.StatusNormalClosure, "")
		}
	}
}

func TestSocketCallsCountForTheCaller(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), WSListen: anyPort, Rate: 0.001, Burst: 2})
	conn, err := s.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	one := `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`
	for i, want := range []string{`"0x1"`, `"0x1"`, `-32005`} {
		if got := talk(t, conn, one); !strings.Contains(got, want) {
			t.Errorf("call %d: %s", i, got)
		}
	}
	wantCode(t, s.post(one), http.StatusTooManyRequests, jsonrpc.CodeLimit)
}

func TestSocketsAreToldThatTheGatewayEnds(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Pool: poolOf(), WSListen: anyPort})
	conn, err := s.dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	var closed websocket.CloseError
	if _, _, err := conn.Read(t.Context()); !errors.As(err, &closed) || closed.Code != websocket.StatusGoingAway {
		t.Errorf("%v", err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestSocketOverTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"127.0.0.1"}})
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: anyPort, Cert: cert, Key: key})
	transport := &http.Transport{TLSClientConfig: tlsFor(ca)}
	defer transport.CloseIdleConnections()
	conn, _, err := websocket.Dial(t.Context(), "wss://"+s.gateway.AddrOf("https").String(),
		&websocket.DialOptions{HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if got := talk(t, conn, `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`); !strings.Contains(got, `"0x1"`) {
		t.Error(got)
	}
}
