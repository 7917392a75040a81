package objects

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/testenv"
)

// stores is every kind of Store with a way to open a fresh one twice, as two processes would.
func stores() map[string]func(t *testing.T) (url string, o Options) {
	return map[string]func(t *testing.T) (string, Options){
		"folder": func(t *testing.T) (string, Options) { return filepath.Join(t.TempDir(), "objects"), Options{} },
		"S3": func(t *testing.T) (string, Options) {
			return testenv.S3(t), Options{Key: testenv.S3Key(), Secret: testenv.S3Secret()}
		},
	}
}

func each(t *testing.T, test func(t *testing.T, a, b Store)) {
	t.Helper()
	for name, fresh := range stores() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, o := fresh(t)
			o.Writer, o.Limit = true, 1<<20
			test(t, open(t, url, o), open(t, url, o))
		})
	}
}

func open(t *testing.T, url string, o Options) Store {
	t.Helper()
	s, err := Open(t.Context(), url, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func create(t *testing.T, s Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := s.Create(t.Context(), key, []byte("of "+key)); err != nil {
			t.Fatal(err)
		}
	}
}

func wantBody(t *testing.T, s Store, key, want string) (tag string) {
	t.Helper()
	body, tag, err := s.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if string(body) != want {
		t.Fatalf("%s holds %q, want %q", key, body, want)
	}
	return tag
}

func wantError(t *testing.T, err, want error, words ...string) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("error %q does not name %q", err, word)
		}
	}
}

func TestWhatIsCreatedIsThereForAll(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		_, _, err := b.Get(t.Context(), "main/main/feed/000000000001")
		wantError(t, err, ErrNotFound, "main/main/feed/000000000001", b.String())
		create(t, a, "main/main/feed/000000000001")
		wantBody(t, b, "main/main/feed/000000000001", "of main/main/feed/000000000001")
		if err := a.Create(t.Context(), "empty", nil); err != nil {
			t.Fatal(err)
		}
		wantBody(t, b, "empty", "")
	})
}

func TestWhatExistsIsNotCreatedAgain(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		create(t, a, "k")
		wantError(t, b.Create(t.Context(), "k", []byte("other")), ErrExists, "k")
		wantBody(t, a, "k", "of k")
	})
}

func TestOfManyCreatorsOneWins(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		winners := race(t, 16, func(i int) error {
			return []Store{a, b}[i%2].Create(t.Context(), "k", fmt.Append(nil, i))
		}, ErrExists)
		wantBody(t, a, "k", fmt.Sprint(winners[0]))
	})
}

func TestOfManyReplacementsOneWins(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		tag := ""
		for round := range 4 { // the first one is about who creates it
			winners := race(t, 8, func(i int) error {
				_, err := []Store{a, b}[i%2].Replace(t.Context(), "k", fmt.Append(nil, round, "by", i), tag)
				return err
			}, ErrConflict)
			tag = wantBody(t, a, "k", fmt.Sprint(round, "by", winners[0]))
		}
	})
}

// race runs n calls at once, of which exactly one may succeed, and the others must fail in the way wanted.
func race(t *testing.T, n int, call func(i int) error, want error) (winners []int) {
	t.Helper()
	errs := make([]error, n)
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() { errs[i] = call(i) })
	}
	wait.Wait()
	for i, err := range errs {
		if err == nil {
			winners = append(winners, i)
		} else if !errors.Is(err, want) {
			t.Fatal(err)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("%d of %d won", len(winners), n)
	}
	return winners
}

func TestReplaceGoesByTheTag(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		_, err := a.Replace(t.Context(), "k", []byte("1"), "0123456789abcdef0123456789abcdef")
		wantError(t, err, ErrConflict, "k")
		first, err := a.Replace(t.Context(), "k", []byte("1"), "")
		if err != nil {
			t.Fatal(err)
		}
		if got := wantBody(t, b, "k", "1"); got != first {
			t.Fatalf("the tag read is %s, that returned %s", got, first)
		}
		second, err := b.Replace(t.Context(), "k", []byte("2"), first)
		if err != nil {
			t.Fatal(err)
		}
		for _, stale := range []string{first, ""} {
			_, err = a.Replace(t.Context(), "k", []byte("3"), stale)
			wantError(t, err, ErrConflict, "k")
		}
		wantBody(t, a, "k", "2")
		if err := b.Delete(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		_, err = a.Replace(t.Context(), "k", []byte("3"), second)
		wantError(t, err, ErrConflict)
	})
}

func TestDeletedIsGone(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		create(t, a, "a/b", "a/c")
		for range 2 { // the second time there is nothing to delete
			if err := b.Delete(t.Context(), "a/b"); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := a.Get(t.Context(), "a/b")
		wantError(t, err, ErrNotFound)
		wantBody(t, a, "a/c", "of a/c")
		create(t, b, "a/b")
	})
}

func TestLargeObjectsAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, _ Store) {
		if err := a.Create(t.Context(), "fits", make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := a.Get(t.Context(), "fits"); err != nil {
			t.Fatal(err)
		}
		if err := a.Create(t.Context(), "large", make([]byte, 1<<20+1)); err != nil {
			t.Fatal(err)
		}
		_, _, err := a.Get(t.Context(), "large")
		wantError(t, err, ErrTooLarge, "large")
	})
}

func TestListIsInOrder(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		// Folders sort by what their keys look like: a-b/… before a/…, and a.b/… between.
		all := []string{"a-b/x", "a.b", "a/0/x", "a/1", "a/1-/x", "a/10/y", "a/10/z", "a/2", "a0", "ab/c/d/e/f", "ab/c/d/g", "b"}
		create(t, a, all...)
		for _, test := range []struct {
			prefix, after string
			limit         int
			want          []string
		}{
			{"", "", 100, all},
			{"", "", 3, all[:3]},
			{"", "a/10/y", 3, all[6:9]},
			{"", "a/1x", 100, all[7:]},
			{"", "b", 100, nil},
			{"a/", "", 100, all[2:8]},
			{"a/1", "", 100, all[3:7]},
			{"a/1", "a/1", 2, all[4:6]},
			{"a/10/", "a/10/y", 9, all[6:7]},
			{"ab/c", "ab/c/d/e", 9, all[9:11]},
			{"a", "", 100, all[:11]},
			{"c", "", 100, nil},
			{"a/nothing/here", "", 100, nil},
		} {
			got, err := b.List(t.Context(), test.prefix, test.after, test.limit)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" && len(got)+len(test.want) > 0 {
				t.Errorf("List(%q, %q, %d): %s", test.prefix, test.after, test.limit, diff)
			}
		}
	})
}

func TestListGoesOnWhereItEnded(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, _ Store) {
		var all []string
		for i := range 40 {
			all = append(all, fmt.Sprintf("main/main/feed/%012d", 1+i*i))
		}
		create(t, a, all...)
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page, err := a.List(t.Context(), "main/main/feed/", after, 7)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			got = append(got, page...)
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Error(diff)
		}
	})
}

func TestForeignKeysAreRefused(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, _ Store) {
		for _, key := range []string{"", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "a/..", ".", "a/./b", "a\\b", "a b",
			"ä", "a\x00", "~tmp", "~tmp/a", "a?b", "a#b", "a%2f..", strings.Repeat("a", 513)} {
			_, _, get := a.Get(t.Context(), key)
			_, replace := a.Replace(t.Context(), key, nil, "")
			for verb, err := range map[string]error{"get": get, "replace": replace,
				"create": a.Create(t.Context(), key, nil), "delete": a.Delete(t.Context(), key)} {
				if err == nil || errors.Is(err, ErrNotFound) {
					t.Errorf("%s %q: error is %v", verb, key, err)
				}
			}
		}
		for _, prefix := range []string{"/", "../", "a//", "~tmp/"} {
			if _, err := a.List(t.Context(), prefix, "", 1); err == nil {
				t.Errorf("list %q: no error", prefix)
			}
		}
	})
}

func TestProvenStoreIsLeftClean(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, b Store) {
		if err := Prove(t.Context(), a); err != nil {
			t.Fatal(err)
		}
		if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) > 0 {
			t.Errorf("left behind: %v, %v", keys, err)
		}
	})
}

func TestEndedContextEndsCalls(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, a, _ Store) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		wantError(t, a.Create(ctx, "k", nil), context.Canceled)
	})
}
