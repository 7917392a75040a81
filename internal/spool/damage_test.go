package spool

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// picture is all that a spool tells, as text.
func picture(s *Spool) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%+v\n%+v\n", s.Progress(), s.Letters())
	for e, ok := s.After(0); ok; e, ok = s.After(e.Seq) {
		fmt.Fprintf(&b, "%d %+v %x\n", e.Seq, e.Point, e.Frame)
	}
	return b.String()
}

// pictureOf opens a spool with this content. It is empty for one that was put aside, or that was refused with a word.
func pictureOf(t *testing.T, dir string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, "spool")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if errors.Is(err, errForeign) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.Counts().SetAside {
		return ""
	}
	return picture(s)
}

// allowed are the pictures that a damaged file may give: what was there, what was there one transaction before, which
// is what the older of the two roots leads to, and nothing.
func allowed(t *testing.T, content []byte) []string {
	t.Helper()
	dir := t.TempDir()
	page := os.Getpagesize()
	all := []string{"", pictureOf(t, dir, content)}
	for i := range 2 {
		older := slices.Clone(content)
		clear(older[i*page : i*page+page])
		all = append(all, pictureOf(t, dir, older))
	}
	if all[1] == "" || all[2] == "" && all[3] == "" {
		t.Fatal("a file without damage was put aside")
	}
	return all
}

// TestFlippedBits flips bits anywhere, and more often where bbolt's own structure is. The spool is what it was, or is put
// aside; never a crash, and never a mixture.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	content := filled(t)
	good := allowed(t, content)
	page := os.Getpagesize()
	rounds := 250
	if os.Getenv("FIRSTSEEN_ACCEPT") != "" {
		rounds = 5000
	}
	dir := t.TempDir()
	var aside int
	for round := range rounds {
		flipped := slices.Clone(content)
		var where []int
		for range 1 + rand.IntN(3) {
			at := rand.IntN(len(content))
			if round%4 != 0 { // a page's head and its first elements
				at = at/page*page + rand.IntN(160)
			}
			flipped[at] ^= 1 << rand.IntN(8)
			where = append(where, at)
		}
		got := pictureOf(t, dir, flipped)
		if got == "" {
			aside++
		}
		if !slices.Contains(good, got) {
			t.Fatalf("bits flipped in bytes %d: neither what was there nor put aside: %.200s", where, got)
		}
	}
	t.Logf("%d of %d put aside or refused; the others hit free space or the older root", aside, rounds)
}

// A number of a page that leads to an older one, whole in itself, is what checksums of records alone do not find.
func TestOlderPagesAreFoundOut(t *testing.T) {
	t.Parallel()
	content := filled(t)
	good := allowed(t, content)
	dir := t.TempDir()
	f, err := os.CreateTemp(dir, "whole")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(content); err != nil {
		t.Fatal(err)
	}
	b, err := openBolt(f)
	if err != nil {
		t.Fatal(err)
	}
	root := make([]byte, b.pageSize)
	if err := b.read(root, b.root); err != nil {
		t.Fatal(err)
	}
	_, list, err := elements(root)
	if err != nil {
		t.Fatal(err)
	}
	var tried int
	for _, e := range list {
		at := int64(b.root)*b.pageSize + int64(bytes.Index(root, e.value))
		for other := uint64(2); other < b.pages && order.Uint64(e.value) != 0; other++ {
			swapped := slices.Clone(content)
			order.PutUint64(swapped[at:], other)
			if got := pictureOf(t, dir, swapped); !slices.Contains(good, got) {
				t.Errorf("bucket %s at page %d instead of %d: %.200s", e.key, other, order.Uint64(e.value), got)
			}
			tried++
		}
	}
	if tried == 0 {
		t.Error("nothing was tried")
	}
}

// TestPowerLost writes what a disk may hold when the power fails within a transaction: any of its pages, of which none
// counts before the root does. What was durable before is there.
func TestPowerLost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "live")
	s := open(t, path, Options{Retry: time.Hour}) // nothing is written but what the test writes
	next := uint64(1)
	read := func() ([]byte, string) {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n, _, _ := s.Depth(); n > 0 && !strings.Contains(pictureOf(t, dir, content), fmt.Sprint(point(next-1))) {
			t.Fatalf("block %d is not in the file", next-1)
		}
		return content, pictureOf(t, dir, content)
	}
	page := os.Getpagesize()
	for range 8 {
		for range 3 { // batches of all sizes
			var batch []Block
			for range 1 + rand.IntN(20) {
				batch = append(batch, block(next, rand.IntN(6000)))
				next++
			}
			put(t, s, batch...)
			if rand.IntN(2) == 0 {
				s.Ack(next / 2)
			}
		}
		before, was := read()
		put(t, s, block(next, rand.IntN(9000)))
		next++
		after, is := read()
		grown := append(slices.Clone(before), make([]byte, max(0, len(after)-len(before)))...)
		lost, wrote := slices.Clone(grown), slices.Clone(after)
		for at := 2 * page; at < len(after); at += page {
			if rand.IntN(2) == 0 {
				copy(lost[at:at+page], after[at:at+page])
			}
		}
		copy(wrote[:2*page], grown[:2*page]) // all but the root
		for _, c := range []struct {
			content []byte
			want    string
		}{{lost, was}, {wrote, was}, {after, is}} {
			if got := pictureOf(t, dir, c.content); got != c.want {
				t.Fatalf("%.300s, want %.300s", got, c.want)
			}
		}
	}
}
