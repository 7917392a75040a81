package nodepool

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestManyQuestionsInOneRequest asks a node ten things, and says how it was asked.
func TestManyQuestionsInOneRequest(t *testing.T) {
	t.Parallel()
	one := func(req map[string]any) map[string]any {
		return map[string]any{"jsonrpc": "2.0", "id": req["id"], "result": req["params"].([]any)[0]}
	}
	for name, tc := range map[string]struct {
		batch             func(w http.ResponseWriter, reqs []map[string]any)
		batches, singles  int64
		fails             string
		secondTimeBatches int64
	}{
		"taken": {func(w http.ResponseWriter, reqs []map[string]any) {
			var out []any
			for _, r := range reqs {
				out = append(out, one(r))
			}
			_ = json.NewEncoder(w).Encode(out)
		}, 1, 0, "", 2},
		"refused": {func(w http.ResponseWriter, _ []map[string]any) { w.WriteHeader(400) }, 1, 10, "", 1},
		"one error for all": {func(w http.ResponseWriter, _ []map[string]any) {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no batches"}}`)
		}, 1, 10, "", 1},
		"half answered": {func(w http.ResponseWriter, reqs []map[string]any) {
			var out []any
			for _, r := range reqs[:5] {
				out = append(out, one(r))
			}
			_ = json.NewEncoder(w).Encode(out)
		}, 1, 5, "", 2},
		"too busy": {func(w http.ResponseWriter, _ []map[string]any) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(429)
		}, 1, 0, "HTTP status 429", 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var batches, singles atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				w.Header().Set("Content-Type", "application/json")
				var reqs []map[string]any
				if json.Unmarshal(body, &reqs) == nil {
					batches.Add(1)
					tc.batch(w, reqs)
					return
				}
				var req map[string]any
				_ = json.Unmarshal(body, &req)
				singles.Add(1)
				_ = json.NewEncoder(w).Encode(one(req))
			}))
			t.Cleanup(srv.Close)
			c := newConn(address{name: "n", url: srv.URL}, Options{MaxAnswer: 1 << 20, CallTimeout: 5 * time.Second, Now: time.Now})
			var err error
			if c.rpc, err = c.dial(t.Context(), srv.URL); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.hangUp)
			n := &Node{conn: c}
			var args [][]any
			for i := range 10 {
				args = append(args, []any{i})
			}
			answers, errs := n.AskAll(t.Context(), "echo", args)
			for i := range args {
				want := string(rune('0' + i))
				if err := errs[i]; tc.fails == "" && (err != nil || string(answers[i]) != want) ||
					tc.fails != "" && (err == nil || !strings.Contains(err.Error(), tc.fails)) {
					t.Errorf("%d: %s, %v", i, answers[i], err)
				}
			}
			if batches.Load() != tc.batches || singles.Load() != tc.singles {
				t.Errorf("%d batches, %d singles; want %d, %d", batches.Load(), singles.Load(), tc.batches, tc.singles)
			}
			var asked interface{ RetryAfter() time.Duration }
			if tc.fails != "" && (!errors.As(errs[0], &asked) || asked.RetryAfter() != 7*time.Second) {
				t.Error("when to come again was lost")
			}
			n.AskAll(t.Context(), "echo", args)
			if batches.Load() != tc.secondTimeBatches {
				t.Errorf("%d batches after the second time, want %d", batches.Load(), tc.secondTimeBatches)
			}
		})
	}
}
