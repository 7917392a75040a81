package spool

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/schema"
)

func TestMain(m *testing.M) {
	if os.Getenv(childPath) != "" {
		beKilled()
	}
	goleak.VerifyTestMain(m)
}

// point makes up the block at a height.
func point(n uint64) schema.Point {
	p := schema.Point{Number: n}
	binary.BigEndian.PutUint64(p.Hash[:], n*7919)
	return p
}

// frame makes up the frame of a height, size bytes that name it.
func frame(n uint64, size int) []byte {
	f := make([]byte, max(size, 8))
	for i := range f {
		f[i] = byte(n)
	}
	binary.BigEndian.PutUint64(f, n)
	return f
}

func block(n uint64, size int) Block { return Block{Point: point(n), Frame: frame(n, size)} }

func logTo(t testing.TB) (*logrus.Logger, *strings.Builder) {
	var book strings.Builder
	log := logrus.New()
	log.SetOutput(io.MultiWriter(&book, t.Output()))
	return log, &book
}

func open(t testing.TB, path string, o Options) *Spool {
	t.Helper()
	if o.Log == nil {
		o.Log, _ = logTo(t)
	}
	s, err := Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func put(t testing.TB, s *Spool, blocks ...Block) {
	t.Helper()
	if n, err := s.Append(blocks); err != nil || n != len(blocks) {
		t.Fatalf("took %d of %d: %v", n, len(blocks), err)
	}
}

// heights reads what waits.
func heights(s *Spool) []uint64 {
	var out []uint64
	for e, ok := s.After(0); ok; e, ok = s.After(e.Seq) {
		out = append(out, e.Point.Number)
	}
	return out
}

func TestEntriesAndProgressOutliveTheProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{Kind: "relay"})
	known := point(9)
	start := Start{Floor: 3, Known: &known}
	left := schema.Gap{Chain: 7, From: 1, To: 2, Reason: "too long ago"}
	if err := s.Begin(7, start, nil, left); err != nil {
		t.Fatal(err)
	}
	put(t, s, block(10, 100), block(11, 100_000))
	poison := schema.Gap{Chain: 7, From: 12, To: 12, Reason: "cannot be rendered"}
	put(t, s, Block{Point: point(12), Gap: &poison}, block(13, 0))
	e, _ := s.After(0)
	s.Ack(e.Seq)
	s.Fail("header")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append([]Block{block(14, 1)}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}

	s = open(t, path, Options{Kind: "relay"})
	if got := heights(s); !slices.Equal(got, []uint64{13}) {
		t.Errorf("%v wait", got)
	}
	want := Progress{Chain: 7, Start: start, Finished: []schema.Point{point(10), point(11), point(12), point(13)},
		Gaps: []schema.Gap{left, poison}}
	if diff := cmp.Diff(want, s.Progress()); diff != "" {
		t.Error(diff)
	}
	letters := s.Letters()
	if len(letters) != 1 || letters[0].Reason != "header" || letters[0].Point != point(11) || letters[0].Size != 100_000 {
		t.Errorf("%+v", letters)
	}
	put(t, s, block(14, 1))
	if e, _ := s.After(3); e.Seq != 4 || !slices.Equal(e.Frame, frame(14, 1)) {
		t.Errorf("%+v", e)
	}
	if err := s.Begin(8, Start{}, nil); err == nil || !strings.Contains(err.Error(), "belongs to chain 7") {
		t.Error(err)
	}
}

func TestFullRefusesAndSignalsRoom(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "spool"), Options{MaxEntries: 4, MaxBytes: 1000})
	put(t, s, block(1, 5000)) // empty: any size
	if n, err := s.Append([]Block{block(2, 8)}); n != 0 || !errors.Is(err, ErrFull) || s.Ready() != nil {
		t.Error(n, err, s.Ready())
	}
	s.Ack(1)
	<-s.Room()
	batch := []Block{block(2, 8), block(3, 8), block(4, 8), block(5, 8), block(6, 8)}
	if n, err := s.Append(batch); n != 4 || !errors.Is(err, ErrFull) {
		t.Error("by entries", n, err)
	}
	if s.Free() != 0 {
		t.Error("free", s.Free())
	}
	s.Ack(2)
	<-s.Room()
	if n, err := s.Append([]Block{block(6, 990)}); n != 0 || !errors.Is(err, ErrFull) {
		t.Error("by bytes", n, err)
	}
	if got := s.Progress(); got.Chain != 0 {
		t.Errorf("%+v", got)
	}
	if n, bytes, oldest := s.Depth(); n != 3 || bytes != 24 || time.Since(oldest) > time.Minute {
		t.Error(n, bytes, oldest)
	}
}

func TestOnlyTheLastBlocksAreRemembered(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{})
	for n := uint64(0); n < 3*Window; n += 100 {
		var batch []Block
		for i := range uint64(100) {
			batch = append(batch, Block{Point: point(n + i)})
		}
		put(t, s, batch...)
	}
	s.Close()
	s = open(t, path, Options{})
	got := s.Progress().Finished
	if len(got) != Window || got[Window-1] != point(1599) || got[0] != point(1600-Window) {
		t.Errorf("%d, from %v to %v", len(got), got[0], got[len(got)-1])
	}
}

func TestDeadLettersAndGapsAreBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{})
	for n := range uint64(maxLetters + 10) {
		put(t, s, Block{Point: point(n), Frame: frame(n, 10), Gap: &schema.Gap{Chain: 7, From: 2 * n, To: 2 * n}})
		s.Fail(strings.Repeat("x", 5000))
	}
	s.Close()
	c, err := Inspect(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Letters) != maxLetters || c.Letters[0].Seq != 11 || c.Dropped != 10 || len(c.Letters[0].Reason) != maxReason {
		t.Errorf("%d letters from %d, %d dropped", len(c.Letters), c.Letters[0].Seq, c.Dropped)
	}
	if g := c.Progress.Gaps; len(g) != maxGaps || g[0].From != 0 || g[maxGaps-1].To != 2*(maxLetters+9) {
		t.Errorf("%d gaps: %+v", len(g), g[0])
	}
}

func TestOneProcessAtATime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{})
	for _, err := range []error{second(Open(path, Options{})), second(Inspect(path))} {
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
			t.Error(err)
		}
	}
	s.Close()
	open(t, path, Options{})
}

// What is read in the middle of being written looks damaged, and is not.
func TestNothingIsCalledDamagedThatIsInUse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	if err := os.WriteFile(path, make([]byte, 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(path); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	held, err := lock(path)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if _, err := Inspect(path); !errors.Is(err, ErrInUse) || errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestFramesOfAnotherKindAreNotMixed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{Kind: "relay"})
	put(t, s, block(1, 1))
	s.Close()
	if _, err := Open(path, Options{Kind: "bare"}); err == nil || !strings.Contains(err.Error(), "1 blocks wait in it as relay") {
		t.Error(err)
	}
	s = open(t, path, Options{Kind: "relay"})
	s.Ack(1)
	s.Close()
	open(t, path, Options{Kind: "bare"})
}

func TestFileOfSomethingElseIsNotTouched(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "notes.txt")
	text := []byte(strings.Repeat("dear diary\n", 2000))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{second(Open(path, Options{})), second(Inspect(path))} {
		if !errors.Is(err, errForeign) {
			t.Error(err)
		}
	}
	if got, _ := os.ReadFile(path); !slices.Equal(got, text) {
		t.Error("it was")
	}
}

func TestRetriedLettersWaitAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{})
	put(t, s, block(1, 10), block(2, 20), block(3, 30))
	s.Fail("no")
	s.Fail("no")
	s.Close()
	s = open(t, path, Options{})
	if n, err := s.Retry([]uint64{2, 9}); n != 1 || err != nil {
		t.Error(n, err)
	}
	if got := heights(s); !slices.Equal(got, []uint64{3, 2}) || len(s.Letters()) != 1 {
		t.Errorf("%v wait, %v are dead", got, s.Letters())
	}
	put(t, s, block(4, 10))
	s.Close()
	s = open(t, path, Options{})
	if got := heights(s); !slices.Equal(got, []uint64{3, 2, 4}) || s.Counts().SetAside {
		t.Errorf("%v wait", got)
	}
}

func TestRemovedByHandIsAGap(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	s := open(t, path, Options{})
	put(t, s, block(1, 1), block(2, 1), block(3, 1))
	s.Fail("no")
	s.Close()
	s = open(t, path, Options{})
	if entries, letters, err := s.Remove([]uint64{1, 2, 99}); entries != 1 || letters != 1 || err != nil {
		t.Error(entries, letters, err)
	}
	if got := heights(s); !slices.Equal(got, []uint64{3}) || len(s.Letters()) != 0 {
		t.Errorf("%v wait", got)
	}
	if g := s.Progress().Gaps; len(g) != 1 || g[0].From != 2 || g[0].To != 2 {
		t.Errorf("%+v", g)
	}
	put(t, s, block(4, 1))
	s.Ack(3)
	if got := heights(s); !slices.Equal(got, []uint64{4}) {
		t.Errorf("%v wait", got)
	}
	if err := s.ForgetGaps(); err != nil || len(s.Progress().Gaps) != 0 {
		t.Error(err)
	}
}
