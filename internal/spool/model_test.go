package spool

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// model is what a spool should hold.
type model struct {
	s       *Spool
	o       Options
	path    string
	waiting []Entry
	bytes   int
	letters int
	next    uint64
	done    []uint64 // heights finished
}

// TestAgainstAModel does things in random order, closing and crashing included, and holds the spool against a model.
func TestAgainstAModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "spool")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		m := &model{path: filepath.Join(dir, "spool"), next: 1, o: Options{MaxEntries: 20, MaxBytes: 3000, Retry: time.Hour}}
		m.reopen(t)
		defer func() { m.s.Close() }()
		t.Repeat(map[string]func(*rapid.T){
			"append": m.append,
			"ack":    m.ack,
			"fail":   m.fail,
			"reopen": func(t *rapid.T) { m.s.Close(); m.reopen(t) },
			"ail":    func(*rapid.T) { m.s.ail(&work{}, errors.New("injected")); m.s.heal() },
			"":       m.check,
		})
	})
}

func (m *model) reopen(t *rapid.T) {
	s, err := Open(m.path, m.o)
	if err != nil {
		t.Fatal(err)
	}
	m.s = s
}

func (m *model) append(t *rapid.T) {
	sizes := rapid.SliceOfN(rapid.IntRange(-1, 900), 1, 8).Draw(t, "sizes")
	var batch []Block
	want := len(sizes)
	n, bytes := len(m.waiting), m.bytes
	for i, size := range sizes {
		b := Block{Point: point(uint64(len(m.done) + i))}
		if size >= 0 {
			b.Frame = frame(b.Point.Number, size)
			if fits := n == 0 || n < m.o.MaxEntries && int64(bytes+len(b.Frame)) <= m.o.MaxBytes; !fits && want == len(sizes) {
				want = i
			}
			n++
			bytes += len(b.Frame)
		}
		batch = append(batch, b)
	}
	got, err := m.s.Append(batch)
	if got != want || (err == nil) != (got == len(batch)) {
		t.Fatalf("took %d of %d, want %d: %v", got, len(batch), want, err)
	}
	for _, b := range batch[:got] {
		m.done = append(m.done, b.Point.Number)
		if b.Frame != nil {
			m.waiting = append(m.waiting, Entry{Seq: m.next, Point: b.Point, Frame: b.Frame})
			m.bytes += len(b.Frame)
			m.next++
		}
	}
}

func (m *model) ack(t *rapid.T) {
	if len(m.waiting) == 0 {
		m.s.Ack(m.next)
		return
	}
	n := rapid.IntRange(0, len(m.waiting)).Draw(t, "acked")
	m.s.Ack(m.waiting[0].Seq + uint64(n) - 1)
	for range n {
		m.pop()
	}
}

func (m *model) fail(*rapid.T) {
	m.s.Fail("no")
	if len(m.waiting) > 0 {
		m.pop()
		m.letters++
	}
}

func (m *model) pop() {
	m.bytes -= len(m.waiting[0].Frame)
	m.waiting = m.waiting[1:]
}

func (m *model) check(t *rapid.T) {
	var got []Entry
	for e, ok := m.s.After(0); ok; e, ok = m.s.After(e.Seq) {
		got = append(got, Entry{Seq: e.Seq, Point: e.Point, Frame: e.Frame})
	}
	if !slices.EqualFunc(got, m.waiting, func(a, b Entry) bool {
		return a.Seq == b.Seq && a.Point == b.Point && slices.Equal(a.Frame, b.Frame)
	}) {
		t.Fatalf("waits %v, want %v", got, m.waiting)
	}
	if n, bytes, _ := m.s.Depth(); n != len(m.waiting) || int(bytes) != m.bytes {
		t.Fatalf("%d entries of %d bytes, want %d of %d", n, bytes, len(m.waiting), m.bytes)
	}
	if err := m.s.Ready(); err != nil {
		t.Fatal(err)
	}
}
