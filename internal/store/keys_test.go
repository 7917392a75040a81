package store

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func TestAccessKeysAreKeptListedAndRevokedForGood(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		now := time.Unix(1_700_000_000, 123_456_789)
		s := opened(t, Options{DSN: dsn, Now: func() time.Time { return now }})
		created := now.Truncate(time.Microsecond).UTC()
		paris := schema.AccessKey{ID: "aaaa", Scope: schema.ScopeObserve, Observer: "paris-1", Label: "4é", Digest: named("paris")}
		read := schema.AccessKey{ID: "bbbb", Scope: schema.ScopeRead, Digest: named("read")}
		for _, k := range []*schema.AccessKey{&paris, &read} {
			made, err := s.CreateKey(t.Context(), *k)
			if k.CreatedAt = created; err != nil || !cmp.Equal(made, *k) {
				t.Fatalf("%+v, %v", made, err)
			}
		}
		if _, err := s.CreateKey(t.Context(), paris); err == nil {
			t.Error("a second key of the same id was stored")
		}

		now = now.Add(time.Hour)
		first := now.Truncate(time.Microsecond).UTC()
		paris.RevokedAt = &first
		for range 2 {
			k, found, err := s.RevokeKey(t.Context(), "aaaa")
			if err != nil || !found || !cmp.Equal(k, paris) {
				t.Errorf("revoked %+v, %v, %v", k, found, err)
			}
			now = now.Add(time.Hour)
		}
		for _, unknown := range []string{"AAAA", "cccc", ""} {
			if _, found, err := s.RevokeKey(t.Context(), unknown); found || err != nil {
				t.Errorf("revoked the unknown %q: %v", unknown, err)
			}
			if _, found, err := s.LookupKey(t.Context(), unknown); found || err != nil {
				t.Errorf("found the unknown %q: %v", unknown, err)
			}
		}
		all, err := s.Keys(t.Context())
		if diff := cmp.Diff([]schema.AccessKey{paris, read}, all); err != nil || diff != "" {
			t.Errorf("%v\n%s", err, diff)
		}
		if some, err := s.LookupKeys(t.Context(), []string{"aaaa", "cccc"}); err != nil || len(some) != 1 || !cmp.Equal(some[0], paris) {
			t.Errorf("found %+v, %v", some, err)
		}
		if k, found, err := s.LookupKey(t.Context(), "bbbb"); err != nil || !found || !cmp.Equal(k, read) {
			t.Errorf("found %+v, %v, %v", k, found, err)
		}
	})
}
