package client

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// spooled runs a client with a spool.
func spooled(t *testing.T, d *drawing, s *fakeServer, path string, change func(*Options)) *running {
	t.Helper()
	return start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, func(o *Options) {
		o.Spool, o.Drain = path, 50*time.Millisecond
		if change != nil {
			change(o)
		}
	})
}

func TestSpoolGoesOnExactlyAfterTheLastFinishedBlock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(3, "a3")
	c := spooled(t, d, s, path, nil)
	s.wants(names("a", 4, 10)...)
	c.at(d, "a10")
	c.end()
	d.line("a", 11, 50, "a10")
	s.has(0, "a0") // an older copy of the database: what was finished is known better here
	c = spooled(t, d, s, path, nil)
	s.wants(names("a", 4, 50)...)
	c.at(d, "a50")
	c.end()
	d.line("b", 48, 52, "a47") // a branch grows meanwhile
	c = spooled(t, d, s, path, nil)
	s.wants(append(names("a", 4, 50), names("b", 48, 52)...)...)
	if st := c.Stats(); st.From != 51 || st.Reorgs != 1 || st.DeepestReorg != 3 || len(st.Gaps) != 0 {
		t.Errorf("%+v", st)
	}
}

func TestSpoolDeliversWhatAnEarlierProcessLeft(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	d := draw(t).line("a", 0, 40, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.scripted(func(_ *peer, frame []byte) bool { return frame[0] == 'D' }) // taken, never acked
	c := spooled(t, d, s, path, nil)
	wait(t, "all in the spool", func() bool { return c.Stats().Waiting == 40 })
	c.end()
	if !c.log.has("kept in the spool") {
		t.Error("not said at the end")
	}
	s.scripted(nil)
	dead := "http://127.0.0.1:1"
	c = start(t, []string{dead}, []string{s.addr()}, func(o *Options) { o.Spool = path }) // no node is needed for it
	s.wants(names("a", 1, 40)...)
	wait(t, "acks", func() bool { return c.Stats().Waiting == 0 })
}

func TestDamagedSpoolGoesOnFromTheServersPosition(t *testing.T) {
	t.Parallel()
	for _, over := range []bool{false, true} { // to start over is for the first start
		path := filepath.Join(t.TempDir(), "spool")
		d := draw(t).line("a", 0, 10, "")
		s := serveRelay(t, d)
		c := spooled(t, d, s, path, nil)
		s.wants("a10")
		c.at(d, "a10")
		c.end()
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content[:os.Getpagesize()*3], 0o600); err != nil {
			t.Fatal(err)
		}
		s.has(10, "a10")
		d.line("a", 11, 30, "a10")
		c = spooled(t, d, s, path, func(o *Options) { o.StartOver = over })
		s.wants(names("a", 10, 30)...)
		if !c.log.has("spool is damaged") {
			t.Error("not said")
		}
	}
}

// What waits goes bad on the disk while it is in use. It is put aside and read from the chain again, with no restart.
func TestSpoolDamagedInUseIsReplaced(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	d := draw(t).line("a", 0, 20, "")
	s := serveRelay(t, d)
	s.has(10, "a10")
	s.scripted(func(p *peer, frame []byte) bool { return wire.Type(frame) == wire.TypeData }) // never acks
	c := spooled(t, d, s, path, nil)
	wait(t, "blocks that wait", func() bool { return c.Stats().Sent == 10 })
	damage(t, path)
	s.scripted(func(p *peer, frame []byte) bool { return p.index == 0 && p.drop(nil) })
	d.line("a", 21, 30, "a20") // the first frame of these ends the connection
	c.at(d, "a30")
	wait(t, "acks", func() bool { return c.Stats().First >= 20 })
	if err := c.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if !c.log.has("put aside") || len(c.Stats().Gaps) != 0 {
		t.Errorf("%+v", c.Stats().Gaps)
	}
}

// damage turns a byte of every block that waits in a spool.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	for at := range content {
		if bytes.HasPrefix(content[at:], []byte("block 0x")) {
			if _, err := f.WriteAt([]byte{'X'}, int64(at)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A server that has nothing yet cannot say where to go on after damage, and the tip, where it began, is elsewhere by then.
func TestSpoolDamagedInUseLosesNothingWhereNoServerKnowsBetter(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(s *fakeServer, o *Options){
		"the server has nothing": func(*fakeServer, *Options) {},
		"told to start over":     func(s *fakeServer, o *Options) { s.has(10, "a10"); o.StartOver = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "spool")
			d := draw(t).line("a", 0, 20, "")
			s := serveRelay(t, d)
			s.scripted(func(p *peer, frame []byte) bool { return wire.Type(frame) == wire.TypeData }) // never acks
			c := spooled(t, d, s, path, func(o *Options) { change(s, o) })
			wait(t, "a beginning at the tip", func() bool { return c.Stats().Waiting == 1 })
			d.line("a", 21, 25, "a20")
			wait(t, "blocks that wait", func() bool { return c.Stats().Sent == 6 })
			damage(t, path)
			s.scripted(func(p *peer, frame []byte) bool { return p.index == 0 && p.drop(nil) })
			d.line("a", 26, 30, "a25")
			c.at(d, "a30")
			wait(t, "acks", func() bool { return c.Stats().Waiting == 0 && c.Stats().First > 0 })
			got := s.blocks()
			for _, want := range names("a", 20, 30) {
				if !slices.Contains(got, want) {
					t.Errorf("%s is not delivered: %v", want, got)
				}
			}
		})
	}
}

func TestLeftOutBlocksAreToldAgainByTheNextProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(9, "a9")
	c := spooled(t, d, s, path, func(o *Options) {
		o.Template = plain{fail: func(b schema.Block) error { return errors.New("no") }}
	})
	wait(t, "gap", func() bool { return c.Stats().LeftOut == 1 })
	c.end()
	later := serveRelay(t, d)
	c = spooled(t, d, later, path, nil)
	wait(t, "gap in the report", func() bool { return len(later.lastReport().Gaps) == 1 })
	if g := later.lastReport().Gaps[0]; g.From != 10 || g.To != 10 || c.Stats().Degraded() == "" {
		t.Errorf("%+v", g)
	}
	if len(later.blocks()) != 0 {
		t.Error(later.blocks())
	}
}

func TestRefusedBlocksOutliveTheProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.scripted(func(p *peer, frame []byte) bool {
		if frame[0] == 'D' {
			p.note(frame)
			p.refuse("header", "no")
		}
		return frame[0] == 'D'
	})
	c := spooled(t, d, s, path, nil)
	wait(t, "letter", func() bool { return len(c.Stats().DeadLetters) == 1 })
	c.end()
	c = spooled(t, d, s, path, nil)
	if l := c.Stats().DeadLetters; len(l) != 1 || l[0].Block.Number != 10 || !strings.HasPrefix(l[0].Reason, "header") {
		t.Errorf("%+v", l)
	}
}

func TestFullSpoolStopsReadingAndLosesNothing(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 200, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	hold := make(chan struct{})
	s.scripted(func(_ *peer, frame []byte) bool {
		if frame[0] == 'D' {
			<-hold
		}
		return false
	})
	c := spooled(t, d, s, filepath.Join(t.TempDir(), "spool"), func(o *Options) { o.OutboxEntries = 20 })
	wait(t, "full spool", func() bool { return c.Stats().OutboxFull > 0 })
	if n := c.Stats().Waiting; n > 20 {
		t.Errorf("%d wait, at most 20", n)
	}
	close(hold)
	s.wants(names("a", 1, 200)...)
}

func TestStart(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		at    string
		over  bool
		has   bool // a20 is stored
		first string
	}{
		"by default at the tip":         {first: "a30"},
		"at the tip":                    {at: StartTip, first: "a30"},
		"at a height":                   {at: "12", first: "a12"},
		"at the earliest block":         {at: StartEarliest, first: "a0"},
		"after what is stored":          {at: "12", has: true, first: "a21"},
		"below what is stored, if told": {at: "12", over: true, has: true, first: "a12"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 30, "")
			s := serveRelay(t, d)
			if tc.has {
				s.has(20, "a20")
			}
			c := spooled(t, d, s, filepath.Join(t.TempDir(), "spool"), func(o *Options) { o.Start, o.StartOver = tc.at, tc.over })
			c.at(d, "a30")
			want := names("a", 0, 30)
			want = want[slices.Index(want, tc.first):]
			s.wants(want...)
		})
	}
}

func TestSpoolOfSomethingElseIsRefused(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "spool")
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	c := spooled(t, d, s, path, nil)
	c.at(d, "a10")
	o := c.o
	o.Registerer = nil
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), path+": in use by another process") {
		t.Error(err)
	}
	c.end()
	o.Chain = 8
	if _, err := New(o); err == nil || !strings.Contains(err.Error(), "belongs to chain 7, not 8") {
		t.Error(err)
	}
}
