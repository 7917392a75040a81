package statsapi

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func TestCatPagesKeepTheirForm(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: drawn(t).store})
	for name, path := range map[string]string{
		"cat.golden": "/_cat", "cat_hashes.golden": "/_cat/hashes", "cat_clients.golden": "/_cat/clients",
	} {
		got := s.get(path)
		if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != textType {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.Header)
		}
		golden(t, name, got.body)
	}
	if got := s.get("/"); got.StatusCode != http.StatusFound || got.Header.Get("Location") != "/_cat" {
		t.Errorf("/: %d to %s", got.StatusCode, got.Header.Get("Location"))
	}
}

func TestCatPagesOfAnEmptyStoreHaveOnlyHeadings(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	if got := s.get("/_cat/hashes").body; strings.Fields(got)[0] != "hash" || strings.Count(got, "\n") != 1 {
		t.Errorf("hashes: %q", got)
	}
	if got := s.get("/_cat/clients").body; got != "client count\n" {
		t.Errorf("clients: %q", got)
	}
}

func TestCatHashIsThePayloadOfBlocksAndBareRecords(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	key := string(w.bare("<p>it's \x00 \xff \u202e bytes</p>"))
	s := serve(t, Options{Store: w.store})
	for hash, want := range map[string]string{
		key:                       "<p>it's \x00 \xff \u202e bytes</p>",
		"0x" + key:                "<p>it's \x00 \xff \u202e bytes</p>",
		strings.ToUpper(key):      "<p>it's \x00 \xff \u202e bytes</p>",
		string(named("b3").Key()): "<p>b3</p>",
		string(schema.PayloadKey([]byte("<p>two</p>"))): "<p>two</p>",
	} {
		got := s.get("/_cat/hashes/" + hash)
		if got.StatusCode != http.StatusOK || got.body != want || got.Header.Get("Content-Type") != textType {
			t.Errorf("%s: %d %q", hash, got.StatusCode, got.body)
		}
	}
	for _, hash := range []string{"x", strings.Repeat("0", 64), key[:63], "%2e%2e", "'%20OR%201=1"} {
		if got := s.get("/_cat/hashes/" + hash); got.StatusCode != http.StatusNotFound || got.body != "Hash not found\n" {
			t.Errorf("%s: %d %q", hash, got.StatusCode, got.body)
		}
	}
}

func TestCatShowsTheNewestHundred(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(102)
	last := w.bare("<p>last</p>")
	s := serve(t, Options{Store: w.store})
	lines := strings.Split(strings.TrimSpace(s.get("/_cat/hashes").body), "\n")
	if len(lines) != 101 || !strings.HasPrefix(lines[1], string(last)+" ") {
		t.Errorf("%d lines, first %s", len(lines), lines[1])
	}
}

func TestCatErrorsAreProblems(t *testing.T) {
	t.Parallel()
	broken := &brokenStore{Store: newWorld(t).store}
	s := serve(t, Options{Store: broken, RequestTimeout: 20 * time.Millisecond})
	broken.fail(errSecret)
	wantProblem(t, s.get("/_cat/hashes"), http.StatusInternalServerError, "internal error")
	wantProblem(t, s.get("/_cat/hashes/"+strings.Repeat("0", 64)), http.StatusInternalServerError, "internal error")
	broken.fail(context.DeadlineExceeded)
	wantProblem(t, s.get("/_cat/hashes"), http.StatusServiceUnavailable, "in time")
}
