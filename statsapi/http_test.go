package statsapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/schema"
)

func TestUnknownRoutesAndMethodsAreProblems(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	for _, path := range []string{
		"/nope", "/v1", "/v1/", "/v1/blocks/", "/v1/blocks/1/2", "/_cat/", "//", "/%00", "/..%2f",
	} {
		wantProblem(t, s.get(path), http.StatusNotFound, "nothing is served at /")
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} {
		got := s.do(method, "/v1/blocks")
		wantProblem(t, got, http.StatusMethodNotAllowed, method)
		if got.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: Allow %q", method, got.Header.Get("Allow"))
		}
	}
}

func TestEveryAnswerIsInert(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: drawn(t).store})
	for _, path := range []string{
		"/", "/_cat", "/_cat/hashes", "/v1/blocks", "/v1/blocks/99", "/nope", "/openapi.json", "/metrics", "/livez",
		"/readyz", "/v1/records/" + named("b1").String() + "/payload",
	} {
		h := s.get(path).Header
		csp := h.Get("Content-Security-Policy")
		if h.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(csp, "default-src 'none'") ||
			!strings.Contains(csp, "sandbox") || strings.Contains(csp, "allow-") {
			t.Errorf("%s: %v", path, h)
		}
	}
}

func TestPayloadThatIsAScriptIsServedAsText(t *testing.T) {
	t.Parallel()
	const script = "<!doctype html><script>alert(document.cookie)</script><img src=x onerror=alert(1)>"
	w := newWorld(t)
	htmlKey := w.bare(script)
	offer := func(contentType, payload string) string {
		key := schema.PayloadKey([]byte(payload))
		w.offer(&schema.Offer{Key: key, Payload: []byte(payload), ContentType: contentType})
		return string(key)
	}
	s := serve(t, Options{Store: w.store})
	for key, want := range map[string][2]string{
		string(htmlKey):        {textType, script},
		"0x" + string(htmlKey): {textType, script},
		offer("image/svg+xml", "<svg onload=alert(1)/>"):        {textType, "<svg onload=alert(1)/>"},
		offer("application/json; charset=utf-8", `{"a":"<b>"}`): {"application/json", `{"a":"<b>"}`},
		offer("text/javascript", "alert(1)"):                    {textType, "alert(1)"},
		offer("nonsense", "\x00\xff"):                           {textType, "\x00\xff"},
		offer("application/pdf", "%PDF-1.7"):                    {textType, "%PDF-1.7"},
	} {
		got := s.do(http.MethodGet, "/v1/records/"+key+"/payload", "Accept", "text/html")
		if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != want[0] || got.body != want[1] {
			t.Errorf("%s: %d %s %q", key, got.StatusCode, got.Header.Get("Content-Type"), got.body)
		}
		if saved := got.Header.Get("Content-Disposition"); !strings.HasPrefix(saved, "attachment; ") {
			t.Errorf("%s: a browser may show it: %q", key, saved)
		}
	}
	wantProblem(t, s.get("/v1/records/0x12/payload"), http.StatusNotFound, "0x12")
	nothing := strings.Repeat("0", 64)
	wantProblem(t, s.get("/v1/records/"+nothing+"/payload"), http.StatusNotFound, nothing)
}

func TestRequestIDIsEchoedOrMade(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	if got := s.do(http.MethodGet, "/livez", "X-Request-Id", "mine-1").Header.Get("X-Request-Id"); got != "mine-1" {
		t.Errorf("got %q", got)
	}
	made := map[string]bool{}
	for _, bad := range []string{"", "a b", strings.Repeat("x", 65), "<script>", "näh"} {
		got := s.do(http.MethodGet, "/livez", "X-Request-Id", bad).Header.Get("X-Request-Id")
		if got == bad || !schema.ValidName(got) || made[got] {
			t.Errorf("%q: got %q", bad, got)
		}
		made[got] = true
	}
}

func TestHeadIsGetWithoutBody(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: drawn(t).store})
	for _, path := range []string{"/v1/blocks", "/v1/blocks/99", "/_cat/hashes", "/livez", "/openapi.json"} {
		head, get := s.do(http.MethodHead, path), s.get(path)
		if head.body != "" || head.StatusCode != get.StatusCode ||
			head.Header.Get("Content-Type") != get.Header.Get("Content-Type") {
			t.Errorf("%s: HEAD %d %v, GET %d", path, head.StatusCode, head.Header, get.StatusCode)
		}
	}
}

func TestErrorsOfTheStoreStayInside(t *testing.T) {
	t.Parallel()
	broken := &brokenStore{Store: drawn(t).store}
	s := serve(t, Options{Store: broken})
	paths := []string{"/v1/stats", "/v1/blocks", "/v1/blocks/1", "/v1/blocks/latest"}
	broken.fail(errSecret)
	for _, path := range paths {
		got := s.get(path)
		wantProblem(t, got, http.StatusInternalServerError, "internal error")
		if strings.Contains(got.body, "s3cret") || strings.Contains(got.body, "db.internal") {
			t.Errorf("%s shows %s", path, got.body)
		}
	}
	broken.fail(context.DeadlineExceeded)
	hasty := serve(t, Options{Store: broken, RequestTimeout: 20 * time.Millisecond})
	for _, path := range paths {
		wantProblem(t, hasty.get(path), http.StatusServiceUnavailable, "did not answer in time")
	}
	broken.fail(nil)
	for _, path := range paths {
		if got := s.get(path); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %d after the store has healed", path, got.StatusCode)
		}
	}
}

// panicking is a store with a bug.
type panicking struct{ Store }

func (panicking) Chains(context.Context) ([]schema.ChainState, error) { panic("a bug with a s3cret") }

func TestPanicIsAProblemAndTheServerGoesOn(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: panicking{newWorld(t).store}})
	for range 3 {
		got := s.get("/v1/stats")
		wantProblem(t, got, http.StatusInternalServerError, "internal error")
		if strings.Contains(got.body, "s3cret") {
			t.Errorf("shown: %s", got.body)
		}
	}
}

// raw sends bytes as they are and returns the status line and how many answers came before the connection's end.
func (s *site) raw(request string) (status string, answers int) {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.api.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return status, answers
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		answers++
		if status == "" {
			status = resp.Status
		}
	}
}

func TestHostileRequestsAreRefusedOrReadOneWay(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	const end = "Host: x\r\nConnection: close\r\n"
	for name, test := range map[string]struct {
		request string
		status  string
		answers int // to the one request that an intermediary sees
	}{
		"content length and chunks": {
			"POST /livez HTTP/1.1\r\n" + end + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG", "", 1,
		},
		"two content lengths": {
			"POST /livez HTTP/1.1\r\n" + end + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400 Bad Request", 1,
		},
		"bare LF in a chunk": {
			"POST /livez HTTP/1.1\r\n" + end + "Transfer-Encoding: chunked\r\n\r\n1\na\n0\n\n", "", 1,
		},
		"unknown transfer encoding": {
			"GET /livez HTTP/1.1\r\n" + end + "Transfer-Encoding: cow\r\n\r\n", "501 Not Implemented", 1,
		},
		"no host":            {"GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n", "400 Bad Request", 1},
		"space before colon": {"GET /livez HTTP/1.1\r\n" + end + "X-Y : z\r\n\r\n", "400 Bad Request", 1},
		"folded header":      {"GET /livez HTTP/1.1\r\nX: y\r\n " + end + "\r\n", "400 Bad Request", 1},
		"NUL in a header":    {"GET /livez HTTP/1.1\r\n" + end + "X: a\x00b\r\n\r\n", "400 Bad Request", 1},
		"not HTTP":           {"447:<!DOCTYPE html>\r\n\r\n", "400 Bad Request", 1},
		"headers without limit": {
			"GET /livez HTTP/1.1\r\n" + end + "X: " + strings.Repeat("a", 64<<10) + "\r\n\r\n",
			"431 Request Header Fields Too Large", 1,
		},
		"absolute form": {"GET http://elsewhere/livez HTTP/1.1\r\n" + end + "\r\n", "200 OK", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, answers := (&site{t: t, api: s.api}).raw(test.request)
			if answers != test.answers || !strings.HasPrefix(status, test.status) || status == "" {
				t.Errorf("%d answers, first %q, want %d and %q", answers, status, test.answers, test.status)
			}
			if test.status == "" && !strings.HasPrefix(status, "4") {
				t.Errorf("answered %q to a request with two readings", status)
			}
		})
	}
}

func TestReadinessNamesItsReasons(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var failure error
	s := serve(t, Options{Store: newWorld(t).store, Checks: []health.Check{
		{Name: "database", Ready: func(context.Context) error { mu.Lock(); defer mu.Unlock(); return failure }},
		{Name: "nodes", Ready: func(context.Context) error { return nil }},
	}})
	wantText := func(path string, status int, want string) {
		t.Helper()
		if got := s.get(path); got.StatusCode != status || got.body != want {
			t.Errorf("%s: %d %q, want %d %q", path, got.StatusCode, got.body, status, want)
		}
	}
	wantText("/livez", 200, "ok\n")
	wantText("/readyz", 200, "ok\n")
	wantText("/healthz", 200, "ok\n")
	wantText("/readyz?verbose", 200, "[+] database ok\n[+] nodes ok\n[+] serving\n")
	mu.Lock()
	failure = errors.New("connection refused")
	mu.Unlock()
	wantText("/readyz", 503, "[-] database: connection refused\n[+] nodes ok\n[+] serving\n")
	wantText("/livez", 200, "ok\n")
}

func TestShutdownFailsReadinessFirstAndLetsRequestsEnd(t *testing.T) {
	t.Parallel()
	slow := &slowStore{Store: drawn(t).store, entered: make(chan struct{}), leave: make(chan struct{})}
	s := serve(t, Options{Store: slow, DrainDelay: 300 * time.Millisecond})
	answered := make(chan answer, 1)
	go func() { answered <- s.get("/v1/blocks/1") }()
	<-slow.entered
	stopped := make(chan error, 1)
	go func() { stopped <- s.stop() }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for s.get("/readyz").StatusCode != http.StatusServiceUnavailable { // the port still answers
		<-tick.C
	}
	close(slow.leave)
	if got := <-answered; got.StatusCode != http.StatusOK {
		t.Errorf("the request in flight: %d %s", got.StatusCode, got.body)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", s.api.Addr().String()); err == nil {
		t.Error("the port still answers after Run")
	}
}

func TestSilentConnectionDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	conn, err := net.Dial("tcp", s.api.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	s.get("/livez") // connections are accepted in order: the silent one has been
	start := time.Now()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 4*time.Second {
		t.Errorf("the end took %s", d)
	}
}

// slowStore holds one question until it may leave.
type slowStore struct {
	Store
	entered, leave chan struct{}
}

func (s *slowStore) Chains(ctx context.Context) ([]schema.ChainState, error) {
	close(s.entered)
	<-s.leave
	return s.Store.Chains(ctx)
}

func TestMetricsAreLabelledByRouteNotByPath(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	s := serve(t, Options{Store: drawn(t).store, Registerer: reg, Gatherer: reg})
	for i := range 50 {
		s.get(fmt.Sprint("/v1/blocks/", i))
		s.get(fmt.Sprint("/made-up/", i))
		s.do(fmt.Sprint("METHOD", i), "/v1/blocks")
	}
	text := s.get("/metrics").body
	if n := strings.Count(text, "firstseen_http_request_duration_seconds_count{"); n > 5 {
		t.Errorf("%d time series:\n%s", n, text)
	}
	for _, want := range []string{`route="/v1/blocks/{id}"`, `code="404"`, `method="other"`, `route="none"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in\n%s", want, text)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	store := newWorld(t).store
	taken := serve(t, Options{Store: store})
	for name, o := range map[string]Options{
		"no store":         {Addr: "127.0.0.1:0"},
		"negative timeout": {Addr: "127.0.0.1:0", Store: store, RequestTimeout: -1},
		"bad address":      {Addr: "nonsense", Store: store},
		"taken port":       {Addr: taken.api.Addr().String(), Store: store},
	} {
		if _, err := New(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestManyReadersWhileBlocksArrive(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	s := serve(t, Options{Store: w.store, Registerer: prometheus.NewRegistry()})
	paths := []string{
		"/v1/stats", "/v1/blocks", "/v1/blocks?page=2&limit=3", "/v1/blocks/latest", "/v1/blocks/3", "/v1/connections",
		"/_cat/hashes", "/_cat/clients", "/openapi.json", "/readyz", "/metrics",
	}
	var readers sync.WaitGroup
	for reader := range 8 {
		readers.Go(func() {
			for i := range 30 {
				path := paths[(reader+i)%len(paths)]
				resp, err := s.http.Get(s.url + path)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("%s: %d", path, resp.StatusCode)
				}
			}
		})
	}
	for n := uint64(7); n < 60; n++ {
		w.see("alice", 5, n, fmt.Sprint("b", n), fmt.Sprint("b", n-1))
	}
	readers.Wait()
	if got := decode[Stats](s, "/v1/stats"); got.Blocks != 60 || got.Chains[0].Head.Number != 59 {
		t.Errorf("%d blocks, head %d", got.Blocks, got.Chains[0].Head.Number)
	}
}
