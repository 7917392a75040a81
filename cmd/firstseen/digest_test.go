package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDigestMakesNoDatabase(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mistyped.db")
	for _, db := range []string{"sqlite:" + path, "sqlite://" + path, "memory"} {
		if _, errs, code := firstseen(t, nil, "digest", "--db", db); code != exitUsage || !strings.Contains(errs, "--db") {
			t.Errorf("%s: exit code %d, %s", db, code, errs)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a database was made: %v", err)
	}
}

func TestDigestSaysThatAChainIsNotStored(t *testing.T) {
	t.Parallel()
	db := "sqlite:" + filepath.Join(t.TempDir(), "empty.db")
	if _, errs, code := firstseen(t, nil, "migrate", "--db", db); code != exitOK {
		t.Fatalf("exit code %d, %s", code, errs)
	}
	if _, errs, code := firstseen(t, nil, "digest", "--db", db, "--chain", "5"); code != exitMissing || !strings.Contains(errs, "chain 5") {
		t.Errorf("exit code %d, %s", code, errs)
	}
}
