package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The devnet's go-ethereum never ends the first, and the second only after a while.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/ethereum/go-ethereum/core.(*txSenderCacher).cache"),
		goleak.IgnoreAnyFunction("github.com/syndtr/goleveldb/leveldb.(*DB).mpoolDrain"))
}

// fakePool is a pool that a test sets by hand.
type fakePool struct {
	mu        sync.Mutex // guards what follows
	upstreams []Upstream
	tip       uint64
	blind     bool // no tip is known
	reports   map[string][]error
}

func (p *fakePool) Upstreams() []Upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upstreams
}

func (p *fakePool) Tip() (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tip, !p.blind
}

func (p *fakePool) Report(node string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reports == nil {
		p.reports = map[string][]error{}
	}
	p.reports[node] = append(p.reports[node], err)
}

func (p *fakePool) failures(node string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, err := range p.reports[node] {
		if err != nil {
			n++
		}
	}
	return n
}

// set replaces the tip and the nodes' heights.
func (p *fakePool) set(tip uint64, heights ...uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tip = tip
	next := append([]Upstream(nil), p.upstreams...)
	for i, h := range heights {
		next[i].Height = h
	}
	p.upstreams = next
}

// question is what a stub is asked.
type question struct {
	ID     json.RawMessage `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// stub is a node whose answers a test writes.
type stub struct {
	*httptest.Server
	mu    sync.Mutex // guards asked
	asked []question
	calls atomic.Int64
}

// newStub answers every question with what result returns, as the raw JSON of the member "result".
func newStub(t testing.TB, result func(q question) string) *stub {
	t.Helper()
	return newRawStub(t, func(w http.ResponseWriter, _ *http.Request, q question) {
		_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, q.ID, result(q))
	})
}

func newRawStub(t testing.TB, answer func(w http.ResponseWriter, r *http.Request, q question)) *stub {
	t.Helper()
	s := new(stub)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var q question
		if err := json.Unmarshal(body, &q); err != nil {
			t.Errorf("a node was sent %q", body)
		}
		s.calls.Add(1)
		s.mu.Lock()
		s.asked = append(s.asked, q)
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		answer(w, r, q)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *stub) last() question {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.asked) == 0 {
		return question{}
	}
	return s.asked[len(s.asked)-1]
}

// poolOf lists servers as nodes n0, n1 … at height 100.
func poolOf(urls ...string) *fakePool {
	p := &fakePool{tip: 100}
	for i, u := range urls {
		p.upstreams = append(p.upstreams, Upstream{Name: fmt.Sprint("n", i), URL: u, Height: 100})
	}
	return p
}

// site is a gateway under test.
type site struct {
	t       testing.TB
	gateway *Gateway
	url     string
	client  *http.Client
	stop    func() error
}

// serve runs a gateway until the test ends.
func serve(t testing.TB, o Options) *site {
	t.Helper()
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.Log == nil {
		log := logrus.New()
		log.SetOutput(t.Output())
		log.SetLevel(logrus.DebugLevel)
		o.Log = log
	}
	g, err := New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- g.Run(ctx) }()
	stop := sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return &site{t: t, gateway: g, url: "http://" + g.Addr().String(),
		client: &http.Client{Transport: transport, Timeout: 30 * time.Second}, stop: stop}
}

// response is an answer with its body read.
type response struct {
	*http.Response
	body string
}

// post sends body with headers given as name, value, name, value …
func (s *site) post(body string, headers ...string) response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.url, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return s.do(req)
}

func (s *site) do(req *http.Request) response {
	s.t.Helper()
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return response{resp, string(text)}
}

// ask posts one request and returns the raw result or error.
func (s *site) ask(method, params string, headers ...string) (resp response, result string, code int) {
	s.t.Helper()
	resp = s.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":%q,"params":%s}`, method, params), headers...)
	var a struct {
		ID     json.RawMessage
		Result json.RawMessage
		Error  *struct{ Code int }
	}
	if err := json.Unmarshal([]byte(resp.body), &a); err != nil {
		s.t.Fatalf("answer %q: %v", resp.body, err)
	}
	if a.Error != nil {
		return resp, "", a.Error.Code
	}
	return resp, string(a.Result), 0
}

// wantCode checks that a whole text was answered with one JSON-RPC error.
func wantCode(t testing.TB, resp response, status, code int) {
	t.Helper()
	var a struct {
		Error *struct {
			Code    int
			Message string
		}
	}
	if err := json.Unmarshal([]byte(resp.body), &a); err != nil || a.Error == nil || a.Error.Code != code ||
		a.Error.Message == "" || resp.StatusCode != status {
		t.Errorf("answered %d %.200s, want %d and code %d", resp.StatusCode, resp.body, status, code)
	}
}

// await tries until it holds, for at most half a minute.
func await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 30 s: %s", what)
		case <-tick.C:
		}
	}
}

func quietLog() *log.Logger { return log.New(io.Discard, "", 0) }
