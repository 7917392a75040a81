package nodepool

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

// dribble sends a valid beginning, then one byte after the other until the caller has had enough.
func dribble(w http.ResponseWriter, r *http.Request) {
	flusher := w.(http.Flusher)
	_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":"`))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		flusher.Flush()
		select {
		case <-r.Context().Done():
			return
		case <-tick.C:
			_, _ = w.Write([]byte("0"))
		}
	}
}

// flood sends n megabytes of one string.
func flood(w io.Writer, n int) {
	_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":"`))
	zeros := []byte(strings.Repeat("0", 1<<20))
	for range n {
		if _, err := w.Write(zeros); err != nil {
			return
		}
	}
}

func text(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}
}

func result(body string) http.HandlerFunc {
	return text(200, `{"jsonrpc":"2.0","id":1,"result":`+body+`}`)
}

func TestBadAnswersAreCleanErrors(t *testing.T) {
	t.Parallel()
	honest, _ := json.Marshal(stubHeader(5))
	var bomb bytes.Buffer // made before the clock runs
	z := gzip.NewWriter(&bomb)
	flood(z, 4)
	_ = z.Close()
	forged := bytes.Replace(honest, []byte(`"number":"0x5"`), []byte(`"number":"0x99"`), 1)
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
		is     error
	}{
		"HTML with status 200": {answer: text(200, "<html>sign in</html>"), want: "not complete JSON"},
		"truncated JSON":       {answer: text(200, `{"jsonrpc":"2.0","id":1,"result":{"num`), want: "not complete JSON"},
		"nothing":              {answer: text(200, ""), want: "EOF"},
		"300 MB": {answer: func(w http.ResponseWriter, _ *http.Request) { flood(w, 300) }, want: "too large",
			is: errTooLarge},
		"300 MB, announced": {want: "too large", is: errTooLarge, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "300000000")
			flood(w, 300)
		}},
		"gzip bomb": {want: "too large", is: errTooLarge, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb.Bytes())
		}},
		"a byte now and then": {answer: dribble, want: "no complete answer in time"},
		"silence": {want: "no complete answer in time",
			answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"429 with Retry-After": {want: "HTTP status 429, retry after 1m0s",
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusTooManyRequests)
			}},
		"500 with a long page": {want: "HTTP status 500", answer: text(500, strings.Repeat("x", 8<<20))},
		"redirect": {want: "HTTP status 307", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}},
		"null":      {answer: result("null"), want: "no such block", is: chain.ErrNoBlock},
		"no result": {answer: text(200, `{"jsonrpc":"2.0","id":1}`), want: "response has no result"},
		"error with a bell in it": {want: "out of order  ",
			answer: text(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"out of order\u0007\n"}}`)},
		"a number":        {answer: result("17"), want: "malformed", is: chain.ErrMalformed},
		"forged hash":     {answer: result(string(forged)), want: "does not match its header", is: chain.ErrHashMismatch},
		"nested too deep": {answer: result(strings.Repeat("[", 20000) + strings.Repeat("]", 20000)), want: "not complete JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveStub(t, 5)
			timeout := 10 * time.Second
			if strings.Contains(tc.want, "in time") {
				timeout = 1500 * time.Millisecond // to get as far as to be verified takes part of it
			}
			b := seat(t, 1, func(o *Options) {
				o.Nodes, o.CallTimeout, o.MaxAnswer = []string{"alpha=" + s.URL}, timeout, 1<<20
			})
			n := b.nodes[0]
			t.Cleanup(n.hangUp)
			if err := n.verify(t.Context(), b.now, func(uint64) error { return nil }); err != nil {
				t.Fatal(err)
			}
			s.set(func() { s.whole = tc.answer })
			_, err := header(t.Context(), n, "eth_getBlockByNumber", "latest")
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatalf("%v, want %q in it", err, tc.want)
			}
			if text := err.Error(); !strings.HasPrefix(text, "node alpha: ") || strings.Contains(text, s.URL) {
				t.Errorf("%q does not name the node, or names its URL", text)
			}
		})
	}
}

func TestChainIDIsReadAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	s := serveStub(t, 5)
	p := run(t, Options{Nodes: []string{"a=" + s.URL}, Poll: 5 * time.Millisecond})
	wait(t, 30*time.Second, "ready", func() bool { return p.Ready(t.Context()) == nil })
	s.set(func() { s.whole = text(500, "") })
	wait(t, 30*time.Second, "failure", func() bool { return p.Failures()["a"] > 0 })
	s.set(func() { s.whole, s.id = nil, 9 })
	wait(t, 30*time.Second, "wrong chain", func() bool { return p.Views()[0].State == schema.NodeWrongChain })
	asked := s.called("eth_chainId")
	s.set(func() { s.id = 7 })
	if err := p.Uncordon("a"); err != nil {
		t.Fatal(err)
	}
	wait(t, 30*time.Second, "ready again", func() bool { return p.Ready(t.Context()) == nil })
	if s.called("eth_chainId") != asked+1 {
		t.Errorf("%d calls while the node was out", s.called("eth_chainId")-asked-1)
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	s := serveStub(t, 5)
	asked := make(chan time.Time, 2)
	s.whole = func(w http.ResponseWriter, _ *http.Request) {
		select {
		case asked <- time.Now():
		default:
		}
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	}
	p := run(t, Options{Nodes: []string{"a=" + s.URL}, Poll: 5 * time.Millisecond})
	first, second := <-asked, <-asked
	if after := second.Sub(first); after < time.Second {
		t.Errorf("asked again after %s, told to wait for 1 s", after)
	}
	s.set(func() { s.whole = nil })
	wait(t, 30*time.Second, "ready", func() bool { return p.Ready(t.Context()) == nil })
}

// safeBuffer is a log's output.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func TestCredentialsStayOutOfEverythingShown(t *testing.T) {
	t.Parallel()
	const canary = "s3cr3t-k3y"
	echo := serveStub(t, 5)
	echo.whole = func(w http.ResponseWriter, r *http.Request) {
		text(200, `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no such key `+r.URL.Path+`"}}`)(w, r)
	}
	host := strings.TrimPrefix(echo.URL, "http://")
	var book safeBuffer
	log := logrus.New()
	log.SetOutput(&book)
	log.SetLevel(logrus.TraceLevel)
	registry := prometheus.NewRegistry()
	p := run(t, Options{Chain: 7, Poll: 5 * time.Millisecond, Log: log, Registerer: registry,
		Reference: "http://127.0.0.1:1/v3/" + canary,
		Nodes: []string{
			"http://user:" + canary + "@127.0.0.1:1/", "http://127.0.0.1:1/v3/" + canary, "http://127.0.0.1:1/?apikey=" + canary,
			"ws://user:" + canary + "@127.0.0.1:1/", "ws://127.0.0.1:1/v3/" + canary,
			"http://" + host + "/v3/" + canary, "http://" + host + "|ws://127.0.0.1:1/" + canary,
		}})
	wait(t, 30*time.Second, "failures of all", func() bool {
		for _, count := range p.Failures() {
			if count < 3 {
				return false
			}
		}
		return strings.Contains(book.String(), "no subscription to heads")
	})
	shown, _ := json.Marshal(p.Views())
	events, _ := json.Marshal(p.Events(1000))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := book.String() + string(shown) + string(events) + p.Ready(t.Context()).Error()
	for _, f := range families {
		all += f.String()
	}
	if strings.Contains(all, canary) {
		t.Errorf("the key is shown in %s", all)
	}
	if !strings.Contains(string(shown), "no such key") {
		t.Errorf("the node's words are not: %s", shown)
	}
}

func TestNodeNames(t *testing.T) {
	t.Parallel()
	list, err := parseNodes([]string{
		"http://Node-1.example:8545", "geth=http://10.0.0.1:8545/?a=b", "http://10.0.0.1:8545", "ws://10.0.0.1:8545",
		"http://[::1]:8545/?key=x=y", "http://h\u00f6st:1", "http://" + strings.Repeat("x", 80),
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"Node-1.example-8545", "geth", "10.0.0.1-8545", "10.0.0.1-8545-2", "--1--8545",
		"h-st-1", strings.Repeat("x", 64)} {
		if got := list[i].name; strings.TrimLeft(got, "-") != strings.TrimLeft(want, "-") || !schema.ValidName(got) {
			t.Errorf("name %d is %q, want %q", i, got, want)
		}
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	for item, want := range map[string]address{
		"a=http://h:1|ws://h:2": {name: "a", url: "http://h:1", ws: "ws://h:2"},
		"http://h:1|wss://h/k":  {name: "h-1", url: "http://h:1", ws: "wss://h/k"},
		"ws://h:2":              {name: "h-2", url: "ws://h:2", ws: "ws://h:2"},
		"http://h:1":            {name: "h-1", url: "http://h:1"},
	} {
		got, err := parseNode(item)
		if err != nil || got.name != want.name || got.url != want.url || got.ws != want.ws {
			t.Errorf("%s: %+v, %v", item, got, err)
		}
	}
	for item, want := range map[string]string{
		"http://h|http://h": "behind |", "ws://h|ws://h": "two WebSocket URLs", "ftp://h": "want http, https, ws or wss",
		"http://": "without a host", "http://[": "not a URL", "a=|": "scheme",
	} {
		if err := CheckAddress(item); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", item, err, want)
		}
	}
}

// stubService answers over go-ethereum's own server, WebSocket and subscriptions among it.
type stubService struct{ s *stub }

func (e stubService) ChainId() hexutil.Uint64 {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return hexutil.Uint64(e.s.id)
}

func (e stubService) GetBlockByNumber(string, bool) any {
	e.s.mu.Lock()
	defer e.s.mu.Unlock()
	return stubHeader(e.s.head)
}

func TestWebSocketIsNotReopenedUnseen(t *testing.T) {
	t.Parallel()
	s := serveStub(t, 5)
	var service atomic.Pointer[rpc.Server]
	renew := func() { // a new service for new connections; those of the old one end
		next := rpc.NewServer()
		t.Cleanup(next.Stop)
		if err := next.RegisterName("eth", stubService{s}); err != nil {
			t.Fatal(err)
		}
		if old := service.Swap(next); old != nil {
			old.Stop()
		}
	}
	renew()
	h := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service.Load().WebsocketHandler([]string{"*"}).ServeHTTP(w, r)
	}))
	t.Cleanup(h.Close)
	p := run(t, Options{Nodes: []string{"a=ws" + strings.TrimPrefix(h.URL, "http")}, Poll: 5 * time.Millisecond})
	wait(t, 30*time.Second, "ready", func() bool { return p.Ready(t.Context()) == nil })
	s.set(func() { s.id, s.head = 8, 6 })
	renew()
	wait(t, 30*time.Second, "wrong chain", func() bool { return p.Views()[0].State == schema.NodeWrongChain })
	if tip, _, _ := p.Tip(); tip.Number != 5 {
		t.Errorf("tip %s came over a connection whose chain id was not read", tip)
	}
}
