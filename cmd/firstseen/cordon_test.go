package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// fakePool knows one node, geth-1, and remembers what was asked of it.
type fakePool struct {
	mu    sync.Mutex
	asked []string
}

func (p *fakePool) Cordon(name string) error   { return p.ask("cordon", name) }
func (p *fakePool) Uncordon(name string) error { return p.ask("uncordon", name) }

func (p *fakePool) ask(verb, name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, verb+" "+name)
	if name != "geth-1" {
		return fmt.Errorf("no node is called %q", name)
	}
	return nil
}

const testToken = "0123456789abcdef"

// adminPort serves an admin port and returns its address.
func adminPort(t *testing.T, token string, nodes cordoner) string {
	t.Helper()
	return adminPortOf(t, adminOptions{token: token, nodes: nodes})
}

func adminPortOf(t *testing.T, o adminOptions) string {
	t.Helper()
	o.gatherer = prometheus.NewRegistry()
	s := httptest.NewServer(o.handler())
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestNodesAreCordonedOverTheAdminPort(t *testing.T) {
	t.Parallel()
	pool := &fakePool{}
	addr := adminPort(t, testToken, pool)
	file := write(t, "token", testToken+"\n")
	for _, c := range []struct {
		args, environ []string
		out           string
	}{
		{[]string{"cordon", "geth-1", "--admin", addr}, []string{"FIRSTSEEN_ADMIN_TOKEN=" + testToken}, "node geth-1 is cordoned\n"},
		{[]string{"uncordon", "geth-1"}, []string{"FIRSTSEEN_ADMIN_TOKEN_FILE=" + file, "FIRSTSEEN_ADMIN=" + addr}, "node geth-1 is uncordoned\n"},
	} {
		out, errs, code := firstseen(t, c.environ, c.args...)
		if code != exitOK || out != c.out {
			t.Errorf("%v: %d %q %q", c.args, code, out, errs)
		}
	}
	if want := []string{"cordon geth-1", "uncordon geth-1"}; !slices.Equal(pool.asked, want) {
		t.Errorf("the pool was asked %v, want %v", pool.asked, want)
	}
}

func TestWhatKeepsANodeFromBeingCordonedIsOneLineWithTheFix(t *testing.T) {
	t.Parallel()
	pool := &fakePool{}
	addr := adminPort(t, testToken, pool)
	token := "FIRSTSEEN_ADMIN_TOKEN=" + testToken
	for _, c := range []struct {
		name, addr, environ, node, want string
		code                            int
	}{
		{"another token", addr, "FIRSTSEEN_ADMIN_TOKEN=0123456789abcdeX", "geth-1", "the admin token is missing or another", exitFailure},
		{"no such node", addr, token, "geth-2", `no node is called "geth-2"`, exitFailure},
		{"no token in the process", adminPort(t, "", pool), token, "geth-1", "FIRSTSEEN_ADMIN_TOKEN_FILE", exitFailure},
		{"no nodes in the process", adminPort(t, testToken, nil), token, "geth-1", "an observer or a gateway", exitFailure},
		{"nobody there", "127.0.0.1:1", token, "geth-1", "--admin", exitFailure},
		{"no token here", addr, "X=", "geth-1", "FIRSTSEEN_ADMIN_TOKEN_FILE", exitUsage},
		{"short token", addr, "FIRSTSEEN_ADMIN_TOKEN=short", "geth-1", "openssl rand", exitUsage},
		{"no address", "", token, "geth-1", "host:port", exitUsage},
		{"no name", addr, token, "../../readyz", "name one node", exitUsage},
	} {
		out, errs, code := firstseen(t, []string{c.environ}, "cordon", c.node, "--admin", c.addr)
		if code != c.code || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %q %q", c.name, code, out, errs)
		}
		if strings.Contains(errs, testToken) {
			t.Errorf("%s: the token is shown: %s", c.name, errs)
		}
	}
	if want := []string{"cordon geth-2"}; !slices.Equal(pool.asked, want) {
		t.Errorf("the pool was asked %v, want %v", pool.asked, want)
	}
}

func TestTheAdminPortChangesNothingWithoutItsToken(t *testing.T) {
	t.Parallel()
	pool := &fakePool{}
	for _, c := range []struct {
		name, token, method, authorization string
		status                             int
	}{
		{"right", testToken, http.MethodPost, "Bearer " + testToken, http.StatusOK},
		{"scheme in another case", testToken, http.MethodPost, "bearer " + testToken, http.StatusOK},
		{"none", testToken, http.MethodPost, "", http.StatusUnauthorized},
		{"empty", testToken, http.MethodPost, "Bearer ", http.StatusUnauthorized},
		{"begins right", testToken, http.MethodPost, "Bearer " + testToken[:15], http.StatusUnauthorized},
		{"goes on", testToken, http.MethodPost, "Bearer " + testToken + "0", http.StatusUnauthorized},
		{"other scheme", testToken, http.MethodPost, "Basic " + testToken, http.StatusUnauthorized},
		{"not configured, none shown", "", http.MethodPost, "", http.StatusForbidden},
		{"not configured, empty shown", "", http.MethodPost, "Bearer ", http.StatusForbidden},
		{"read", testToken, http.MethodGet, "Bearer " + testToken, http.StatusMethodNotAllowed},
	} {
		for _, verb := range []string{"cordon", "uncordon"} {
			r := httptest.NewRequest(c.method, "/v1/nodes/geth-1/"+verb, nil)
			if c.authorization != "" {
				r.Header.Set("Authorization", c.authorization)
			}
			w := httptest.NewRecorder()
			before := len(pool.asked)
			adminOptions{gatherer: prometheus.NewRegistry(), token: c.token, nodes: pool}.handler().ServeHTTP(w, r)
			if asked := len(pool.asked) > before; w.Code != c.status || asked != (c.status == http.StatusOK) {
				t.Errorf("%s, %s: %d, asked: %v", c.name, verb, w.Code, asked)
			}
			if w.Code == http.StatusUnauthorized && w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("%s: a 401 without its challenge", c.name)
			}
		}
	}
}

func TestTheAdminTokenIsNeverShown(t *testing.T) {
	t.Parallel()
	out, errs, code := firstseen(t, []string{"FIRSTSEEN_ADMIN_TOKEN=" + testToken}, "config", "dump")
	if code != exitOK || strings.Contains(out+errs, testToken) || !strings.Contains(out, "admin_token: "+hidden) {
		t.Errorf("%d %s %s", code, out, errs)
	}
	for _, bad := range []string{"short", "sixteen or more, with spaces", "a non-ASCII tökén of enough length"} {
		c := defaults()
		c.AdminToken = bad
		if usage := (usageError{}); !errors.As(c.Validate(), &usage) || strings.Contains(usage.text, bad) {
			t.Errorf("%q: %v", bad, c.Validate())
		}
	}
}
