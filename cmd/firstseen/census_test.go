package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/internal/presence"
)

func aCensus() presence.Census {
	return presence.Census{
		Server: "relay-1", Boot: "boot-1", Count: 3, Observers: map[string]int{"alice": 2, presence.BareConnections: 1},
		Addresses: map[string]int{"192.0.2.1": 3},
	}
}

// censusPort serves the admin port of a server.
func censusPort(t *testing.T, token string, census func() presence.Census) (addr string) {
	t.Helper()
	s := httptest.NewServer(adminOptions{gatherer: prometheus.NewRegistry(), token: token, census: census}.handler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestAServerTellsItsCensusToWhoKnowsTheToken(t *testing.T) {
	t.Parallel()
	addr := censusPort(t, testToken, aCensus)
	asked := presence.Server{Server: "relay-1", Boot: "boot-1", Ask: addr}
	got, err := (&censusAsker{token: testToken, now: time.Now}).Ask(t.Context(), asked)
	if d := cmp.Diff(aCensus(), got); err != nil || d != "" {
		t.Fatal(err, d)
	}
	restarted, renamed, unreachable, unaskable, elsewhere := asked, asked, asked, asked, asked
	restarted.Boot, renamed.Server, unreachable.Ask, unaskable.Ask = "boot-0", "relay-2", "127.0.0.1:1", ""
	elsewhere.Ask = censusPort(t, "", aCensus)
	none := asked
	none.Ask = censusPort(t, testToken, nil)
	for name, c := range map[string]struct {
		server presence.Server
		asker  censusAsker
		want   string
	}{
		"another token":      {asked, censusAsker{token: "0123456789abcdeX", now: time.Now}, "the admin token is another"},
		"no token here":      {asked, censusAsker{now: time.Now}, "FIRSTSEEN_ADMIN_TOKEN"},
		"no token there":     {elsewhere, censusAsker{token: testToken, now: time.Now}, "has no admin token"},
		"no server there":    {none, censusAsker{token: testToken, now: time.Now}, "is no server"},
		"an earlier start":   {restarted, censusAsker{token: testToken, now: time.Now}, "another start"},
		"another server":     {renamed, censusAsker{token: testToken, now: time.Now}, "another start"},
		"nobody there":       {unreachable, censusAsker{token: testToken, now: time.Now}, "cannot be reached"},
		"no admin port":      {unaskable, censusAsker{token: testToken, now: time.Now}, "--admin"},
		"clocks that differ": {asked, censusAsker{token: testToken, now: func() time.Time { return time.Now().Add(-time.Hour) }}, "clocks differ"},
	} {
		_, err := c.asker.Ask(t.Context(), c.server)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), testToken) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTheTokenIsNotShownToWhoeverIsAsked(t *testing.T) {
	t.Parallel()
	var seen strings.Builder
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _ = r.Write(&seen) }))
	defer thief.Close()
	server := presence.Server{Server: "relay-1", Boot: "boot-1", Ask: thief.Listener.Addr().String()}
	if _, err := (&censusAsker{token: testToken, now: time.Now}).Ask(t.Context(), server); err == nil {
		t.Error("nonsense is taken for a census")
	}
	if !strings.Contains(seen.String(), censusScheme) || strings.Contains(seen.String(), testToken) {
		t.Errorf("sent: %s", seen.String())
	}
}

func TestAServerInThisProcessIsAskedDirectly(t *testing.T) {
	t.Parallel()
	asker := &censusAsker{local: aCensus, now: time.Now}
	if got, err := asker.Ask(t.Context(), presence.Server{Server: "relay-1", Boot: "boot-1"}); err != nil || got.Count != 3 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := asker.Ask(t.Context(), presence.Server{Server: "relay-1", Boot: "boot-2"}); err == nil {
		t.Error("another start of that name is taken for this one")
	}
}

func TestWhereAnAdminPortIsReached(t *testing.T) {
	t.Parallel()
	at := func(ip string) string { return askAddress(&net.TCPAddr{IP: net.ParseIP(ip), Port: 9090}) }
	if got := at("192.0.2.1"); got != "192.0.2.1:9090" {
		t.Error(got)
	}
	if got := at("::"); !strings.HasSuffix(got, ":9090") || strings.HasPrefix(got, "[::]") {
		t.Error(got)
	}
	if boot := newBoot(); len(boot) != 36 || boot[14] != '4' || boot == newBoot() {
		t.Error(boot)
	}
}
