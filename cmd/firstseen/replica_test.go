package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestAReplicaIsShownAndJudged(t *testing.T) {
	t.Parallel()
	const fine = `{"env":"main","role":"primary","phase":"following","reason":"","since":"2026-01-02T03:04:05.678900Z",
		"applied_seq":100,"writer_seq":"100","lag_seconds":0.25,"writer_at":null,
		"chains":[{"chain":5,"number":10,"writer_number":12,"lag_blocks":2},{"chain":9,"number":3,"writer_number":null,"lag_blocks":null}],
		"digests":{"equal":7,"differ":[]},
		"audit":[{"at":"2026-01-02T03:04:05.678900Z","actor":"anna@ops","action":"rewind","detail":{"to_height":3}}]}`
	for _, c := range []struct {
		name, body string
		status     int
		code       int
		want       []string
	}{
		{"fine", fine, 200, exitOK, []string{"main/primary", "250ms", "10 of 12", "3 of -", "anna@ops", `{"to_height":3}`}},
		{"waiting", strings.Replace(fine, "following", "waiting", 1), 200, exitUnready, []string{"not following: waiting"}},
		{"different", strings.Replace(fine, `"differ":[]`, `"differ":[{"chain":5,"from":0,"to":999,"seq":90}]`, 1), 200, exitUnready,
			[]string{"1 ranges of heights", "0 to 999"}},
		{"a silent writer", strings.NewReplacer(`"lag_seconds":0.25`, `"lag_seconds":null`, `"writer_at":null`,
			`"writer_at":"2026-01-02T03:04:00.000000Z"`).Replace(fine), 200, exitOK, []string{"unknown", "2026-01-02T03:04:00.000Z"}},
		{"an unheard writer", strings.Replace(fine, `"lag_seconds":0.25`, `"lag_seconds":null`, 1), 200, exitOK, []string{"unknown: nothing"}},
		{"no replica", `{"detail":"this process is no replica"}`, 404, exitMissing, []string{"no replica"}},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/v1/replica" {
				t.Errorf("asked for %s", r.URL)
			}
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.body))
		}))
		t.Cleanup(s.Close)
		out, errs, code := firstseen(t, nil, "replica", "--api", s.URL)
		for _, want := range c.want {
			if !strings.Contains(out+errs, want) {
				t.Errorf("%s: %q is missing in\n%s%s", c.name, want, out, errs)
			}
		}
		if code != c.code {
			t.Errorf("%s: exit code %d", c.name, code)
		}
	}
}
