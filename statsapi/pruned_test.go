package statsapi

import (
	"context"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// prunedStore has lost all payloads to retention.
type prunedStore struct{ Store }

func (prunedStore) Payload(context.Context, uint64) ([]byte, error) {
	return nil, schema.ErrPayloadPruned
}

// A payload that retention has taken is gone, which is not the same as one that was empty.
func TestPrunedPayloadIsGone(t *testing.T) {
	t.Parallel()
	dsn := "sqlite:///" + filepath.Join(t.TempDir(), "db")
	open := func(keep store.Retention) *store.Store {
		s, err := store.Open(t.Context(), store.Options{DSN: dsn, Keep: keep})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := open(store.Retention{})
	stop := background(t, first.Run)
	w := &world{t: t, store: first, now: epoch}
	w.grow(3)
	empty := w.block("alice", 5, 4, "b4", "b3")
	empty.Payload = nil
	w.offer(empty)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	w.store = open(store.Retention{PayloadsOf: 2})
	background(t, w.store.Run)
	s := serve(t, Options{Store: w.store})
	of := func(name string) string { return "/v1/records/" + named(name).String() + "/payload" }
	eventuallyStatus(t, s, of("b1"), http.StatusGone)
	got := s.get(of("b1"))
	if !strings.Contains(got.Header.Get("Content-Type"), "problem+json") || !strings.Contains(got.body, schema.ErrPayloadPruned.Error()) {
		t.Errorf("%+v", got)
	}
	if got := s.get("/_cat/hashes/" + named("b1").String()); got.StatusCode != http.StatusGone {
		t.Errorf("%+v", got)
	}
	if got := s.get(of("b3")); got.StatusCode != http.StatusOK || got.body == "" {
		t.Errorf("%+v", got)
	}
	if got := s.get(of("b4")); got.StatusCode != http.StatusOK || got.body != "" {
		t.Errorf("%+v", got)
	}
}
