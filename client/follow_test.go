package client

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func TestStartsAtTheHeadOfAnEmptyStore(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	s.wants("a10")
	c.at(d, "a10")
	d.line("a", 11, 12, "a10")
	s.wants("a10", "a11", "a12")
	if got := s.origins["a12"]; got != schema.OriginHead {
		t.Errorf("a12 is %q", got)
	}
	if got := s.hellos[0]; got.Observer != "watcher" || !slices.Equal(got.Chains, []uint64{7}) {
		t.Errorf("HELLO %+v", got)
	}
}

func TestFillsSkippedHeights(t *testing.T) {
	t.Parallel()
	for _, skipped := range []int{1, 15, 16, 17, 100} {
		t.Run(itoa(skipped), func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 3, "")
			s := serveRelay(t, d)
			c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
			c.at(d, "a3")
			d.line("a", 4, uint64(4+skipped), "a3")
			s.wants(names("a", 3, 4+skipped)...)
			if s.origins["a4"] != schema.OriginBackfill {
				t.Errorf("a4 is %q, want backfill", s.origins["a4"])
			}
		})
	}
}

func TestReorgSendsExactlyTheBranch(t *testing.T) {
	t.Parallel()
	for depth := 1; depth <= 5; depth++ {
		t.Run(itoa(depth), func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 3, "")
			s := serveRelay(t, d)
			c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
			c.at(d, "a3")
			d.line("a", 4, 10, "a3")
			c.at(d, "a10")
			fork := 10 - depth
			d.line("b", uint64(fork+1), 10, fmt.Sprint("a", fork)) // as high as the old branch: found by hash
			want := append(names("a", 3, 10), names("b", fork+1, 10)...)
			s.wants(want...)
			c.at(d, "b10")
			d.line("a", 11, 11, "a10") // and back again
			s.wants(append(want, "a11")...)
			c.at(d, "a11")
			if got := c.Stats(); got.Reorgs != 1 || got.DeepestReorg != uint64(depth) {
				t.Errorf("%d reorgs, deepest %d; want 1, %d", got.Reorgs, got.DeepestReorg, depth)
			}
		})
	}
}

func TestReorgToALowerHead(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	d.line("a", 4, 8, "a3")
	c.at(d, "a8")
	d.at("a6") // the head goes back on its own branch: nothing to send
	c.at(d, "a6")
	d.line("b", 6, 7, "a5")
	c.at(d, "b7")
	d.line("b", 8, 9, "b7")
	s.wants(append(names("a", 3, 8), "b6", "b7", "b8", "b9")...)
}

func TestReorgWhileFarBehind(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a3")
	d.line("a", 4, 8, "a3")
	c.at(d, "a8")
	d.line("b", 6, 90, "a5")
	s.wants(append(names("a", 3, 8), names("b", 6, 90)...)...)
	c.at(d, "b90")
}

func TestReorgTooDeepHaltsAndSaysSo(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 300, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	s.wants(names("a", 1, 300)...)
	d.line("b", 1, 301, "a0")
	wait(t, "halt", func() bool { return c.Stats().Halted != "" && len(c.Stats().Gaps) > 0 })
	if err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "reorg deeper than 128") {
		t.Errorf("Ready: %v", err)
	}
	gaps := c.Stats().Gaps
	if len(gaps) != 1 || gaps[0].To != 301 || gaps[0].From > 173 || gaps[0].Chain != 7 {
		t.Errorf("gaps %+v", gaps)
	}
	wait(t, "the gap told to the server", func() bool { return len(s.lastReport().Gaps) == 1 })
	if !c.log.has("level=error") {
		t.Error("nothing in the log")
	}
	asked := c.Stats().Nodes[0].Height
	d.line("a", 301, 302, "a300") // the node thinks better of it, but a halt is for an operator to end
	wait(t, "the node looked at again", func() bool { h := c.Stats().Nodes[0].Height; return h != nil && *h > *asked })
	if c.Stats().Halted == "" || c.Stats().Last != 300 {
		t.Errorf("%+v", c.Stats())
	}
}

// A halt is kept by the spool, or found out again from what the server has. It ends by the operator's word only, and
// then nothing is missing if the fork is known.
func TestHaltOutlivesTheProcessUntilItIsResumed(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", filepath.Join(t.TempDir(), "spool")} {
		t.Run("spool="+strconv.FormatBool(path != ""), func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 300, "")
			s := serveRelay(t, d)
			s.has(0, "a0")
			n := serveDrawing(t, d)
			run := func(change func(*Options)) *running {
				return start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) {
					o.Spool = path
					if change != nil {
						change(o)
					}
				})
			}
			c := run(nil)
			s.wants(names("a", 1, 300)...)
			s.has(300, "a300")
			d.line("b", 100, 301, "a99")
			for range 2 {
				wait(t, "halt", func() bool { return c.Stats().Halted != "" && len(c.Stats().Gaps) == 1 })
				if err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "reorg deeper than 128") {
					t.Errorf("Ready: %v", err)
				}
				c.end()
				c = run(nil)
			}
			c.end()
			s.wants(names("a", 1, 300)...)
			c = run(func(o *Options) { o.ResumeHalted = true })
			c.at(d, "b301")
			from := 100
			if path == "" { // the fork lies between two of the server's points
				from = 300 - 256 + 1
			}
			s.wants(slices.Concat(names("a", 1, 300), names("a", from, 99), names("b", 100, 301))...)
			if c.Stats().Halted != "" {
				t.Error(c.Stats().Halted)
			}
			c.end()
			c = run(nil)
			d.line("b", 302, 303, "b301")
			s.has(301, "b301")
			c.at(d, "b303")
		})
	}
}

// Nothing that is known lies on the branch: what cannot be fetched any more is an explicit gap.
func TestResumedBelowAllThatIsKnown(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", filepath.Join(t.TempDir(), "spool")} {
		t.Run("spool="+strconv.FormatBool(path != ""), func(t *testing.T) {
			t.Parallel()
			d := draw(t).line("a", 0, 300, "").line("b", 0, 310, "")
			s := serveRelay(t, d)
			s.has(300, "a300")
			n := serveDrawing(t, d)
			c := start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) { o.Spool = path })
			wait(t, "halt", func() bool { return c.Stats().Halted != "" && len(c.Stats().Gaps) == 1 })
			if g := c.Stats().Gaps[0]; g.From != 300-256 || g.To != 310 {
				t.Errorf("%+v", g)
			}
			c.end()
			c = start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) {
				o.Spool, o.Backfill, o.ResumeHalted = path, 50, true
			})
			c.at(d, "b310")
			s.wants(names("b", 250, 310)...)
			if !slices.ContainsFunc(c.Stats().Gaps, func(g schema.Gap) bool { return g.From == 0 && g.To == 249 }) {
				t.Errorf("%+v", c.Stats().Gaps)
			}
		})
	}
}

func TestReorgOfOneNodeAloneHaltsNothingForGood(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 300, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	stray := draw(t)
	stray.blocks, stray.names = maps.Clone(d.blocks), maps.Clone(d.names)
	c := start(t, []string{serveDrawing(t, stray.at("a300")).URL, serveDrawing(t, d).URL, serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	s.wants(names("a", 1, 300)...)
	stray.line("x", 1, 301, "a0")
	wait(t, "the stray node found out", func() bool { return c.Stats().Nodes[0].State == schema.NodeQuarantined || c.log.has("reorg deeper") })
	d.line("a", 301, 310, "a300")
	s.wants(names("a", 1, 310)...)
	wait(t, "ready", func() bool { return c.Ready(t.Context()) == nil })
	if got := c.Stats(); len(got.Gaps) != 0 {
		t.Errorf("%+v", got.Gaps)
	}
}

func TestGoesOnAfterTheStoredPosition(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 200, "")
	s := serveRelay(t, d)
	s.has(20, "a20")
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	s.wants(names("a", 21, 200)...)
	if len(c.Stats().Gaps) != 0 || c.Stats().Degraded() != "" {
		t.Errorf("%+v", c.Stats())
	}
}

func TestStoredPositionAheadOfTheNode(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 20, "")
	s := serveRelay(t, d)
	s.has(20, "a20")
	d.at("a10")
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a10")
	d.line("a", 21, 22, "a20")
	s.wants("a21", "a22")
}

func TestStoredPositionOnABranchThatWasLeft(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 200, "").line("b", 190, 195, "a189").at("a200")
	s := serveRelay(t, d)
	s.has(195, "b195")
	start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	s.wants(names("a", 195-8+1, 200)...) // the fork is between two of the server's points
}

func TestShallowReorgBelowTheStoredPositionIsNoDeepOne(t *testing.T) {
	t.Parallel()
	for _, since := range []int{1, 10, 100} {
		t.Run(itoa(since), func(t *testing.T) {
			t.Parallel()
			end := 300 + since
			d := draw(t).line("a", 0, uint64(end), "")
			s := serveRelay(t, d)
			s.has(300, "a300")
			c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, nil)
			c.at(d, fmt.Sprint("a", end))
			d.line("b", 298, uint64(end+1), "a297")
			c.at(d, fmt.Sprint("b", end+1))
			s.wants(slices.Concat(names("a", 301, end), names("b", 298, end+1))...)
			if got := c.Stats(); got.Degraded() != "" || len(got.Gaps) != 0 {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestPauseLongerThanTheBackfillIsAGap(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 100, "")
	s := serveRelay(t, d)
	s.has(20, "a20")
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, func(o *Options) { o.Backfill = 30 })
	s.wants(names("a", 71, 100)...)
	want := schema.Gap{Chain: 7, From: 21, To: 70}
	wait(t, "gap in the report", func() bool { return len(s.lastReport().Gaps) == 1 })
	got := s.lastReport().Gaps[0]
	got.Reason = ""
	if got != want || c.Stats().Degraded() == "" {
		t.Errorf("gap %+v, want %+v", got, want)
	}
}

func TestHeadIsReportedWithSafeAndFinalized(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	d.final = "a5"
	s := serveRelay(t, d)
	c := start(t, []string{"alpha=" + serveDrawing(t, d).URL}, []string{s.addr()}, nil)
	c.at(d, "a10")
	wait(t, "report of a10", func() bool {
		r := s.lastReport()
		return len(r.Heads) == 1 && r.Heads[0].Latest.Hash == d.hash("a10")
	})
	h := s.lastReport().Heads[0]
	if h.Node != "alpha" || h.Chain != 7 || h.Finalized == nil || h.Finalized.Hash != d.hash("a5") || h.Safe == nil {
		t.Errorf("head %+v", h)
	}
	if v := s.lastReport().Nodes; len(v) != 1 || v[0].State != schema.NodeReady || *v[0].Height != 10 {
		t.Errorf("nodes %+v", v)
	}
}

func TestOutboxFullStopsReadingAndLosesNothing(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	hold := make(chan struct{})
	s.scripted(func(p *peer, frame []byte) bool {
		if frame[0] == 'D' {
			<-hold
		}
		return false
	})
	n := serveDrawing(t, d)
	c := start(t, []string{n.URL}, []string{s.addr()}, func(o *Options) { o.OutboxEntries = 8 })
	wait(t, "first block", func() bool { return c.Stats().Waiting == 1 })
	d.line("a", 11, 80, "a10")
	wait(t, "full outbox", func() bool { return c.Stats().OutboxFull > 0 })
	if w := c.Stats().Waiting; w > 8 {
		t.Errorf("%d wait, at most 8", w)
	}
	calls := n.called("eth_getBlockByNumber")
	d.line("b", 80, 81, "a79") // must be noticed later
	close(hold)
	wait(t, "head delivered", func() bool { return slices.Contains(s.blocks(), "b81") })
	if n.called("eth_getBlockByNumber") == calls {
		t.Error("the node was not read again")
	}
	got := slices.DeleteFunc(s.blocks(), func(name string) bool { return name == "a80" })
	if want := append(names("a", 10, 79), "b80", "b81"); !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestABlockThatCannotBeRenderedIsAGapAndStopsNothing(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	c := start(t, []string{serveDrawing(t, d).URL}, []string{s.addr()}, func(o *Options) {
		o.Template = plain{fail: func(b schema.Block) error {
			if b.Number == 11 {
				return errors.New("no")
			}
			return nil
		}}
	})
	c.at(d, "a10")
	d.line("a", 11, 12, "a10")
	s.wants("a10", "a12")
	if got := c.Stats(); got.LeftOut != 1 || len(got.Gaps) != 1 || got.Gaps[0].From != 11 || got.Gaps[0].To != 11 {
		t.Errorf("%+v", got)
	}
}

func TestObservationSaysWhatWasSeen(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 4, "").transact("a4", 3)
	s := serveRelay(t, d)
	at := time.Date(2024, 2, 29, 12, 0, 0, 0, time.FixedZone("x", 3600))
	c := start(t, []string{"alpha=" + serveDrawing(t, d).URL}, []string{s.addr()}, func(o *Options) {
		o.Now = func() time.Time { return at }
	})
	c.at(d, "a4")
	o := s.metas["a4"]
	if o.Node != "alpha" || o.Chain != 7 || !o.ObservedAt.Equal(at) || o.ContentType != (plain{}).ContentType() {
		t.Errorf("%+v", o)
	}
	if len(o.Transactions) != 3 || *o.Transactions[2].GasUsed != 21000 || *o.Transactions[2].Status != 1 {
		t.Errorf("transactions %+v", o.Transactions)
	}
}
