package spool

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestFlushThatFails has every few flushes of a process fail, and reads from its system calls that it never calls a
// block durable while bytes of the spool are not flushed. What it called durable is there after it was killed, and it
// goes on once flushes succeed.
func TestFlushThatFails(t *testing.T) {
	t.Parallel()
	strace, err := exec.LookPath("strace")
	if err == nil {
		err = exec.Command(strace, "-qq", "-o", os.DevNull, "true").Run()
	}
	if err != nil {
		t.Skip("needs strace, and the right to trace: ", err)
	}
	// To take in blocks again costs five flushes in a row.
	for _, when := range []string{"5", "6", "7+13", "8+17", "9+22"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			path, calls := filepath.Join(dir, "spool"), filepath.Join(dir, "calls")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, strace, "-f", "-qq", "-o", calls, "-s", "32",
				"-e", "trace=pwrite64,write,fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO:when="+when, os.Args[0])
			cmd.Env = append(os.Environ(), childPath+"="+path, childKeeps+"=1")
			said := sayAtLeast(t, cmd, 400)
			failures := neverBeforeFlushed(t, calls)
			if failures == 0 {
				t.Error("no flush failed")
			}
			log, book := logTo(t)
			s, err := Open(path, Options{Log: log})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if s.Counts().SetAside {
				t.Fatal("damaged: ", book.String())
			}
			points := s.Progress().Finished
			if last := points[len(points)-1].Number; last < said {
				t.Errorf("%d was durable, progress is at %d", said, last)
			}
			have := map[uint64]bool{}
			for _, n := range heights(s) {
				have[n] = true
			}
			for n := uint64(1); n <= said; n++ {
				if !have[n] {
					t.Fatalf("block %d of %d is lost", n, said)
				}
			}
			t.Logf("%d blocks, %d flushes failed", said, failures)
		})
	}
}

// sayAtLeast runs a child until it called so many blocks durable, and kills it. It returns the last.
func sayAtLeast(t *testing.T, cmd *exec.Cmd, blocks uint64) (said uint64) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if _, err := fmt.Sscanf(lines.Text(), "A %d", &said); err != nil {
			t.Error(lines.Text())
		}
		if said >= blocks {
			_ = cmd.Process.Kill() // the end of the pipe ends the child
			break
		}
	}
	_ = cmd.Wait() // it was killed
	return said
}

var result = regexp.MustCompile(`= (-?\d+)`)

// neverBeforeFlushed reads a record of system calls, and counts the flushes that failed.
func neverBeforeFlushed(t *testing.T, calls string) (failures int) {
	t.Helper()
	record, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	dirty := false
	for line := range strings.Lines(string(record)) {
		switch {
		case strings.Contains(line, "pwrite64("):
			dirty = true
		case strings.Contains(line, `write(1, "A `):
			if dirty {
				t.Errorf("said before it was flushed: %s", line)
			}
		case strings.Contains(line, "sync") && result.MatchString(line):
			if dirty = result.FindStringSubmatch(line)[1] != "0"; dirty {
				failures++
			}
		}
	}
	return failures
}
