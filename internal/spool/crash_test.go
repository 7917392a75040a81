package spool

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// In the environment of a process that is to be killed: the spool, and whether nothing in it is ever settled.
const (
	childPath  = "FIRSTSEEN_TEST_SPOOL_CHILD"
	childKeeps = "FIRSTSEEN_TEST_SPOOL_KEEPS"
)

// beKilled appends and settles until it dies. It says "A n" once block n is durable, "K n" before it settles n.
func beKilled() {
	o := Options{Retry: 3 * time.Millisecond, MaxEntries: 50}
	if os.Getenv(childKeeps) != "" {
		o.MaxEntries = 1e6
	}
	s, err := Open(os.Getenv(childPath), o)
	if err != nil {
		fmt.Println("E", err)
		os.Exit(1)
	}
	var next uint64 = 1
	if done := s.Progress().Finished; len(done) > 0 {
		next = done[len(done)-1].Number + 1
	}
	for {
		var batch []Block
		for range 1 + rand.IntN(20) {
			batch = append(batch, block(next+uint64(len(batch)), rand.IntN(20_000)))
		}
		n, err := s.Append(batch)
		if next += uint64(n); n > 0 {
			fmt.Println("A", next-1)
		}
		if os.Getenv(childKeeps) != "" {
			continue
		}
		if e, ok := s.After(0); ok && (err != nil || rand.IntN(2) == 0) {
			upto := e.Seq + uint64(rand.IntN(30))
			if upto = min(upto, next-1); rand.IntN(4) == 0 {
				fmt.Println("K", e.Seq)
				s.Fail("no")
				continue
			}
			fmt.Println("K", upto)
			s.Ack(upto)
		}
	}
}

// TestKilledAtAnyMoment kills a process that uses a spool, again and again. What it said was durable is there, in order
// and whole, and the progress agrees with it.
func TestKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	rounds := 25
	if testing.Short() {
		rounds = 5
	}
	var appended, settled uint64
	for round := range rounds {
		a, k := killOne(t, path, time.Duration(5+rand.IntN(60))*time.Millisecond)
		appended, settled = max(appended, a), max(settled, k)
		log, book := logTo(t)
		s, err := Open(path, Options{Log: log})
		if err != nil {
			t.Fatal(err)
		}
		if s.Counts().SetAside {
			t.Fatal("damaged: ", book.String())
		}
		last := settled
		if done := s.Progress().Finished; len(done) > 0 {
			last = done[len(done)-1].Number
		}
		if last < appended {
			t.Fatalf("round %d: %d was durable, progress is at %d", round, appended, last)
		}
		whole(t, s, settled, last)
		s.Close()
	}
	t.Logf("%d rounds, %d blocks, %d settled", rounds, appended, settled)
	if appended < uint64(rounds) {
		t.Errorf("only %d blocks in %d rounds", appended, rounds)
	}
}

// whole checks that every block above settled up to last waits.
func whole(t *testing.T, s *Spool, settled, last uint64) {
	t.Helper()
	want := settled + 1
	for e, ok := s.After(0); ok; e, ok = s.After(e.Seq) {
		if e.Point != point(e.Seq) || !slices.Equal(e.Frame, frame(e.Seq, len(e.Frame))) {
			t.Fatalf("entry %d is not what was appended", e.Seq)
		}
		if e.Seq <= settled {
			continue // its end was lost: it is delivered twice
		}
		if e.Seq != want {
			t.Fatalf("entry %d where %d belongs", e.Seq, want)
		}
		want++
	}
	if want != max(last, settled)+1 {
		t.Fatalf("entries end before %d, progress is at %d", want, last)
	}
}

// killOne runs a child for a while, kills it and returns the last it said.
func killOne(t *testing.T, path string, after time.Duration) (appended, settled uint64) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var timer *time.Timer
	defer func() {
		if timer != nil {
			timer.Stop()
		}
	}()
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if timer == nil { // it has begun
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		word, n, _ := strings.Cut(lines.Text(), " ")
		var number uint64
		_, _ = fmt.Sscan(n, &number) // a line that was cut off names nothing
		switch word {
		case "A":
			appended = number
		case "K":
			settled = number
		case "E":
			t.Error(lines.Text())
		}
	}
	_ = cmd.Wait() // it was killed
	return appended, settled
}

// filled makes a spool file with entries, letters and progress in it, and returns its bytes up to the last page in use.
func filled(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{})
	if err := s.Begin(7, Start{Floor: 1}, nil); err != nil {
		t.Fatal(err)
	}
	for n := uint64(1); n <= 200; n += 10 {
		var batch []Block
		for i := range uint64(10) {
			batch = append(batch, block(n+i, int(n*37%3000)))
		}
		put(t, s, batch...)
		s.Ack(n / 2)
		if n%50 == 1 {
			s.Fail("no")
		}
	}
	s.Close()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := openBolt(f)
	if err != nil {
		t.Fatal(err)
	}
	size := int64(b.pages) * b.pageSize
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return whole[:size]
}

// reopened opens a spool with this content. It either is whole, or was put aside and is empty; never in between.
func reopened(t *testing.T, content []byte, what string) (aside bool) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	log, book := logTo(t)
	s, err := Open(path, Options{Log: log})
	if errors.Is(err, errForeign) {
		return true
	}
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer s.Close()
	n, _, _ := s.Depth()
	aside = s.Counts().SetAside
	if aside {
		if kept, err := os.ReadFile(path + ".corrupt"); err != nil || !slices.Equal(kept, content) {
			t.Errorf("%s: not kept: %v", what, err)
		}
		if !strings.Contains(book.String(), "level=error") || n != 0 || len(s.Progress().Finished) != 0 {
			t.Errorf("%s: %d entries, log %q", what, n, book.String())
		}
	}
	put(t, s, block(1000, 100))
	for e, ok := s.After(0); ok; e, ok = s.After(e.Seq) {
		if !slices.Equal(e.Frame, frame(e.Point.Number, len(e.Frame))) {
			t.Errorf("%s: entry %d is not what was appended", what, e.Seq)
		}
		n--
	}
	if n != -1 {
		t.Errorf("%s: %d entries missing", what, n+1)
	}
	return aside
}

func TestTruncatedAtEveryPage(t *testing.T) {
	t.Parallel()
	content := filled(t)
	page := os.Getpagesize()
	if reopened(t, content, "whole") {
		t.Error("a whole file was put aside")
	}
	for size := page; size < len(content); size += page {
		if !reopened(t, content[:size], fmt.Sprint(size, " bytes")) {
			t.Errorf("%d of %d bytes passed for whole", size, len(content))
		}
	}
	for _, size := range []int{1, 100, page - 1, page + 1, len(content) - 1} {
		if !reopened(t, content[:size], fmt.Sprint(size, " bytes")) {
			t.Errorf("%d of %d bytes passed for whole", size, len(content))
		}
	}
	if reopened(t, nil, "empty") || !reopened(t, make([]byte, len(content)), "zeros") {
		t.Error("an empty file is a new spool, zeros are none")
	}
}

// A page of zeros is what a power failure leaves.
func TestTornAnywhere(t *testing.T) {
	t.Parallel()
	content := filled(t)
	page := os.Getpagesize()
	var aside int
	for at := 0; at < len(content); at += page {
		torn := slices.Clone(content)
		clear(torn[at : at+page])
		if reopened(t, torn, fmt.Sprint("torn at ", at)) {
			aside++
		}
	}
	t.Logf("%d of %d found out; the others hit free space or one of the two roots", aside, len(content)/page)
	if aside == 0 {
		t.Error("no damage was found")
	}
}
