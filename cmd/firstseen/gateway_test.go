package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
)

// A gateway over real endpoints, one of which is far behind and one of which answers nonsense, as the binary runs it.
func TestGatewayServesFromTheNodesThatAreReady(t *testing.T) {
	t.Parallel()
	network, err := devnet.New(devnet.Options{Endpoints: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = network.Close() })
	network.Endpoints()[0].Set(devnet.Faults{Stall: true})
	network.Endpoints()[1].Set(devnet.Faults{Reply: devnet.ReplyGarbage})
	if err := network.Mine(t.Context(), 15); err != nil {
		t.Fatal(err)
	}
	args := []string{"gateway", "--listen", "127.0.0.1:0", "--ws-listen", "127.0.0.1:0", "--poll", "50ms", "--log-format", "json"}
	for i, u := range network.URLs() {
		args = append(args, "--node", "n"+string(rune('0'+i))+"="+u)
	}
	ctx, cancel := context.WithCancel(t.Context())
	logged, log := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, args, nil, io.Discard, log)
		_ = log.Close()
	}()
	addr := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(logged)
		for lines.Scan() {
			var line struct{ Msg, Component, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Component == "gateway http" {
				addr <- line.Addr
			}
		}
	}()
	url := "http://" + <-addr
	ask := func(method, params string) (answer string, node string) {
		resp, err := http.Post(url, "application/json",
			strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"`+method+`","params":`+params+`}`))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body), resp.Header.Get("X-Node")
	}
	deadline := time.Now().Add(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, _ := ask("eth_blockNumber", "[]")
		if answer == `{"jsonrpc":"2.0","id":1,"result":"0xf"}` {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the head is %s", answer)
		}
		<-tick.C
	}
	for range 20 {
		answer, node := ask("eth_getBlockByNumber", `["latest",false]`)
		if !strings.Contains(answer, `"number":"0xf"`) || node != "n2" && node != "n3" {
			t.Errorf("%s answers %.200s", node, answer)
		}
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d", got)
	}
}

func TestGatewayRefusesWhatCannotWork(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ args, want string }{
		"node of WebSocket only":  {"--node ws://127.0.0.1:8546", "HTTP URL"},
		"itself as a node":        {"--node http://127.0.0.1:8545", "gateway.listen"},
		"address without port":    {"--node http://127.0.0.1:1 --listen localhost", "host:port"},
		"TLS without certificate": {"--node http://127.0.0.1:1 --listen= --tls-listen 127.0.0.1:0", "certificate"},
		"no port at all":          {"--node http://127.0.0.1:1 --listen=", "no address"},
		"not a network":           {"--node http://127.0.0.1:1 --trusted 10.0.0.0/99", "gateway.trusted"},
		"admin methods":           {"--node http://127.0.0.1:1 --listen 127.0.0.1:0 --allow admin_peers", "admin_"},
	} {
		var stderr strings.Builder
		if code := run(t.Context(), append([]string{"gateway"}, strings.Fields(test.args)...), nil, io.Discard, &stderr); code == exitOK ||
			!strings.Contains(stderr.String(), test.want) {
			t.Errorf("%s: exit code %d, %s", name, code, stderr.String())
		}
	}
}
