package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

// nodesAPI serves a real stats API whose store's clock stands still at since, and stands age later when it is asked.
func nodesAPI(t *testing.T, age time.Duration, reports map[string][]schema.NodeView) string {
	t.Helper()
	now := since
	s, err := store.Open(t.Context(), store.Options{DSN: "memory", Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for observer, views := range reports {
		if err := s.Report(t.Context(), observer, schema.Report{Nodes: views}); err != nil {
			t.Fatal(err)
		}
	}
	now = now.Add(age)
	api, err := statsapi.New(t.Context(), statsapi.Options{Addr: "127.0.0.1:0", Store: s})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- api.Run(t.Context()) }() // which ends just before cleanups run
	t.Cleanup(func() {
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return "http://" + api.Addr().String()
}

var since = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func nodeView(name string, state schema.NodeState) schema.NodeView {
	return schema.NodeView{Name: name, Chain: 1, State: state, Since: since}
}

func TestNodesAreShownAsATable(t *testing.T) {
	t.Parallel()
	height, lag := uint64(19000000), uint64(0)
	ready := nodeView("geth-1", schema.NodeReady)
	ready.Height, ready.Lag, ready.Latency = &height, &lag, &schema.Latency{P50: 1.25, P99: 1870}
	quarantined := nodeView("geth-2", schema.NodeQuarantined)
	quarantined.Reason, quarantined.Cordoned = "header does not hash to 0x12\u202e", true
	api := nodesAPI(t, 2500*time.Millisecond, map[string][]schema.NodeView{"paris-1": {quarantined, ready}})
	out, errs, code := firstseen(t, nil, "nodes", "--api", api)
	const want = `OBSERVER  CHAIN  NODE    STATE                 HEIGHT    LAG  P50    P99    SINCE                 AGE   REASON
paris-1   1      geth-1  ready                 19000000  0    1.3ms  1.87s  2026-01-02T03:04:05Z  2.5s  
paris-1   1      geth-2  quarantined,cordoned  -         -    -      -      2026-01-02T03:04:05Z  2.5s  header does not hash to 0x12?
`
	if d := cmp.Diff(want, out); d != "" || code != exitUnready || errs != "firstseen: 1 of 2 nodes are not ready\n" {
		t.Errorf("%d %q %s", code, errs, d)
	}
}

func TestNodesAreShownAsJSONWhateverTheirNumber(t *testing.T) {
	t.Parallel()
	var views []schema.NodeView
	for i := range 2*listPart + 1 {
		views = append(views, nodeView(fmt.Sprintf("n%04d", i), schema.NodeReady))
	}
	out, errs, code := firstseen(t, nil, "nodes", "--output", "json", "--api",
		nodesAPI(t, 0, map[string][]schema.NodeView{"a": views}))
	var got struct{ Data []statsapi.Node }
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != exitOK || errs != "" || len(got.Data) != len(views) {
		t.Fatalf("%d %q, %d nodes, %v", code, errs, len(got.Data), err)
	}
	for i, n := range got.Data {
		if n.Name != views[i].Name || n.History == nil || !n.Since.Equal(since) {
			t.Fatalf("node %d is %+v", i, n)
		}
	}
}

func TestTheExitCodeTellsWhetherAllNodesAreReady(t *testing.T) {
	t.Parallel()
	cordoned := nodeView("a", schema.NodeReady)
	cordoned.Cordoned = true
	for _, c := range []struct {
		name  string
		age   time.Duration
		views []schema.NodeView
		args  []string
		code  int
	}{
		{"all ready", 0, []schema.NodeView{nodeView("a", schema.NodeReady), nodeView("b", schema.NodeReady)}, nil, exitOK},
		{"one lags", 0, []schema.NodeView{nodeView("a", schema.NodeReady), nodeView("b", schema.NodeLagging)}, nil, exitUnready},
		{"the one asked for is ready", 0, []schema.NodeView{nodeView("a", schema.NodeReady), nodeView("b", schema.NodeLagging)}, []string{"--name", "a"}, exitOK},
		{"cordoned", 0, []schema.NodeView{cordoned}, nil, exitUnready},
		{"observer silent", time.Minute, []schema.NodeView{nodeView("a", schema.NodeReady)}, nil, exitUnready},
		{"state of a later version", 0, []schema.NodeView{nodeView("a", "resting")}, nil, exitUnready},
		{"none known", 0, nil, nil, exitUnready},
		{"none of the filter", 0, []schema.NodeView{nodeView("a", schema.NodeReady)}, []string{"--observer", "nobody", "--chain", "1", "--state", "live"}, exitUnready},
		{"bad filter", 0, nil, []string{"--chain", "x"}, exitUsage},
		{"bad output", 0, nil, []string{"--output", "yaml"}, exitUsage},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			reports := map[string][]schema.NodeView{}
			if c.views != nil {
				reports["observer"] = c.views
			}
			api := nodesAPI(t, c.age, reports)
			_, errs, code := firstseen(t, nil, append([]string{"nodes", "--api", api}, c.args...)...)
			if code != c.code || (code == exitOK) != (errs == "") {
				t.Errorf("%d %q, want %d", code, errs, c.code)
			}
		})
	}
}

func TestAnAPIThatCannotBeAskedIsNotTakenForNodesThatAreNotReady(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"fails":     func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"detail":"internal\u001b[2J"}`, 500) },
		"HTML":      func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<p>welcome</p>") },
		"redirects": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) },
		"never ends": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, `{"data":[],"next_cursor":"x"}`)
		},
		"not our API": func(w http.ResponseWriter, _ *http.Request) { http.NotFound(w, nil) },
	} {
		s := httptest.NewServer(handler)
		out, errs, code := firstseen(t, nil, "nodes", "--api", s.URL)
		if code != exitFailure || out != "" || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "\x1b") {
			t.Errorf("%s: %d %q %q", name, code, out, errs)
		}
		s.Close()
	}
	_, errs, code := firstseen(t, nil, "nodes", "--api", "http://127.0.0.1:1")
	if code != exitFailure || !strings.Contains(errs, "--api") {
		t.Errorf("nobody there: %d %q", code, errs)
	}
	_, errs, code = firstseen(t, nil, "nodes", "--api", "localhost:8080")
	if code != exitUsage || !strings.Contains(errs, "--api") {
		t.Errorf("no URL: %d %q", code, errs)
	}
}
