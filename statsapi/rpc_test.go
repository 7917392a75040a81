package statsapi

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// post sends a body to path, as JSON unless a header says otherwise.
func (s *site) post(path, body string, header ...string) answer {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := s.http.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer{resp, string(text)}
}

func call(method string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":[]}`
}

// wantRPC fails unless an answer is a JSON-RPC error with that code, and JSON.
func wantRPC(t *testing.T, got answer, status, code int) {
	t.Helper()
	var e struct {
		Error struct {
			Code    int
			Message string
		}
	}
	err := json.Unmarshal([]byte(got.body), &e)
	if got.StatusCode != status || err != nil || e.Error.Code != code || e.Error.Message == "" || len(got.body) > 600 ||
		got.Header.Get("Content-Type") != "application/json" || got.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %s %.300s, want %d and %d", got.StatusCode, got.Header.Get("Content-Type"), got.body, status, code)
	}
}

func TestJSONRPCIsAnsweredOverHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(3)
	s := serve(t, Options{Store: w.store, Version: "1.2.3", HeightWait: 20 * time.Millisecond})
	for name, test := range map[string]struct {
		body, want string
		header     []string
	}{
		"a call":        {call("eth_blockNumber"), `{"jsonrpc":"2.0","id":1,"result":"0x3"}`, nil},
		"escaped":       {`{"jsonrpc":"2.0","id":"a","method":"eth_\u0062lockNumber"}`, `{"jsonrpc":"2.0","id":"a","result":"0x3"}`, nil},
		"version":       {call("web3_clientVersion"), `{"jsonrpc":"2.0","id":1,"result":"firstseen/1.2.3"}`, nil},
		"height is met": {call("eth_chainId"), `{"jsonrpc":"2.0","id":1,"result":"0x5"}`, []string{minHeightHeader, "0x3"}},
		"a batch": {`[` + call("eth_chainId") + `,{"jsonrpc":"2.0","method":"eth_chainId"},{"jsonrpc":"2.0","id":2,"method":"net_version"}]`,
			`[{"jsonrpc":"2.0","id":1,"result":"0x5"},{"jsonrpc":"2.0","id":2,"result":"5"}]`, nil},
	} {
		got := s.post("/rpc", test.body, test.header...)
		if got.StatusCode != http.StatusOK || got.body != test.want || got.Header.Get(heightHeader) != "3" {
			t.Errorf("%s: %d %s %v", name, got.StatusCode, got.body, got.Header)
		}
	}
	got := s.post("/rpc", `[{"jsonrpc":"2.0","method":"eth_chainId"}]`)
	if got.StatusCode != http.StatusNoContent || got.body != "" {
		t.Errorf("notifications: %d %s", got.StatusCode, got.body)
	}
	got = s.post("/rpc", call("eth_chainId"), minHeightHeader, "4")
	wantRPC(t, got, http.StatusServiceUnavailable, -32001)
	if got.Header.Get(heightHeader) != "3" || got.Header.Get("Retry-After") == "" {
		t.Errorf("%v", got.Header)
	}
	wantRPC(t, s.post("/rpc", call("eth_chainId"), minHeightHeader, "x"), http.StatusBadRequest, -32600)
	wantRPC(t, s.post("/rpc?chain=x", call("eth_chainId")), http.StatusBadRequest, -32600)
	wantRPC(t, s.post("/rpc?chain=7", call("eth_chainId")), http.StatusOK, -32000)
	w.see("alice", 7, 1, "s1", "s0")
	wantRPC(t, s.post("/rpc", call("eth_chainId")), http.StatusOK, -32000)
	if got := s.post("/rpc?chain=7", call("eth_chainId")); !strings.Contains(got.body, `"0x7"`) {
		t.Error(got.body)
	}
}

func TestHostileJSONRPCIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	s := serve(t, Options{Store: w.store})
	one := call("eth_chainId")
	for name, test := range map[string]struct {
		body string
		code int
	}{
		"nothing":              {``, -32700},
		"cut":                  {one[:20], -32700},
		"two values":           {one + one, -32700},
		"HTML":                 {`<script>`, -32700},
		"invalid UTF-8":        {call("eth_chainId\xff"), -32700},
		"lone surrogate":       {call(`eth_chainId\ud800`), -32700},
		"NUL":                  {call("eth_chainId\x00"), -32700},
		"batch of 101":         {"[" + strings.Repeat(one+",", 100) + one + "]", -32600},
		"nested 10,000 deep":   {`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}`, -32600},
		"only opened":          {strings.Repeat("[", 500_000), -32600},
		"two methods":          {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","method":"admin_peers"}`, -32600},
		"two methods, escaped": {`{"jsonrpc":"2.0","id":1,"method":"eth_chainId","m\u0065thod":"admin_peers"}`, -32600},
		"two in params":        {`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"blockHash":"0x1","blockHash":"0x2"}]}`, -32600},
		"id of a megabyte":     {`{"jsonrpc":"2.0","id":"` + strings.Repeat("x", 1_000_000) + `","method":"eth_chainId"}`, -32600},
		"by name":              {`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":{"a":1}}`, -32602},
		"admin":                {call("admin_peers"), -32601},
		"admin, escaped":       {call(`\u0061dmin_peers`), -32601},
		"debug":                {call("debug_setHead"), -32601},
		"personal":             {call("personal_sign"), -32601},
		"a write":              {call("eth_sendRawTransaction"), -32601},
		"state":                {call(`eth_\u0063all`), -32601},
		"subscription":         {call("eth_subscribe"), -32601},
		"very long name":       {call(strings.Repeat("a", 100_000)), -32601},
		"very long parameter":  {`{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByHash","params":["` + strings.Repeat("<", 100_000) + `",true]}`, -32602},
		"many addresses":       {`{"jsonrpc":"2.0","id":1,"method":"eth_getLogs","params":[{"address":[` + strings.Repeat(`"0x00000000000000000000000000000000000000ff",`, 1000) + `"0x00000000000000000000000000000000000000ff"]}]}`, -32602},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRPC(t, s.post("/rpc", test.body), http.StatusOK, test.code)
		})
	}
	for name, test := range map[string]struct {
		header []string
		body   string
		status int
	}{
		"a form's type": {[]string{"Content-Type", "text/plain"}, one, http.StatusUnsupportedMediaType},
		"compressed":    {[]string{"Content-Encoding", "gzip"}, one, http.StatusUnsupportedMediaType},
		"too large":     {nil, strings.Repeat(" ", rpcBody) + one, http.StatusRequestEntityTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantRPC(t, s.post("/rpc", test.body, test.header...), test.status, -32600)
		})
	}
	for _, method := range []string{"GET", "PUT", "DELETE", "OPTIONS"} {
		got := s.do(method, "/rpc")
		wantRPC(t, got, http.StatusMethodNotAllowed, -32600)
		if got.Header.Get("Allow") != "POST" || !strings.Contains(got.body, "/v1/rpc") {
			t.Errorf("%s: %v %s", method, got.Header, got.body)
		}
	}
	status, answers := s.raw("POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 5\r\n" +
		"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
	if !strings.HasPrefix(status, "400") || answers != 1 {
		t.Errorf("length and chunks: %s, %d answers", status, answers)
	}
}

func TestJSONRPCIsForWhoMayRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	r := &ring{}
	token, observing := r.mint(t, schema.ScopeRead), r.mint(t, schema.ScopeObserve)
	closed := serve(t, Options{Store: w.store, Access: Access{Mode: AccessKeys, Keys: r}})
	wantRPC(t, closed.post("/rpc", call("eth_chainId")), http.StatusUnauthorized, -32000)
	wantRPC(t, closed.post("/rpc", call("eth_chainId"), "X-Api-Key", observing.Reveal()), http.StatusForbidden, -32000)
	wantRPC(t, closed.post("/rpc?key="+token.Reveal(), call("eth_chainId")), http.StatusBadRequest, -32000)
	if got := closed.post("/rpc", call("eth_chainId"), "Authorization", "Bearer "+token.Reveal()); got.StatusCode != http.StatusOK {
		t.Errorf("with a key: %d %s", got.StatusCode, got.body)
	}
	limited := serve(t, Options{Store: w.store, Access: Access{Rate: 0.01, Burst: 4}})
	batch := "[" + strings.Repeat(call("eth_chainId")+",", 2) + call("eth_chainId") + "]"
	if got := limited.post("/rpc", batch); got.StatusCode != http.StatusOK {
		t.Errorf("a batch of 3: %d", got.StatusCode)
	}
	got := limited.post("/rpc", batch)
	wantRPC(t, got, http.StatusTooManyRequests, -32005)
	if got.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	large := serve(t, Options{Store: w.store, Access: Access{Rate: 0.01, Burst: 4}})
	if got := large.post("/rpc", "["+strings.Repeat(call("eth_chainId")+",", 99)+call("eth_chainId")+"]"); got.StatusCode != http.StatusOK {
		t.Errorf("a batch above the burst: %d %s", got.StatusCode, got.body)
	}
	pages := serve(t, Options{Store: w.store, Origins: []string{"https://wallet.example"}})
	for origin, want := range map[string]string{"https://wallet.example": "https://wallet.example", "https://evil.example": ""} {
		got := pages.do(http.MethodOptions, "/rpc", "Origin", origin, "Access-Control-Request-Method", "POST",
			"Access-Control-Request-Headers", "content-type")
		if got.Header.Get("Access-Control-Allow-Origin") != want {
			t.Errorf("%s: %v", origin, got.Header)
		}
	}
}

func TestTheSameMethodsAreAnsweredOverWebSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(2)
	s := serveLive(t, w, feed.Options{}, Options{})
	l := s.listen("/v1/rpc")
	for body, want := range map[string]string{
		call("eth_blockNumber"): `{"jsonrpc":"2.0","id":1,"result":"0x2"}`,
		"[" + call("eth_chainId") + `,{"jsonrpc":"2.0","id":7,"method":"eth_getBlockByNumber","params":["0x9",true]}]`: `[{"jsonrpc":"2.0","id":1,"result":"0x5"},{"jsonrpc":"2.0","id":7,"result":null}]`,
		`{"jsonrpc":"2.0","id":1,"method":"eth_unsubscribe","params":["0x1"]}`:                                         `{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"subscription not found"}}`,
	} {
		l.say(body)
		_, text, err := l.conn.Read(t.Context())
		if diff := cmp.Diff(want, string(text)); diff != "" || err != nil {
			t.Errorf("%s: %v %s", body, err, diff)
		}
	}
	for body, code := range map[string]int{
		call("eth_call"): -32601, `{`: -32700, `{"method":"a","m\u0065thod":"b"}`: -32600, "[" + strings.Repeat("1,", 100) + "1]": -32600,
		`{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["logs"]}`: -32601, call("eth_subscribe"): -32602,
		`{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",true]}`: -32002,
	} {
		l.say(body)
		_, text, err := l.conn.Read(t.Context())
		if err != nil || !strings.Contains(string(text), fmt.Sprint(`"code":`, code)) {
			t.Errorf("%s: %s %v, want %d", body, text, err, code)
		}
	}
}

// A store that fails tells nobody why.
func TestJSONRPCOfAFailingStoreIsAnInternalError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	broken := &brokenStore{Store: w.store}
	broken.fail(errSecret)
	s := serve(t, Options{Store: broken})
	got := s.post("/rpc", call("eth_blockNumber"))
	wantRPC(t, got, http.StatusOK, -32603)
	if strings.Contains(got.body, errSecret.Error()) {
		t.Error(got.body)
	}
}

var _ Store = (*store.Store)(nil)

func TestCommandsOfTheJSONRPCPageAreAnswered(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/RPC.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newShadow(t, 1)
	w.mine(8, false)
	s := serve(t, Options{Store: w.store})
	form := regexp.MustCompile(`^curl -s -H 'Content-Type: application/json' -d '([^']+)' http://127\.0\.0\.1:8080(/\S+)$`)
	lines := commands(string(text))
	if len(lines) < 3 {
		t.Fatalf("%d commands", len(lines))
	}
	for _, line := range lines {
		part := form.FindStringSubmatch(line)
		if part == nil {
			t.Errorf("a command that this test cannot run: %s", line)
			continue
		}
		if got := s.post(part[2], part[1]); got.StatusCode != http.StatusOK || !strings.Contains(got.body, `"result":`) {
			t.Errorf("%s: %d %s", line, got.StatusCode, got.body)
		}
	}
}
