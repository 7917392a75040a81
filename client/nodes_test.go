package client

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

// testNodes returns the nodes of these addresses as a client would use them.
func testNodes(t *testing.T, change func(*Options), urls ...string) *nodeList {
	t.Helper()
	o := Options{Nodes: urls, CallTimeout: 300 * time.Millisecond, MaxAnswer: 1 << 20}
	if change != nil {
		change(&o)
	}
	l, err := newNodeList(o.withDefaults())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l
}

// dribble sends a valid beginning, then one byte after the other until the client has had enough.
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
func flood(w http.ResponseWriter, n int) {
	_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":"`))
	zeros := []byte(strings.Repeat("0", 1<<20))
	for range n {
		if _, err := w.Write(zeros); err != nil {
			return
		}
	}
}

func TestBadAnswersAreCleanErrors(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	forged := d.answer("eth_getBlockByNumber", []json.RawMessage{[]byte(`"latest"`)}).(map[string]any)
	forged["number"] = "0x99"
	lie, _ := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "result": forged})
	for name, tc := range map[string]struct {
		answer http.HandlerFunc
		want   string
		is     error
	}{
		"HTML with status 200": {want: "not complete JSON",
			answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>sign in</html>")) }},
		"truncated JSON": {want: "not complete JSON",
			answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(lie[:len(lie)/2]) }},
		"nothing": {want: "EOF", answer: func(http.ResponseWriter, *http.Request) {}},
		"300 MB": {want: "too large", is: errTooLarge,
			answer: func(w http.ResponseWriter, _ *http.Request) { flood(w, 300) }},
		"300 MB, announced": {want: "too large", is: errTooLarge, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "300000000")
			flood(w, 300)
		}},
		"gzip bomb": {want: "too large", is: errTooLarge, answer: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			flood(headerless{z}, 16)
			_ = z.Close()
		}},
		"a byte now and then": {want: "no complete answer in time", answer: dribble},
		"silence": {want: "no complete answer in time",
			answer: func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }},
		"429 with Retry-After": {want: "HTTP status 429, retry after 1m0s",
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(http.StatusTooManyRequests)
			}},
		"500 with a long page": {want: "HTTP status 500", answer: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			flood(w, 8)
		}},
		"redirect": {want: "HTTP status 307", answer: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusTemporaryRedirect)
		}},
		"null": {want: "no such block", is: chain.ErrNoBlock, answer: result(`null`)},
		"no result": {want: "response has no result",
			answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1}`)) }},
		"error with a bell in it": {want: "out of order  ", answer: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"out of order\u0007\n"}}`))
		}},
		"a number": {want: "malformed", is: chain.ErrMalformed, answer: result(`17`)},
		"forged hash": {want: "does not match its header", is: chain.ErrHashMismatch,
			answer: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(lie) }},
		"nested too deep": {want: "not complete JSON", answer: result(strings.Repeat("[", 20000) + strings.Repeat("]", 20000))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := serveDrawing(t, d)
			l := testNodes(t, func(o *Options) {
				if !strings.Contains(tc.want, "in time") {
					o.CallTimeout = 10 * time.Second
				}
			}, "alpha="+n.URL)
			a, _, err := l.Pick(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			n.replace(tc.answer)
			_, err = latest(t.Context(), a)
			if err == nil || !strings.Contains(err.Error(), tc.want) || tc.is != nil && !errors.Is(err, tc.is) {
				t.Fatalf("%v, want %q in it", err, tc.want)
			}
			if text := err.Error(); !strings.HasPrefix(text, "node alpha: ") || strings.Contains(text, n.URL) {
				t.Errorf("%q does not name the node, or names its URL", text)
			}
			l.Fault(a, err)
			if v := l.Views()[0]; v.Height != nil || v.State != schema.NodeQuarantined || v.Reason == "" {
				t.Errorf("view %+v", v)
			}
		})
	}
}

// headerless lets flood write into a gzip stream.
type headerless struct{ *gzip.Writer }

func (headerless) Header() http.Header { return nil }
func (headerless) WriteHeader(int)     {}

func result(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"result":` + text + `}`))
	}
}

func TestFailoverAndReturn(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	one, two := serveDrawing(t, d), serveDrawing(t, d)
	l := testNodes(t, nil, "one="+one.URL, "two="+two.URL)
	now := time.Now()
	l.now = func() time.Time { return now }
	pick := func() string {
		t.Helper()
		a, id, err := l.Pick(t.Context())
		if err != nil || id != 7 {
			t.Fatal(id, err)
		}
		return a.Name()
	}
	if got := pick(); got != "one" {
		t.Fatal("first", got)
	}
	one.misbehave(says(500, ""))
	a, _, _ := l.Pick(t.Context())
	_, err := latest(t.Context(), a)
	l.Fault(a, err)
	if got := pick(); got != "two" {
		t.Fatal("after a failure", got)
	}
	now = now.Add(benchFirst)
	if got := pick(); got != "two" {
		t.Fatal("still failing when tried again", got)
	}
	one.misbehave(nil)
	if got := pick(); got != "two" {
		t.Fatal("on the bench for longer the second time", got)
	}
	now = now.Add(2 * benchFirst)
	if got := pick(); got != "one" {
		t.Fatal("recovered", got)
	}
	if f := l.faults(); f["one"] != 2 || f["two"] != 0 {
		t.Errorf("faults %v", f)
	}
}

func TestTheLastNodeIsNeverDropped(t *testing.T) {
	t.Parallel()
	n := serveDrawing(t, draw(t).line("a", 0, 3, ""))
	l := testNodes(t, nil, n.URL)
	n.misbehave(says(500, ""))
	for range 3 {
		if _, _, err := l.Pick(t.Context()); !errors.Is(err, errNoNode) {
			t.Fatal(err)
		}
	}
	n.misbehave(nil)
	if _, _, err := l.Pick(t.Context()); err != nil {
		t.Errorf("not asked although it is the only one: %v", err)
	}
}

func TestRetryAfterIsObeyed(t *testing.T) {
	t.Parallel()
	n := serveDrawing(t, draw(t).line("a", 0, 3, ""))
	l := testNodes(t, nil, n.URL)
	now := time.Now()
	l.now = func() time.Time { return now }
	n.misbehave(func(w http.ResponseWriter, _ string) bool {
		w.Header().Set("Retry-After", "60")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	if _, _, err := l.Pick(t.Context()); err == nil {
		t.Fatal("no error")
	}
	n.misbehave(nil)
	asked := n.called("eth_chainId")
	now = now.Add(59 * time.Second)
	if _, _, err := l.Pick(t.Context()); !errors.Is(err, errNoNode) || n.called("eth_chainId") != asked {
		t.Errorf("asked too early: %v", err)
	}
	now = now.Add(time.Second)
	if _, _, err := l.Pick(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNodeOnAnotherChainIsNotUsed(t *testing.T) {
	t.Parallel()
	d, other := draw(t).line("a", 0, 3, ""), draw(t).line("x", 0, 900, "")
	other.id = 8
	s := serveRelay(t, d)
	c := start(t, []string{"good=" + serveDrawing(t, d).URL, "alien=" + serveDrawing(t, other).URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	views := c.Stats().Nodes
	if views[1].State != schema.NodeWrongChain || views[1].Chain != 8 || views[0].State != schema.NodeReady {
		t.Errorf("views %+v", views)
	}
	if !c.log.has("chain 8, but 7 is the first node to answer: not used") {
		t.Error("not said in the log")
	}
}

func TestConfiguredChainRefusesTheFirstNodeToo(t *testing.T) {
	t.Parallel()
	d, other := draw(t).line("a", 0, 3, ""), draw(t).line("x", 0, 900, "")
	other.id = 8
	s := serveRelay(t, d)
	c := start(t, []string{"alien=" + serveDrawing(t, other).URL, "good=" + serveDrawing(t, d).URL}, []string{s.addr()},
		func(o *Options) { o.Chain = 7 })
	s.wants("a3")
	c.at(d, "a3")
}

func TestChainIDIsReadAgainAfterAFailure(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	n := serveDrawing(t, d)
	l := testNodes(t, nil, n.URL)
	a, _, err := l.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.Fault(a, errors.New("connection reset"))
	n.misbehave(on("eth_chainId", says(200, `{"jsonrpc":"2.0","id":1,"result":"0x9"}`)))
	if _, _, err := l.Pick(t.Context()); !errors.Is(err, errWrongChain) {
		t.Errorf("%v, want errWrongChain", err)
	}
}

func TestForgedBlockIsNotRelayed(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	one, two := serveDrawing(t, d), serveDrawing(t, d)
	c := start(t, []string{"liar=" + one.URL, "two=" + two.URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	one.misbehave(on("eth_getBlockByHash", func(w http.ResponseWriter, _ string) bool {
		b := d.answer("eth_getBlockByNumber", []json.RawMessage{[]byte(`"latest"`)}).(map[string]any)
		b["stateRoot"] = common.Hash{1}
		_ = json.NewEncoder(w).Encode(map[string]any{"jsonrpc": "2.0", "id": 1, "result": b})
		return true
	}))
	d.line("a", 4, 5, "a3")
	s.wants("a3", "a4", "a5")
	if o := s.metas["a5"]; o.Node != "two" {
		t.Errorf("a5 came from %s", o.Node)
	}
	if !c.log.has("does not match its header") {
		t.Error("not said in the log")
	}
}

func TestBlockOtherThanTheOneAskedForIsNotRelayed(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	n := serveDrawing(t, d)
	l := testNodes(t, nil, n.URL)
	a, _, err := l.Pick(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blockByHash(t.Context(), a, 7, d.hash("a2")); err != nil {
		t.Error(err)
	}
	d.names[common.Hash(d.hash("a1"))] = "a2"
	if _, err := blockByHash(t.Context(), a, 7, d.hash("a1")); !errors.Is(err, chain.ErrHashMismatch) {
		t.Errorf("%v, want ErrHashMismatch", err)
	}
}

func TestStalledNodeGivesWay(t *testing.T) {
	t.Parallel()
	d, stuck := draw(t).line("a", 0, 5, ""), draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	c := start(t, []string{"stuck=" + serveDrawing(t, stuck).URL, "two=" + serveDrawing(t, d).URL}, []string{s.addr()},
		func(o *Options) { o.Stall = 50 * time.Millisecond })
	s.wants("a3", "a4", "a5")
	c.at(d, "a5")
	if !c.log.has("head stays at 3 while node two has 5") {
		t.Error("not said in the log")
	}
}

func TestHangingNodeGivesWay(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	one := serveDrawing(t, d)
	c := start(t, []string{"one=" + one.URL, "two=" + serveDrawing(t, d).URL}, []string{s.addr()},
		func(o *Options) { o.CallTimeout = 100 * time.Millisecond })
	c.at(d, "a3")
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	one.misbehave(func(http.ResponseWriter, string) bool { <-release; return true })
	d.line("a", 4, 4, "a3")
	s.wants("a3", "a4")
	if got := s.metas["a4"].Node; got != "two" {
		t.Errorf("a4 came from %s", got)
	}
}

func TestNodeErrorIsNotHeightZero(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	n := serveDrawing(t, d)
	c := start(t, []string{"one=" + n.URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	n.misbehave(rpcError("-32000", "header not found"))
	wait(t, "fault", func() bool { return c.Stats().NodeFault["one"] > 2 })
	st := c.Stats()
	if st.Nodes[0].Height != nil || st.Head.Latest.Number != 3 || st.Halted != "" || len(st.Gaps) != 0 {
		t.Errorf("%+v", st)
	}
	n.misbehave(nil)
	d.line("a", 4, 4, "a3")
	s.wants("a3", "a4")
}

func TestCredentialsStayOutOfNamesAndErrors(t *testing.T) {
	t.Parallel()
	const canary = "s3cr3t-k3y"
	for _, raw := range []string{
		"http://user:" + canary + "@127.0.0.1:1/", "http://127.0.0.1:1/v3/" + canary, "http://127.0.0.1:1/?apikey=" + canary,
		"ws://user:" + canary + "@127.0.0.1:1/", "ws://127.0.0.1:1/v3/" + canary,
	} {
		l := testNodes(t, nil, raw)
		_, _, err := l.Pick(t.Context())
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("%s: %v", raw, err)
		}
		if v := l.Views()[0]; strings.Contains(v.Name+v.Reason, canary) || v.Name != "127.0.0.1-1" {
			t.Errorf("%s: %+v", raw, v)
		}
	}
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(`{"jsonrpc":"2.0","id":1,"error":{"code":-32000,"message":"no such key ` + r.URL.Path + `"}}`))
	})
	n := serveDrawing(t, draw(t).line("a", 0, 1, ""))
	n.replace(echo)
	_, _, err := testNodes(t, nil, n.URL+"/v3/"+canary).Pick(t.Context())
	if err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "no such key") {
		t.Error("echoed:", err)
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
