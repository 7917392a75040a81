package spool

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a file system of so many bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	if runtime.GOOS != "linux" {
		t.Skip("needs Linux, to mount a tmpfs of a fixed size")
	}
	if err := syscall.Mount("spool-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skip("needs the right to mount a tmpfs of a fixed size: ", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

func TestDiskFullStopsAndHeals(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, "1m")
	log, book := logTo(t)
	path := filepath.Join(dir, "spool")
	s := open(t, path, Options{Log: log, Retry: 5 * time.Millisecond})
	put(t, s, block(1, 1000), block(2, 1000))
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 700<<10), 0o600); !errors.Is(err, syscall.ENOSPC) && err != nil {
		t.Fatal(err)
	}
	var next uint64 = 3
	for range 1000 {
		n, err := s.Append([]Block{block(next, 4000)})
		next += uint64(n)
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			break
		}
	}
	if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "no space left") || !strings.Contains(err.Error(), path) {
		t.Error("ready: ", err)
	}
	if got := heights(s); len(got) != int(next-1) {
		t.Errorf("%d can be read, want %d", len(got), next-1)
	}
	if s.Free() != 0 {
		t.Error("free", s.Free())
	}
	s.Ack(1)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	<-s.Room()
	if err := s.Ready(); err != nil || !strings.Contains(book.String(), "can be written again") {
		t.Error(err)
	}
	put(t, s, block(next, 4000))
	s.Close()
	s = open(t, path, Options{})
	if got := heights(s); len(got) != int(next-1) || got[0] != 2 || !slices.IsSorted(got) {
		t.Errorf("%v", got)
	}
}

func TestFileThatVanishesDoesNotComeBackEmpty(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{Retry: time.Millisecond})
	put(t, s, block(1, 10))
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	s.ail(&work{}, errors.New("injected"))
	if n, err := s.Append([]Block{block(2, 10)}); n != 0 || !errors.Is(err, ErrFull) || s.Ready() == nil {
		t.Error(n, err, s.Ready())
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	<-s.Room()
	put(t, s, block(2, 10))
	if got := heights(s); !slices.Equal(got, []uint64{1, 2}) {
		t.Error(got)
	}
}
