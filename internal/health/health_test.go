package health_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"

	"github.com/firstseen/firstseen/internal/health"
)

func passes(context.Context) error { return nil }

func answer(target string, checks ...health.Check) *httptest.ResponseRecorder {
	w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, target, nil)
	lines, ready := health.Ask(r.Context(), checks)
	health.Answer(w, r, lines, ready)
	return w
}

func TestReadyIsBriefUnlessAsked(t *testing.T) {
	t.Parallel()
	check := health.Check{Name: "database", Ready: passes}
	if w := answer("/readyz", check); w.Code != http.StatusOK || w.Body.String() != "ok\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
	if w := answer("/readyz?verbose", check); w.Body.String() != "[+] database ok\n" {
		t.Errorf("%q", w.Body)
	}
}

func TestDegradedIsReadyAndSaysWhy(t *testing.T) {
	t.Parallel()
	what := ""
	check := health.Check{Name: "client", Ready: passes, Degraded: func() string { return what }}
	if w := answer("/readyz", check); w.Body.String() != "ok\n" {
		t.Errorf("%q", w.Body)
	}
	what = "2 gaps"
	if w := answer("/readyz", check); w.Code != http.StatusOK || w.Body.String() != "[!] client degraded: 2 gaps\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestNotReadyNamesEveryCheck(t *testing.T) {
	t.Parallel()
	w := answer("/readyz",
		health.Check{Name: "database", Ready: func(context.Context) error { return errors.New("gone") }},
		health.Check{Name: "server", Ready: passes})
	if w.Code != http.StatusServiceUnavailable || w.Body.String() != "[-] database: gone\n[+] server ok\n" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

func TestACheckThatHangsFailsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := answer("/readyz",
			health.Check{Name: "slow", Ready: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			health.Check{Name: "server", Ready: passes})
		if w.Body.String() != "[-] slow: context deadline exceeded\n[+] server ok\n" {
			t.Errorf("%q", w.Body)
		}
	})
}
