package objects

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/gofrs/flock"
)

func newFolder(t *testing.T) (Store, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "objects")
	return open(t, root, Options{Writer: true, Timeout: 50 * time.Millisecond}), root
}

func put(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHalfWrittenFilesAreNoObjects(t *testing.T) {
	t.Parallel()
	s, root := newFolder(t)
	create(t, s, "a/b")
	put(t, filepath.Join(root, temporary, "HALF"))
	put(t, filepath.Join(root, "a", "b~"))
	keys, err := s.List(t.Context(), "", "", 10)
	if err != nil || len(keys) != 1 || keys[0] != "a/b" {
		t.Fatalf("listed %v, %v", keys, err)
	}
	if left, err := os.ReadDir(filepath.Join(root, temporary)); err != nil || len(left) != 1 {
		t.Fatalf("creating left temporary files behind: %v, %v", left, err)
	}
}

func TestOldTemporaryFilesAreSweptByWriters(t *testing.T) {
	t.Parallel()
	_, root := newFolder(t)
	old, young := filepath.Join(root, temporary, "OLD"), filepath.Join(root, temporary, "YOUNG")
	put(t, old)
	put(t, young)
	at := time.Now().Add(-2 * staleAfter)
	if err := os.Chtimes(old, at, at); err != nil {
		t.Fatal(err)
	}
	open(t, root, Options{})
	if _, err := os.Stat(old); err != nil {
		t.Fatalf("a reader swept: %v", err)
	}
	open(t, root, Options{Writer: true})
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the old file is still there: %v", err)
	}
	if _, err := os.Stat(young); err != nil {
		t.Errorf("the young file, which somebody may be writing, is gone: %v", err)
	}
}

func TestMissingFolderIsNoMissingObject(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "unmounted")
	s := open(t, root, Options{})
	_, _, err := s.Get(t.Context(), "k")
	wantError(t, err, fs.ErrNotExist, root)
	if errors.Is(err, ErrNotFound) {
		t.Errorf("a reader would wait for ever: %v", err)
	}
	if _, err = s.List(t.Context(), "", "", 1); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("list: error is %v", err)
	}
}

func TestHeldLockEndsInAnError(t *testing.T) {
	t.Parallel()
	s, root := newFolder(t)
	tag, err := s.Replace(t.Context(), "k", []byte("1"), "")
	if err != nil {
		t.Fatal(err)
	}
	lock := flock.New(filepath.Join(root, lockFile))
	if held, err := lock.TryLock(); err != nil || !held {
		t.Fatal(held, err)
	}
	_, err = s.Replace(t.Context(), "k", []byte("2"), tag)
	wantError(t, err, context.DeadlineExceeded, "lock")
	wantBody(t, s, "k", "1") // reading needs no lock
	create(t, s, "other")    // nor does creating
	if err := lock.Unlock(); err != nil {
		t.Fatal(err)
	}
	if _, err = s.Replace(t.Context(), "k", []byte("2"), tag); err != nil {
		t.Fatal(err)
	}
}
