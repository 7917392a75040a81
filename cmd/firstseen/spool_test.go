package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/internal/spool"
	"github.com/firstseen/firstseen/schema"
)

// filledSpool makes a spool with two blocks waiting, a dead letter and a gap.
func filledSpool(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "spool")
	s, err := spool.Open(path, spool.Options{Kind: "relay"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Begin(7, spool.Start{Floor: 10}, nil, schema.Gap{Chain: 7, From: 3, To: 9, Reason: "too long ago"}); err != nil {
		t.Fatal(err)
	}
	var blocks []spool.Block
	for n := range uint64(3) {
		blocks = append(blocks, spool.Block{Point: schema.Point{Number: 10 + n, Hash: schema.Hash{byte(n)}}, Frame: []byte("frame")})
	}
	if _, err := s.Append(blocks); err != nil {
		t.Fatal(err)
	}
	s.Fail("header: \x1b[31mno")
	return path
}

func listed(t *testing.T, path string) spoolListing {
	t.Helper()
	out, errs, code := firstseen(t, nil, "spool", "ls", "--spool", path, "--output", "json")
	var l spoolListing
	if err := json.Unmarshal([]byte(out), &l); code != exitOK || err != nil {
		t.Fatal(code, errs, err)
	}
	return l
}

func TestSpoolIsListed(t *testing.T) {
	t.Parallel()
	path := filledSpool(t)
	l := listed(t, path)
	if *l.Chain != 7 || l.Finished.Number != 12 || len(l.Waiting) != 2 || len(l.Letters) != 1 || len(l.Gaps) != 1 ||
		l.Letters[0].Seq != 1 || l.Waiting[0].Bytes != 5 {
		t.Errorf("%+v", l)
	}
	out, _, code := firstseen(t, []string{"FIRSTSEEN_CLIENT__SPOOL=" + path}, "spool", "ls")
	for _, want := range []string{"chain                7\n", "left out             3 to 9: too long ago", "dead ", "waiting  11 "} {
		if code != exitOK || !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Error("a server's words reach the terminal as they are")
	}
}

func TestDeadLettersAreListedAndRetried(t *testing.T) {
	t.Parallel()
	path := filledSpool(t)
	out, _, code := firstseen(t, nil, "spool", "ls", "--failed", "--spool", path)
	if code != exitOK || !strings.Contains(out, "dead ") || strings.Contains(out, "waiting  11 ") || !strings.Contains(out, "waiting              2\n") {
		t.Error(code, out)
	}
	if out, errs, code := firstseen(t, nil, "spool", "retry", "--spool", path, "--letters"); code != exitOK ||
		out != "1 dead letters wait again\n" {
		t.Error(code, out, errs)
	}
	if l := listed(t, path); len(l.Waiting) != 3 || len(l.Letters) != 0 || l.Waiting[2].Block.Number != 10 || l.Waiting[2].Bytes != 5 {
		t.Errorf("%+v", l)
	}
}

func TestSpoolEntriesAreRemoved(t *testing.T) {
	t.Parallel()
	path := filledSpool(t)
	if out, errs, code := firstseen(t, nil, "spool", "rm", "--spool", path, "2", "--letters", "--gaps"); code != exitOK ||
		out != "removed 1 that waited, 1 dead letters\n" {
		t.Error(code, out, errs)
	}
	if l := listed(t, path); len(l.Waiting) != 1 || len(l.Letters) != 0 || len(l.Gaps) != 1 || l.Gaps[0].From != 11 {
		t.Errorf("%+v", l)
	}
}

func TestSpoolThatCannotBeLookedIntoIsOneLineWithTheFix(t *testing.T) {
	t.Parallel()
	path := filledSpool(t)
	s, err := spool.Open(path, spool.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for want, args := range map[string][]string{
		path + ": in use by another process: stop the observer": {"ls", "--spool", path},
		"stop the observer that runs with it first":             {"rm", "--spool", path, "1"},
		"no such file (the path is set by --spool)":             {"ls", "--spool", path + ".gone"},
		"which spool? Give --spool PATH":                        {"ls"},
		"use table or json":                                     {"ls", "--spool", path, "--output", "xml"},
		"what to remove?":                                       {"rm", "--spool", path},
		"what to retry?":                                        {"retry", "--spool", path},
		`"x" is not a number`:                                   {"rm", "--spool", path, "x"},
	} {
		out, errs, code := firstseen(t, nil, append([]string{"spool"}, args...)...)
		if code == exitOK || out != "" || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%v: %d %q, want %q", args, code, errs, want)
		}
	}
}

func TestLongBackfillIsToldOf(t *testing.T) {
	t.Parallel()
	var book bytes.Buffer
	log := logrus.New()
	log.SetOutput(&book)
	at := client.Stats{From: 1000, Head: &schema.Head{Latest: schema.Point{Number: 2999}}}
	b := newBackfill(func() client.Stats { return at }, log)
	now := time.Unix(0, 0)
	for second := range 41 {
		at.Last = 1000 + uint64(second)*50
		b.look(now.Add(time.Duration(second) * time.Second))
	}
	for text, want := range map[string]int{"backfill begins": 1, "backfill goes on": 3, "backfill is done": 1, "blocks_per_second=50": 3} {
		if got := strings.Count(book.String(), text); got != want {
			t.Errorf("%d times %q, want %d:\n%s", got, text, want, book.String())
		}
	}
}

func TestBackfillBarAndLogDoNotMix(t *testing.T) {
	t.Parallel()
	var screen bytes.Buffer
	log := logrus.New()
	at := client.Stats{From: 1, Last: 500, Head: &schema.Head{Latest: schema.Point{Number: 2000}}}
	b := newBackfill(func() client.Stats { return at }, log)
	b.out = &screen
	log.SetOutput(b)
	now := time.Unix(0, 0)
	b.look(now)
	at.Last = 1000
	b.look(now.Add(time.Second))
	if !strings.Contains(screen.String(), "500/1500") {
		t.Errorf("%q", screen.String())
	}
	screen.Reset()
	log.Info("between")
	if before, _, ok := strings.Cut(screen.String(), "level=info"); !ok || !strings.Contains(before, "\r") {
		t.Errorf("%q", screen.String())
	}
}
