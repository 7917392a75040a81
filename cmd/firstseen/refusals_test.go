package main

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/server"
)

func TestRefusalsAreListedOverTheAdminPort(t *testing.T) {
	t.Parallel()
	list := []server.Refusal{
		{At: time.Unix(1_700_000_000, 0).UTC(), Mode: "relay", Remote: "192.0.2.1:5", Observer: "paris-1", Frame: 7, Chain: 1,
			Key: "ab", Bytes: 9, Code: "data", Reason: "too \x1b[2Jlong"},
		{At: time.Unix(1_700_000_001, 0).UTC(), Mode: "bare", Remote: "192.0.2.2:5", Bytes: 3, Code: "data", Reason: "bad"},
	}
	for _, c := range []struct {
		name     string
		refusals func() []server.Refusal
		code     int
		want     string // one line of the output, its spaces as one
	}{
		{"some", func() []server.Refusal { return list }, exitOK,
			`2023-11-14T22:13:21Z bare 192.0.2.2:5 - - - 3 data bad`},
		{"none", func() []server.Refusal { return []server.Refusal{} }, exitOK, "nothing was refused"},
		{"no server", nil, exitFailure, "this process is no server"},
	} {
		o := adminOptions{gatherer: prometheus.NewRegistry(), token: testToken, refusals: c.refusals}
		s := httptest.NewServer(o.handler())
		t.Cleanup(s.Close)
		out, errs, code := firstseen(t, []string{"FIRSTSEEN_ADMIN_TOKEN=" + testToken}, "refusals", "--admin", s.Listener.Addr().String())
		found := false
		for line := range strings.Lines(out + errs) {
			found = found || strings.Contains(strings.Join(strings.Fields(line), " "), c.want)
		}
		if code != c.code || !found || strings.Contains(out, "\x1b") {
			t.Errorf("%s: exit code %d, %q", c.name, code, out+errs)
		}
	}
}
