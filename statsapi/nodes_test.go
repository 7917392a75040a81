package statsapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// nodes makes alice report a lagging and a fresh node, and bob one of the same name on another chain.
func (w *world) nodes() {
	w.t.Helper()
	height, lag := uint64(90), uint64(12)
	w.reportNodes("alice", schema.Report{
		Nodes: []schema.NodeView{
			{Name: "geth-1", Chain: 5, State: schema.NodeLagging, Reason: "12 blocks behind", Height: &height, Lag: &lag,
				Since: epoch, Cordoned: true, Latency: &schema.Latency{P50: 1.5, P99: 250}},
			{Name: "geth-2", Chain: 5, State: schema.NodeUnknown, Since: epoch},
		},
		Events: []schema.NodeEvent{
			{Node: "geth-1", Chain: 5, From: schema.NodeUnknown, To: schema.NodeReady, At: epoch.Add(-time.Minute)},
			{Node: "geth-1", Chain: 5, From: schema.NodeReady, To: schema.NodeLagging, Reason: "12 blocks behind", At: epoch},
		},
	})
	w.reportNodes("bob", schema.Report{
		Nodes:  []schema.NodeView{{Name: "geth-1", Chain: 9, State: schema.NodeReady, Height: &height, Since: epoch}},
		Events: []schema.NodeEvent{{Node: "geth-1", Chain: 9, From: schema.NodeLive, To: schema.NodeReady, At: epoch}},
	})
}

func (w *world) reportNodes(observer string, r schema.Report) {
	w.t.Helper()
	if err := w.store.Report(w.t.Context(), observer, r); err != nil {
		w.t.Fatal(err)
	}
}

// timedWorld is a world whose store's clock is the test's.
func timedWorld(t *testing.T, now *time.Time) *world {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: "memory", Now: func() time.Time { return *now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return &world{t: t, store: s}
}

func TestNodesAreShownWithAgeAndHistory(t *testing.T) {
	t.Parallel()
	now := epoch
	w := timedWorld(t, &now)
	w.nodes()
	now = now.Add(2500 * time.Millisecond)
	got := serve(t, Options{Store: w.store}).get("/v1/nodes")
	const want = `{"data":[
		{"observer":"alice","name":"geth-1","chain":5,"state":"lagging","reason":"12 blocks behind",
		 "since":"2026-01-02T03:04:05.678900Z","cordoned":true,"height":90,"lag":12,
		 "latency_p50_seconds":0.0015,"latency_p99_seconds":0.25,
		 "reported_at":"2026-01-02T03:04:05.678900Z","age_seconds":2.5,"stale":false,"history":[
		  {"from":"ready","to":"lagging","reason":"12 blocks behind","at":"2026-01-02T03:04:05.678900Z","received_at":"2026-01-02T03:04:05.678900Z"},
		  {"from":"unknown","to":"ready","reason":"","at":"2026-01-02T03:03:05.678900Z","received_at":"2026-01-02T03:04:05.678900Z"}]},
		{"observer":"alice","name":"geth-2","chain":5,"state":"unknown","reason":"",
		 "since":"2026-01-02T03:04:05.678900Z","cordoned":false,"height":null,"lag":null,
		 "latency_p50_seconds":null,"latency_p99_seconds":null,
		 "reported_at":"2026-01-02T03:04:05.678900Z","age_seconds":2.5,"stale":false,"history":[]},
		{"observer":"bob","name":"geth-1","chain":9,"state":"ready","reason":"",
		 "since":"2026-01-02T03:04:05.678900Z","cordoned":false,"height":90,"lag":null,
		 "latency_p50_seconds":null,"latency_p99_seconds":null,
		 "reported_at":"2026-01-02T03:04:05.678900Z","age_seconds":2.5,"stale":false,"history":[
		  {"from":"live","to":"ready","reason":"","at":"2026-01-02T03:04:05.678900Z","received_at":"2026-01-02T03:04:05.678900Z"}]}
		],"next_cursor":null}`
	if d := cmp.Diff(parsed(t, want), parsed(t, got.body)); d != "" {
		t.Error(d)
	}
}

func parsed(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func TestAViewOlderThanAnObserverMayBeSilentIsStale(t *testing.T) {
	t.Parallel()
	now := epoch
	w := timedWorld(t, &now)
	w.nodes()
	s := serve(t, Options{Store: w.store})
	for _, c := range []struct {
		age   time.Duration
		stale bool
	}{{0, false}, {staleAfter, false}, {staleAfter + time.Millisecond, true}, {time.Hour, true}} {
		now = epoch.Add(c.age)
		for _, n := range decode[NodeList](s, "/v1/nodes").Data {
			if n.Stale != c.stale || n.AgeSeconds != c.age.Seconds() {
				t.Errorf("after %s: age %v, stale %v", c.age, n.AgeSeconds, n.Stale)
			}
		}
	}
}

func TestNodesAreSelected(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nodes()
	s := serve(t, Options{Store: w.store})
	for query, want := range map[string]string{
		"":                              "alice/geth-1:2 alice/geth-2:0 bob/geth-1:1",
		"?observer=bob":                 "bob/geth-1:1",
		"?chain=5":                      "alice/geth-1:2 alice/geth-2:0",
		"?state=lagging":                "alice/geth-1:2",
		"?state=resting":                "",
		"?node=geth-1&history=1":        "alice/geth-1:1 bob/geth-1:1",
		"?history=0":                    "alice/geth-1:0 alice/geth-2:0 bob/geth-1:0",
		"?history=99999999999999999999": "alice/geth-1:2 alice/geth-2:0 bob/geth-1:1",
		"?observer=nobody":              "",
	} {
		list := decode[NodeList](s, "/v1/nodes"+query)
		var words []string
		for _, n := range list.Data {
			words = append(words, fmt.Sprintf("%s/%s:%d", n.Observer, n.Name, len(n.History)))
		}
		if got := strings.Join(words, " "); got != want || list.NextCursor != nil {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
}

func TestNodesArePagedByCursor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var views []schema.NodeView
	for i := range 25 {
		views = append(views, schema.NodeView{Name: fmt.Sprintf("n%02d", i), Chain: 5, State: schema.NodeReady, Since: epoch})
	}
	w.reportNodes("alice", schema.Report{Nodes: views})
	w.reportNodes("bob", schema.Report{Nodes: views})
	s := serve(t, Options{Store: w.store})
	path, seen := "/v1/nodes?limit=7", 0
	for page := decode[NodeList](s, path); ; page = decode[NodeList](s, path) {
		for _, n := range page.Data {
			if want := views[seen%25].Name; n.Name != want {
				t.Fatalf("node %d is %s, want %s", seen, n.Name, want)
			}
			seen++
		}
		if page.NextCursor == nil {
			break
		}
		path = "/v1/nodes?limit=7&cursor=" + url.QueryEscape(*page.NextCursor)
	}
	if seen != 50 {
		t.Errorf("%d nodes, want 50", seen)
	}
	if n := len(decode[NodeList](s, "/v1/nodes").Data); n != defaultLimit {
		t.Errorf("%d nodes without a limit", n)
	}
}

func TestOneNodeIsShownAsAllItsObserversSeeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.nodes()
	s := serve(t, Options{Store: w.store})
	got := decode[NodeDetail](s, "/v1/nodes/geth-1")
	if len(got.Views) != 2 || got.Views[0].Observer != "alice" || got.Views[1].Observer != "bob" {
		t.Errorf("views %+v", got.Views)
	}
	var words []string
	for _, e := range got.History {
		words = append(words, fmt.Sprintf("%s/%d:%s>%s", e.Observer, e.Chain, e.From, e.To))
	}
	if got, want := strings.Join(words, " "), "bob/9:live>ready alice/5:ready>lagging alice/5:unknown>ready"; got != want {
		t.Errorf("history %s, want %s", got, want)
	}
	got = decode[NodeDetail](s, "/v1/nodes/geth-1?observer=alice&limit=1")
	if len(got.Views) != 1 || len(got.History) != 1 || got.History[0].To != "lagging" {
		t.Errorf("of alice, one transition: %+v", got)
	}
	// A node that is configured no longer keeps its history for a day.
	w.reportNodes("bob", schema.Report{Nodes: []schema.NodeView{{Name: "other", Chain: 9, State: schema.NodeReady, Since: epoch}}})
	got = decode[NodeDetail](s, "/v1/nodes/geth-1?observer=bob")
	if len(got.Views) != 0 || len(got.History) != 1 {
		t.Errorf("of bob, who dropped it: %+v", got)
	}
}

func TestBadQuestionsAboutNodesAreAnsweredWithTheParameter(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	for path, parameter := range map[string]string{
		"/v1/nodes?observer=a+b":                      "observer",
		"/v1/nodes?node=%2f":                          "node",
		"/v1/nodes?state='":                           "state",
		"/v1/nodes?chain=0":                           "chain",
		"/v1/nodes?limit=0":                           "limit",
		"/v1/nodes?history=-1":                        "history",
		"/v1/nodes?history=x":                         "history",
		"/v1/nodes?cursor=x":                          "cursor",
		"/v1/nodes?cursor=" + encodeCursorOf(3, 5, 9): "cursor",
		"/v1/nodes?cursor=" + encodeNodeCursor(schema.NodePlace{Chain: 1}): "cursor",
		"/v1/nodes/geth?state=a%20b":                                       "state",
		"/v1/nodes/geth?chain=x":                                           "chain",
	} {
		got := s.get(path)
		var problem struct {
			Errors []struct{ Location string }
		}
		err := json.Unmarshal([]byte(got.body), &problem)
		if err != nil || got.StatusCode != http.StatusBadRequest || len(problem.Errors) != 1 ||
			problem.Errors[0].Location != "query."+parameter {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.body)
		}
	}
	for _, path := range []string{"/v1/nodes/geth", "/v1/nodes/a%20b", "/v1/nodes/" + strings.Repeat("x", 65)} {
		if got := s.get(path); got.StatusCode != http.StatusNotFound || got.Header.Get("Content-Type") != problemType {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.body)
		}
	}
}
