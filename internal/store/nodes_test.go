package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// watchers is a store whose clock is the test's, and observers that report nodes to it.
type watchers struct {
	t   *testing.T
	s   *Store
	now time.Time
}

func watching(t *testing.T, test func(t *testing.T, w *watchers)) {
	t.Helper()
	bothDialects(t, func(t *testing.T, dsn string) {
		w := &watchers{t: t, now: time.Unix(1e9, 0).UTC()}
		w.s = opened(t, Options{DSN: dsn, Now: func() time.Time { return w.now }})
		test(t, w)
	})
}

func (w *watchers) report(observer string, r schema.Report) {
	w.t.Helper()
	if err := w.s.Report(w.t.Context(), observer, r); err != nil {
		w.t.Fatal(err)
	}
}

func (w *watchers) views(observer string, views ...schema.NodeView) {
	w.t.Helper()
	w.report(observer, schema.Report{Nodes: views})
}

func (w *watchers) events(observer string, events ...schema.NodeEvent) {
	w.t.Helper()
	w.report(observer, schema.Report{Events: events})
}

func view(name string, chain uint64, state schema.NodeState) schema.NodeView {
	return schema.NodeView{Name: name, Chain: chain, State: state, Since: time.Unix(5e8, 7000).UTC()}
}

func event(node string, n int, to schema.NodeState) schema.NodeEvent {
	return schema.NodeEvent{
		Node: node, Chain: testChain, From: schema.NodeLive, To: to, Reason: fmt.Sprint("reason ", n),
		At: time.Unix(5e8+int64(n), 3000).UTC(),
	}
}

// list reads all views of a filter, in pages of the given size, one word each.
func (w *watchers) list(f schema.NodeFilter, page int) string {
	w.t.Helper()
	var words []string
	var after *schema.NodePlace
	for {
		found, err := w.s.Nodes(w.t.Context(), f, after, page)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, n := range found {
			words = append(words, fmt.Sprintf("%s/%d/%s=%s", n.Observer, n.Chain, n.Name, n.State))
			after = &schema.NodePlace{Observer: n.Observer, Chain: n.Chain, Node: n.Name}
		}
		if len(found) < page {
			return strings.Join(words, " ")
		}
	}
}

func TestAViewComesBackAsItWasReported(t *testing.T) {
	t.Parallel()
	watching(t, func(t *testing.T, w *watchers) {
		full := schema.NodeView{
			Name: "geth-1", Chain: testChain, State: schema.NodeLagging, Reason: "Größe 世界 '); DROP", Height: ptr(uint64(math.MaxInt64)),
			Lag: ptr(uint64(12)), Since: time.Unix(5e8, 123456000).UTC(), Cordoned: true,
			Latency: &schema.Latency{P50: 0.1, P99: 1234.5678},
		}
		bare := view("geth-2", testChain, "resting") // a state of a later version
		w.views("alice", full, bare)
		w.now = w.now.Add(1500 * time.Millisecond)
		got, err := w.s.Nodes(t.Context(), schema.NodeFilter{}, nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		reported := time.Unix(1e9, 0).UTC()
		want := []schema.ObservedNode{
			{Observer: "alice", NodeView: full, ReportedAt: reported, Age: 1500 * time.Millisecond},
			{Observer: "alice", NodeView: bare, ReportedAt: reported, Age: 1500 * time.Millisecond},
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		// Nothing of what was known before may stay.
		full = view("geth-1", testChain, schema.NodeUnknown)
		w.views("alice", full, bare)
		got, err = w.s.Nodes(t.Context(), schema.NodeFilter{}, nil, 1)
		if d := cmp.Diff(full, got[0].NodeView); d != "" || err != nil || got[0].Age != 0 {
			t.Error(d, err, got[0].Age)
		}
	})
}

func TestViewsThatAnObserverNoLongerReportsDisappear(t *testing.T) {
	t.Parallel()
	watching(t, func(t *testing.T, w *watchers) {
		w.views("alice", view("a", 1, schema.NodeReady), view("b", 1, schema.NodeReady), view("a", 2, schema.NodeReady))
		w.views("bob", view("a", 1, schema.NodeLagging))
		w.now = w.now.Add(time.Second)
		w.views("alice", view("b", 1, schema.NodeLive), view("c", 1, schema.NodeLive))
		w.report("alice", schema.Report{Heads: []schema.Head{{Chain: 1, Node: "b", Latest: *spot(1, "x")}}})
		const want = "alice/1/b=live alice/1/c=live bob/1/a=lagging"
		if got := w.list(schema.NodeFilter{}, 10); got != want {
			t.Errorf("nodes %q, want %q", got, want)
		}
		w.now = w.now.Add(-time.Hour) // a clock that was set back
		w.views("alice", view("b", 1, schema.NodeReady))
		if got := w.list(schema.NodeFilter{Observer: "alice"}, 10); got != "alice/1/b=ready" {
			t.Errorf("nodes %q", got)
		}
		got, err := w.s.Nodes(t.Context(), schema.NodeFilter{Observer: "bob"}, nil, 1)
		if err != nil || got[0].Age != 0 {
			t.Errorf("a view from the future has age %v, %v", got, err)
		}
	})
}

func TestNodesAreFilteredAndPaged(t *testing.T) {
	t.Parallel()
	watching(t, func(t *testing.T, w *watchers) {
		for _, observer := range []string{"bob", "alice"} {
			w.views(observer, view("n2", 2, schema.NodeReady), view("n1", 2, schema.NodeLagging), view("n1", 1, schema.NodeReady))
		}
		const all = "alice/1/n1=ready alice/2/n1=lagging alice/2/n2=ready bob/1/n1=ready bob/2/n1=lagging bob/2/n2=ready"
		for page := 1; page <= 7; page++ {
			if got := w.list(schema.NodeFilter{}, page); got != all {
				t.Errorf("by %d: %s", page, got)
			}
		}
		for _, c := range []struct {
			filter schema.NodeFilter
			want   string
		}{
			{schema.NodeFilter{Observer: "bob"}, "bob/1/n1=ready bob/2/n1=lagging bob/2/n2=ready"},
			{schema.NodeFilter{Node: "n2"}, "alice/2/n2=ready bob/2/n2=ready"},
			{schema.NodeFilter{Chain: 1}, "alice/1/n1=ready bob/1/n1=ready"},
			{schema.NodeFilter{State: schema.NodeLagging}, "alice/2/n1=lagging bob/2/n1=lagging"},
			{schema.NodeFilter{Observer: "bob", Chain: 2, Node: "n1", State: schema.NodeReady}, ""},
		} {
			for page := 1; page <= 3; page++ {
				if got := w.list(c.filter, page); got != c.want {
					t.Errorf("%+v by %d: %s", c.filter, page, got)
				}
			}
		}
	})
}

func TestTransitionsAreKeptOnceHoweverOftenTheyAreReported(t *testing.T) {
	t.Parallel()
	watching(t, func(t *testing.T, w *watchers) {
		first := []schema.NodeEvent{event("a", 1, schema.NodeReady), event("a", 2, schema.NodeLagging)}
		w.events("alice", first...)
		w.now = w.now.Add(time.Second)
		w.events("alice", append(first, event("a", 3, schema.NodeReady), event("b", 3, schema.NodeReady))...)
		w.events("bob", first[0])
		got, err := w.s.NodeEvents(t.Context(), schema.NodeFilter{Node: "a"}, 10)
		if err != nil {
			t.Fatal(err)
		}
		at := func(observer string, e schema.NodeEvent, seconds int64) schema.ObservedEvent {
			return schema.ObservedEvent{Observer: observer, NodeEvent: e, ReceivedAt: time.Unix(1e9+seconds, 0).UTC()}
		}
		want := []schema.ObservedEvent{
			at("bob", first[0], 1), at("alice", event("a", 3, schema.NodeReady), 1), at("alice", first[1], 0), at("alice", first[0], 0),
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		got, err = w.s.NodeEvents(t.Context(), schema.NodeFilter{Node: "a", Observer: "alice", State: schema.NodeReady}, 1)
		if d := cmp.Diff(want[1:2], got); d != "" || err != nil {
			t.Error(d, err)
		}
		got, err = w.s.NodeHistories(t.Context(), []schema.NodePlace{
			{Observer: "bob", Chain: testChain, Node: "a"}, {Observer: "alice", Chain: testChain, Node: "a"},
			{Observer: "alice", Chain: testChain + 1, Node: "a"},
		}, 2)
		if d := cmp.Diff([]schema.ObservedEvent{want[0], want[1], want[2]}, got); d != "" || err != nil {
			t.Error(d, err)
		}
	})
}

func TestHistoriesOfManyNodesAreReadInOneGo(t *testing.T) {
	t.Parallel()
	watching(t, func(t *testing.T, w *watchers) {
		var places []schema.NodePlace
		for i := range 2*maxHistories + 1 {
			node := fmt.Sprint("n", i)
			w.events("alice", event(node, 1, schema.NodeReady), event(node, 2, schema.NodeLive), event(node, 3, schema.NodeReady))
			places = append(places, schema.NodePlace{Observer: "alice", Chain: testChain, Node: node})
		}
		got, err := w.s.NodeHistories(t.Context(), places, 2)
		if err != nil || len(got) != 2*len(places) {
			t.Fatalf("%d transitions, %v", len(got), err)
		}
		for i, e := range got {
			if want := event(places[i/2].Node, 3-i%2, []schema.NodeState{schema.NodeReady, schema.NodeLive}[i%2]); e.NodeEvent != want {
				t.Errorf("transition %d is %+v", i, e.NodeEvent)
			}
		}
		for _, limit := range []int{0, 1} {
			if got, err := w.s.NodeHistories(t.Context(), nil, limit); err != nil || len(got) != 0 {
				t.Errorf("%v, %v", got, err)
			}
		}
	})
}

func TestOldTransitionsAndViewsArePruned(t *testing.T) {
	t.Parallel()
	watching(t, func(t *testing.T, w *watchers) {
		w.views("gone", view("a", 1, schema.NodeReady))
		const old = pruneBatch + 10
		for i := 0; i < old; i += 100 {
			var batch []schema.NodeEvent
			for n := i; n < min(i+100, old); n++ {
				batch = append(batch, event("a", n, schema.NodeReady))
			}
			w.events("alice", batch...)
		}
		w.now = w.now.Add(keepEvents)
		w.events("alice", event("a", old, schema.NodeReady))
		w.views("alice", view("a", 1, schema.NodeReady))
		if n := w.s.countRows(t, "node_events"); n != old+1 {
			t.Errorf("%d transitions after exactly a day, want %d", n, old+1)
		}
		w.now = w.now.Add(pruneEvery - time.Second)
		w.views("alice", view("a", 1, schema.NodeReady))
		if n := w.s.countRows(t, "node_events"); n != old+1 {
			t.Errorf("%d transitions: pruned within a minute of the last time", n)
		}
		w.now = w.now.Add(time.Second)
		w.views("alice", view("a", 1, schema.NodeReady))
		if n, views := w.s.countRows(t, "node_events"), w.list(schema.NodeFilter{}, 10); n != 1 || views != "alice/1/a=ready" {
			t.Errorf("%d transitions and views %q left", n, views)
		}
	})
}

func TestPruningThatFailsIsNotTheReportsFault(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		now, f := time.Unix(1e9, 0), &fault{}
		s := openedThrough(t, Options{DSN: dsn, Now: func() time.Time { return now }}, f)
		w := &watchers{t: t, s: s}
		w.events("alice", event("a", 1, schema.NodeReady))
		now = now.Add(keepEvents + pruneEvery)
		f.set(func(_, text string) error {
			if strings.HasPrefix(text, "DELETE FROM `node_events`") {
				return errors.New("disk I/O error")
			}
			return nil
		}, nil)
		w.events("alice", event("a", 2, schema.NodeReady))
		f.set(nil, nil)
		if n := s.countRows(t, "node_events"); n != 2 {
			t.Errorf("%d transitions", n)
		}
		now = now.Add(pruneEvery)
		w.events("alice", event("a", 3, schema.NodeReady))
		if n := s.countRows(t, "node_events"); n != 2 {
			t.Errorf("%d transitions after the next look", n)
		}
	})
}

func TestHeadsAreJudgedThoughNodesCannotBeWritten(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		f := &fault{}
		s := openedThrough(t, Options{DSN: dsn}, f)
		f.set(func(_, text string) error {
			if strings.HasPrefix(text, "INSERT INTO `nodes`") {
				return errors.New("table is full")
			}
			return nil
		}, nil)
		err := s.Report(t.Context(), "alice", schema.Report{
			Heads: []schema.Head{{Chain: testChain, Node: "a", Latest: *spot(1, "a1")}},
			Nodes: []schema.NodeView{view("a", testChain, schema.NodeReady)},
		})
		if err == nil || s.countRows(t, "heads") != 1 || s.countRows(t, "nodes") != 0 {
			t.Errorf("%v, %d heads, %d nodes", err, s.countRows(t, "heads"), s.countRows(t, "nodes"))
		}
	})
}

func TestNodesThatTheTablesCannotHoldAreRefusedWithTheReport(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{DSN: "memory"})
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	good, goodEvent := view("a", 1, schema.NodeReady), event("a", 1, schema.NodeReady)
	for name, spoil := range map[string]func(v *schema.NodeView, e *schema.NodeEvent){
		"chain of bare payloads": func(v *schema.NodeView, _ *schema.NodeEvent) { v.Chain = 0 },
		"chain of 2^63":          func(_ *schema.NodeView, e *schema.NodeEvent) { e.Chain = 1 << 63 },
		"name":                   func(v *schema.NodeView, _ *schema.NodeEvent) { v.Name = "a b" },
		"state":                  func(v *schema.NodeView, _ *schema.NodeEvent) { v.State = "" },
		"from":                   func(_ *schema.NodeView, e *schema.NodeEvent) { e.From = "" },
		"to":                     func(_ *schema.NodeView, e *schema.NodeEvent) { e.To = schema.NodeState(strings.Repeat("x", 65)) },
		"long reason":            func(v *schema.NodeView, _ *schema.NodeEvent) { v.Reason = strings.Repeat("x", maxReason+1) },
		"reason not UTF-8":       func(_ *schema.NodeView, e *schema.NodeEvent) { e.Reason = "\xff" },
		"height of 2^63":         func(v *schema.NodeView, _ *schema.NodeEvent) { v.Height = ptr(uint64(1 << 63)) },
		"lag of 2^63":            func(v *schema.NodeView, _ *schema.NodeEvent) { v.Lag = ptr(uint64(1 << 63)) },
		"latency":                func(v *schema.NodeView, _ *schema.NodeEvent) { v.Latency = &schema.Latency{P50: math.NaN()} },
		"since":                  func(v *schema.NodeView, _ *schema.NodeEvent) { v.Since = time.Time{} },
		"at":                     func(_ *schema.NodeView, e *schema.NodeEvent) { e.At = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		v, e := good, goodEvent
		spoil(&v, &e)
		err := s.Report(t.Context(), "alice", schema.Report{Nodes: []schema.NodeView{v}, Events: []schema.NodeEvent{e}})
		if bad := new(badOffer); !errors.As(err, &bad) || s.countRows(t, "nodes") != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestObserversReportNodesAtOnce(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		stores := []*Store{opened(t, Options{DSN: dsn}), opened(t, Options{DSN: dsn})}
		var reporting sync.WaitGroup
		for i := range 8 {
			reporting.Go(func() {
				for n := range 5 {
					err := stores[(i+n)%2].Report(t.Context(), fmt.Sprint("o", i), schema.Report{
						Nodes:  []schema.NodeView{view("a", 1, schema.NodeReady), view("b", 1, schema.NodeReady)},
						Events: []schema.NodeEvent{event("a", n, schema.NodeReady), event("a", n+1, schema.NodeReady)},
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		reporting.Wait()
		if views, events := stores[0].countRows(t, "nodes"), stores[0].countRows(t, "node_events"); views != 16 || events != 48 {
			t.Errorf("%d views and %d transitions, want 16 and 48", views, events)
		}
	})
}

func TestQueriesOfNodesUseIndexes(t *testing.T) {
	t.Parallel()
	readStores(t, func(t *testing.T, s *Store) {
		sd := &seed{t: t, db: s.db}
		var views []nodeRow
		var events []nodeEventRow
		for i := range 3000 {
			observer, node := fmt.Sprintf("o%04d", i/4), fmt.Sprintf("n%d", i%4)
			views = append(views, nodeRow{Observer: observer, Chain: 1, Node: node, State: "ready"})
			for at := range 3 {
				events = append(events, nodeEventRow{Observer: observer, Chain: 1, Node: node, FromState: "live", ToState: "ready",
					At: int64(at), ReceivedAt: int64(i)})
			}
		}
		sd.create(views)
		sd.create(events)
		analyze := "ANALYZE"
		if s.dialect == dialectMySQL {
			analyze = "ANALYZE TABLE nodes, node_events"
		}
		if err := s.db.Exec(analyze).Error; err != nil {
			t.Fatal(err)
		}
		place := &schema.NodePlace{Observer: "o0700", Chain: 1, Node: "n1"}
		for name, run := range map[string]func(ctx context.Context) error{
			"of an observer": func(ctx context.Context) error {
				return errOf(s.Nodes(ctx, schema.NodeFilter{Observer: "o0001"}, nil, 20))
			},
			"of a name":   func(ctx context.Context) error { return errOf(s.Nodes(ctx, schema.NodeFilter{Node: "n1"}, nil, 20)) },
			"after one":   func(ctx context.Context) error { return errOf(s.Nodes(ctx, schema.NodeFilter{}, place, 20)) },
			"transitions": func(ctx context.Context) error { return errOf(s.NodeEvents(ctx, schema.NodeFilter{Node: "n1"}, 20)) },
			"old ones":    func(ctx context.Context) error { return s.pruneEvents(ctx, 5) },
		} {
			for _, e := range capture(t, s, run) {
				for _, line := range e.plan {
					if c := complaint(s.dialect, line, false); c != "" {
						t.Errorf("%s %s: %s\n\t%s", name, c, e.sql, line)
					}
				}
			}
		}
		var history string
		err := s.db.Callback().Row().After("gorm:row").Register("test:history", func(tx *gorm.DB) { history = tx.Statement.SQL.String() })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.NodeHistories(t.Context(), []schema.NodePlace{*place}, 5); err != nil {
			t.Fatal(err)
		}
		for _, line := range plan(t, s, history, []any{"o0700", "n1", 1, 5}) {
			derived := strings.Contains(line, "SCAN history") || strings.Contains(line, "table=<derived")
			if c := complaint(s.dialect, line, false); c != "" && !derived {
				t.Errorf("history %s: %s", c, line)
			}
		}
	})
}
