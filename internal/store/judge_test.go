package store

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func TestOneObserverSwitchesAtOnce(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 5, "a0")
		d.see("alice", 5, "a5")
		d.grow("b", 4, 6, "a3")
		d.want("a1 a2 a3 a4 a5", "b4 b5 b6")
		seq := d.seq()
		d.see("alice", 6, "b6")
		d.want("a1 a2 a3 b4 b5 b6", "a4 a5")
		want := "5:canonical>non_canonical 4:canonical>non_canonical " +
			"4:non_canonical>canonical 5:non_canonical>canonical 6:non_canonical>canonical"
		if got := d.events(seq); got != want {
			t.Errorf("feed %s", got)
		}
		d.add(7, "b7", "b6")
		d.want("a1 a2 a3 b4 b5 b6 b7", "a4 a5")
	})
}

func TestTwoObserversSwitchTogetherInTwoReports(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		d.see("alice", 3, "a3")
		d.see("bob", 3, "a3")
		d.grow("b", 3, 4, "a2")
		d.see("alice", 4, "b4")
		d.see("alice", 4, "b4")
		d.want("a1 a2 a3", "b3 b4") // a tie keeps the branch
		d.see("bob", 3, "b3")
		d.want("a1 a2 a3", "b3 b4") // bob saw it once
		d.see("bob", 4, "b4")
		d.want("a1 a2 b3 b4", "a3") // bob has seen b3 twice, and b4 extends it
	})
}

func TestThreeObserversMajorityWins(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		for _, o := range []string{"alice", "bob", "carol"} {
			d.see(o, 3, "a3")
		}
		d.add(3, "b3", "a2")
		d.add(3, "c3", "a2")
		for range 3 {
			d.see("alice", 3, "b3")
			d.see("bob", 3, "c3")
		}
		d.want("a1 a2 a3", "b3 c3") // nobody has two
		d.see("carol", 3, "c3")
		d.see("carol", 3, "c3")
		d.want("a1 a2 c3", "a3 b3")
	})
}

func TestObserversOnOneBranchAgreeOnWhatTheyShare(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 4, "a0")
		for _, o := range []string{"alice", "bob", "carol"} {
			d.see(o, 4, "a4")
		}
		d.grow("b", 3, 5, "a2")
		d.grow("c", 5, 6, "b4") // alice and bob part above b4
		for range 2 {
			d.see("alice", 5, "b5")
			d.see("bob", 6, "c6")
		}
		d.want("a1 a2 b3 b4", "a3 a4 b5 c5 c6")
	})
}

func TestALaggingObserverFlapsNothing(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 20, "a0")
		d.grow("s", 6, 8, "a5") // a stale branch that the lagging node is stuck on
		d.see("alice", 20, "a20")
		seq := d.seq()
		for range 3 {
			d.see("lagging", 10, "a10")
			d.see("stale", 8, "s8")
			d.see("alice", 20, "a20")
		}
		d.later(30 * time.Second) // alice falls silent for a moment
		d.see("stale", 8, "s8")
		d.see("alice", 20, "a20")
		d.see("lagging", 10, "a10")
		if got := d.events(seq); got != "" {
			t.Errorf("feed %s", got)
		}
	})
}

func TestSilentObserversDoNotVote(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		d.see("alice", 3, "a3")
		d.see("bob", 3, "a3")
		d.add(3, "b3", "a2")
		d.see("alice", 3, "b3")
		d.see("alice", 3, "b3")
		d.want("a1 a2 a3", "b3")
		d.later(26 * time.Second)
		d.see("alice", 3, "b3")
		d.want("a1 a2 a3", "b3") // bob may be back in a moment
		d.see("alice", 3, "b3")
		d.want("a1 a2 b3", "a3")
	})
}

func TestAHeadThatIsNotStoredCannotWin(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		d.see("alice", 5, "b5")
		d.see("alice", 5, "b5")
		d.grow("b", 4, 5, "b3") // b3 is missing
		d.see("alice", 5, "b5")
		d.want("a1 a2 a3", "b4 b5")
		d.add(3, "b3", "a2")
		d.see("alice", 5, "b5")
		d.want("a1 a2 b3 b4 b5", "a3")
	})
}

func TestBlocksThatCameBeforeTheirParentAreAdopted(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 2, "a0")
		d.grow("a", 4, 900, "a3")
		d.see("alice", 900, "a900")
		d.add(3, "a3", "a2")
		d.see("alice", 900, "a900")
		d.later(time.Second)
		d.see("alice", 900, "a900")
		c, err := readChain(d.s.db, testChain)
		if err != nil || c.HeadNumber != 900 {
			t.Errorf("head at %+v: %v", c, err)
		}
	})
}

func TestAGapIsAdopted(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		d.see("alice", 3, "a3")
		d.grow("a", 8, 9, "a7")
		d.see("alice", 9, "a9")
		d.want("a1 a2 a3", "a8 a9")
		seq := d.seq()
		gap := schema.Gap{Chain: testChain, From: 5, To: 7, Reason: "pruned"}
		report(t, d.s, "alice", schema.Head{Latest: *spot(9, "a9")}, gap)
		d.want("a1 a2 a3", "a8 a9") // 4 may still come
		gap.From, gap.To = 4, 4
		report(t, d.s, "alice", schema.Head{Latest: *spot(9, "a9")}, gap)
		d.want("a1 a2 a3 a8 a9", "")
		if got, want := d.events(seq), "gap:4-7 8:non_canonical>canonical 9:non_canonical>canonical"; got != want {
			t.Errorf("feed %s", got)
		}
		// Another observer had them after all.
		d.grow("a", 4, 7, "a3")
		d.see("alice", 9, "a9")
		d.want("a1 a2 a3 a4 a5 a6 a7 a8 a9", "")
		if c, _ := readChain(d.s.db, testChain); c.RootNumber != 1 {
			t.Errorf("root at %d", c.RootNumber)
		}
	})
}

func TestLateBackfillLowersTheRoot(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 700, 701, "a699")
		d.grow("a", 1, 699, "a0")
		d.add(650, "b650", "a649")
		d.see("alice", 701, "a701")
		c, err := readChain(d.s.db, testChain)
		if err != nil || c.RootNumber != 1 || c.HeadNumber != 701 {
			t.Errorf("chain %+v: %v", c, err)
		}
		var off int64
		d.s.db.Model(&recordRow{}).Where("status = ?", schema.StatusNonCanonical).Count(&off)
		if off != 1 {
			t.Errorf("%d blocks off the branch, want b650 alone", off)
		}
	})
}

func TestABranchMayReplaceTheRoot(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.add(10, "a10", "a9")
		d.grow("b", 10, 11, "a9")
		d.see("alice", 11, "b11")
		d.want("b10 b11", "a10")
	})
}

func TestAReorgDeeperThanTheBoundHaltsTheChain(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 200, "a0")
		d.grow("b", 72, 201, "a71")
		d.see("alice", 201, "b201")
		if !strings.Contains(d.halted(), "deeper than 128") {
			t.Errorf("halted: %q", d.halted())
		}
	})
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 200, "a0")
		d.grow("b", 73, 201, "a72") // 128 blocks: just within it
		d.see("alice", 201, "b201")
		c, err := readChain(d.s.db, testChain)
		if err != nil || c.Halted != nil || c.HeadNumber != 201 {
			t.Errorf("chain %+v: %v", c, err)
		}
	})
}

func TestAForgedHeightIsNoLink(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 2, "a0")
		d.add(900, "x900", "a2")
		d.see("liar", 900, "x900")
		d.want("a1 a2", "x900")
		d.add(3, "a3", "a2")
		d.want("a1 a2 a3", "x900")
	})
}

func TestReportsThatTheTablesCannotHoldAreErrors(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		for name, r := range map[string]schema.Report{
			"chain 0":         {Heads: []schema.Head{{}}},
			"height":          {Heads: []schema.Head{{Chain: 1, Latest: schema.Point{Number: 1 << 63}}}},
			"gap backwards":   {Gaps: []schema.Gap{{Chain: 1, From: 2, To: 1}}},
			"gap with a book": {Gaps: []schema.Gap{{Chain: 1, Reason: strings.Repeat("é", 256)}}},
			"gap not UTF-8":   {Gaps: []schema.Gap{{Chain: 1, Reason: "\xff"}}},
		} {
			if err := d.s.Report(t.Context(), "alice", r); err == nil {
				t.Errorf("%s: no error", name)
			}
		}
		reason := strings.Repeat("é", 250) + "\x00'😀"
		if err := d.s.Report(t.Context(), "alice", schema.Report{Gaps: []schema.Gap{{Chain: 1, Reason: reason}}}); err != nil {
			t.Fatal(err)
		}
		var gap gapRow
		if err := d.s.db.Take(&gap).Error; err != nil || gap.Reason != reason {
			t.Errorf("reason came back as %q: %v", gap.Reason, err)
		}
		if err := d.s.Report(t.Context(), "", schema.Report{}); err == nil {
			t.Error("report of nobody: no error")
		}
	})
}

func TestPositionsAreHeadsOfBranches(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		d.add(9, "x9", "x8")
		got, err := d.s.Positions(t.Context(), []uint64{1, testChain})
		want := []schema.Position{{Chain: testChain, Point: *spot(3, "a3"), Back: []schema.Point{*spot(2, "a2"), *spot(1, "a1")}}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
	})
}

func TestServersCompareByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	bothDialects(t, func(t *testing.T, dsn string) {
		s := opened(t, Options{DSN: dsn})
		now, err := s.clock(t.Context())
		if off := time.Since(schema.FromMicros(now)).Abs(); err != nil || off > 10*time.Second {
			t.Errorf("clock is %v off: %v", off, err)
		}
	})
}
