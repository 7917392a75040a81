package gateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// raw sends bytes as they are and returns the statuses of the answers that came before the connection's end.
func (s *site) raw(request string) (statuses []string) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.gateway.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		statuses = append(statuses, resp.Status)
	}
}

func TestHostileHTTPIsRefusedOrReadOneWay(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL)})
	const (
		body  = `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`
		start = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
		last  = "Connection: close\r\n"
		evil  = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" // what is smuggled
	)
	chunked := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	length := fmt.Sprintf("Content-Length: %d\r\n", len(body))
	for name, test := range map[string]struct{ request, status string }{
		"content length and chunks":  {start + length + "Transfer-Encoding: chunked\r\n\r\n" + chunked + evil, "400"},
		"chunks and content length":  {start + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + evil, "400"},
		"chunks":                     {start + "Transfer-Encoding: chunked\r\n\r\n" + chunked + evil, "400"},
		"bare LF in chunks":          {start + "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + evil, "400"},
		"chunk extension":            {start + "Transfer-Encoding: chunked\r\n\r\n2;a=b\n\r\n{}\r\n0\r\n\r\n" + evil, "400"},
		"two codings":                {start + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + evil, "501"},
		"gzip, chunked":              {start + "Transfer-Encoding: gzip, chunked\r\n\r\n" + evil, "501"},
		"identity beside a length":   {start + length + "Transfer-Encoding: identity\r\n\r\n" + body + evil, "501"},
		"HTTP of another version":    {"POST / HTTP/9.9\r\nHost: x\r\n" + length + "\r\n" + body + evil, "505"},
		"two content lengths":        {start + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}" + evil, "400"},
		"content length with a sign": {start + "Content-Length: +2\r\n\r\n{}" + evil, "400"},
		"negative content length":    {start + "Content-Length: -1\r\n\r\n" + evil, "400"},
		"space before colon":         {start + "Content-Length : 2\r\n\r\n{}" + evil, "400"},
		"folded header":              {"POST / HTTP/1.1\r\nX: y\r\n Host: x\r\n\r\n" + evil, "400"},
		"NUL in a header":            {start + "X: a\x00b\r\n\r\n" + evil, "400"},
		"no host":                    {"POST / HTTP/1.1\r\n" + length + "\r\n" + body + evil, "400"},
		"two hosts":                  {"POST / HTTP/1.1\r\nHost: a\r\nHost: b\r\n" + length + "\r\n" + body + evil, "400"},
		"HTTP/2 preface":             {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
		"not HTTP":                   {"447:<!DOCTYPE html>\r\n\r\n", "400"},
		"headers without limit":      {start + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n", "431"},
		"body beyond the limit":      {start + "Content-Length: 1048577\r\n\r\n" + evil, "413"},
		"body beyond all limits":     {start + "Content-Length: 9223372036854775807\r\n\r\n" + evil, "413"},
		"one request, answered":      {start + last + length + "\r\n" + body, "200"},
		"GET":                        {"GET / HTTP/1.1\r\nHost: x\r\n" + last + "\r\n", "405"},
		"CONNECT":                    {"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n" + last + "\r\n", "404"},
		"elsewhere":                  {"POST /admin HTTP/1.1\r\nHost: x\r\n" + last + "Content-Length: 0\r\n\r\n", "404"},
		"two slashes":                {"POST // HTTP/1.1\r\nHost: x\r\n" + last + "Content-Length: 0\r\n\r\n", "404"},
		"form, as of a foreign page": {"POST / HTTP/1.1\r\nHost: x\r\n" + last + "Content-Type: text/plain\r\n" + length + "\r\n" + body, "415"},
		"compressed":                 {start + last + "Content-Encoding: gzip\r\n" + length + "\r\n" + body, "415"},
		"upgrade on the plain port":  {"GET / HTTP/1.1\r\nHost: x\r\n" + last + "Upgrade: websocket\r\n\r\n", "405"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&site{t: t, gateway: s.gateway}).raw(test.request)
			if len(got) != 1 || !strings.HasPrefix(got[0], test.status) {
				t.Errorf("answered %q, want one %s", got, test.status)
			}
		})
	}
}

func TestBodyThatNeverComesEndsTheConnection(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Pool: poolOf("http://127.0.0.1:1"), ReadTimeout: 200 * time.Millisecond})
	start := time.Now()
	got := s.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{")
	if len(got) != 1 || !strings.HasPrefix(got[0], "400") || time.Since(start) > 10*time.Second {
		t.Errorf("answered %q after %s", got, time.Since(start))
	}
}

func TestMetricsAreBoundedWhateverCallersSend(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), Registerer: registry})
	s.ask("eth_chainId", "[]")
	for i := range 100 {
		s.ask(fmt.Sprint("made_up", i), "[]")
	}
	recorder := &memoryWriter{header: http.Header{}}
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(recorder, &http.Request{})
	text := recorder.String()
	if strings.Contains(text, "made_up") || strings.Contains(text, "127.0.0.1") {
		t.Error("a caller's words or a node's address are in the metrics")
	}
	for _, want := range []string{
		`firstseen_gateway_node_duration_seconds_count{method="eth_chainId",node="n0"} 1`,
		`firstseen_gateway_refusals_total{code="-32601"} 100`,
		`firstseen_gateway_request_duration_seconds_count{code="200"} 101`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

type memoryWriter struct {
	strings.Builder
	header http.Header
}

func (w *memoryWriter) Header() http.Header { return w.header }
func (w *memoryWriter) WriteHeader(int)     {}

func TestShutdownFailsReadinessFirstAndLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	node := newStub(t, func(question) string {
		close(entered)
		<-leave
		return `"0x1"`
	})
	s := serve(t, Options{Pool: poolOf(node.URL), DrainDelay: 300 * time.Millisecond})
	silent, err := net.Dial("tcp", s.gateway.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	answered := make(chan response, 1)
	go func() { answered <- s.post(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`) }()
	<-entered
	stopped := make(chan error, 1)
	start := time.Now()
	go func() { stopped <- s.stop() }()
	await(t, "readiness fails while the port answers", func() bool {
		req, _ := http.NewRequestWithContext(context.Background(), http.MethodGet, s.url+"/readyz", nil)
		return s.do(req).StatusCode == http.StatusServiceUnavailable
	})
	close(leave)
	if got := <-answered; got.StatusCode != 200 {
		t.Errorf("the request in flight: %d", got.StatusCode)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the end took %s", took)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	pool := poolOf()
	taken := serve(t, Options{Pool: pool})
	for name, o := range map[string]Options{
		"no pool":          {Listen: "127.0.0.1:0"},
		"no address":       {Pool: pool},
		"TLS without cert": {Pool: pool, TLSListen: "127.0.0.1:0"},
		"missing cert":     {Pool: pool, TLSListen: "127.0.0.1:0", Cert: "/nonexistent", Key: "/nonexistent"},
		"CA without TLS":   {Pool: pool, Listen: "127.0.0.1:0", ClientCA: "/nonexistent"},
		"keys required":    {Pool: pool, Listen: "127.0.0.1:0", RequireKey: true},
		"no file of keys":  {Pool: pool, Listen: "127.0.0.1:0", Keys: "/nonexistent"},
		"negative":         {Pool: pool, Listen: "127.0.0.1:0", Timeout: -1},
		"taken port":       {Pool: pool, Listen: taken.gateway.Addr().String()},
		"admin methods":    {Pool: pool, Listen: "127.0.0.1:0", Allow: []string{"admin_peers"}},
		"debug methods":    {Pool: pool, Listen: "127.0.0.1:0", Allow: []string{"debug_setHead"}},
		"quotes in a name": {Pool: pool, Listen: "127.0.0.1:0", Allow: []string{`eth_x","y":"`}},
	} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
