package store

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

// drawing is a chain drawn block by block. A block's name is its branch and its height: a7's parent is a6 unless it is
// drawn elsewhere.
type drawing struct {
	t     testing.TB
	s     *Store
	clock *time.Time
}

func drawings(t *testing.T, test func(t *testing.T, d *drawing)) {
	t.Helper()
	bothDialects(t, func(t *testing.T, dsn string) {
		now := time.Unix(1e9, 0)
		d := &drawing{t: t, clock: &now}
		d.s = running(t, opened(t, Options{DSN: dsn, Now: func() time.Time { return *d.clock }}))
		test(t, d)
	})
}

// add stores a block.
func (d *drawing) add(n uint64, hash, parent string) {
	d.t.Helper()
	got := offerAll(d.t, d.s, blockOffer("drawer", n, hash, parent))
	if got[0].Outcome != schema.First {
		d.t.Fatalf("add %s: %v", hash, got[0])
	}
}

// grow stores the blocks of a branch from one height to another; the first one's parent is given.
func (d *drawing) grow(branch string, from, to uint64, parent string) {
	d.t.Helper()
	var offers []*schema.Offer
	for n := from; n <= to; n++ {
		hash := fmt.Sprint(branch, n)
		offers = append(offers, blockOffer("drawer", n, hash, parent))
		parent = hash
	}
	if got := offerAll(d.t, d.s, offers...); count(got, schema.First) != len(offers) {
		d.t.Fatalf("grow %s from %d to %d: %v", branch, from, to, got)
	}
}

// see lets an observer report a head.
func (d *drawing) see(observer string, n uint64, hash string) {
	d.t.Helper()
	see(d.t, d.s, observer, n, hash)
}

func see(t testing.TB, s *Store, observer string, n uint64, hash string) {
	t.Helper()
	report(t, s, observer, schema.Head{Latest: schema.Point{Number: n, Hash: named(hash)}})
}

func report(t testing.TB, s *Store, observer string, h schema.Head, gaps ...schema.Gap) {
	t.Helper()
	h.Chain, h.Node = testChain, "geth"
	if err := s.Report(t.Context(), observer, schema.Report{Heads: []schema.Head{h}, Gaps: gaps}); err != nil {
		t.Fatal(err)
	}
}

func spot(n uint64, hash string) *schema.Point { return &schema.Point{Number: n, Hash: named(hash)} }

// final lets an observer report a head, a safe and a finalized block.
func (d *drawing) final(observer string, head, safe, finalized *schema.Point) {
	d.t.Helper()
	report(d.t, d.s, observer, schema.Head{Latest: *head, Safe: safe, Finalized: finalized})
}

func (d *drawing) later(by time.Duration) { *d.clock = d.clock.Add(by) }

func (d *drawing) want(on, off string) {
	d.t.Helper()
	wantChain(d.t, d.s, on, off)
}

// wantChain compares the blocks on the branch, then those off it, each by height. A word may carry its status: safe!,
// finalized!! and orphaned!.
func wantChain(t testing.TB, s *Store, on, off string) {
	t.Helper()
	var rows []recordRow
	if err := s.db.Where("chain = ?", testChain).Order("number, id").Find(&rows).Error; err != nil {
		t.Fatal(err)
	}
	var gotOn, gotOff []string
	for _, r := range rows {
		name := strings.TrimSuffix(strings.TrimPrefix(string(r.Payload), "<p>"), "</p>")
		switch schema.Status(*r.Status) {
		case schema.StatusCanonical:
			gotOn = append(gotOn, name)
		case schema.StatusSafe:
			gotOn = append(gotOn, name+"!")
		case schema.StatusFinalized:
			gotOn = append(gotOn, name+"!!")
		case schema.StatusNonCanonical:
			gotOff = append(gotOff, name)
		case schema.StatusOrphaned:
			gotOff = append(gotOff, name+"!")
		}
	}
	want := []string{on, off}
	if diff := cmp.Diff(want, []string{strings.Join(gotOn, " "), strings.Join(gotOff, " ")}); diff != "" {
		t.Errorf("branch and siblings (-want +got):\n%s", diff)
	}
	checkInvariants(t, s, rows)
}

// checkInvariants holds what must be true of any chain at any time: root to head is one unbroken branch, and replaying
// the feed gives the statuses that the rows have.
func checkInvariants(t testing.TB, s *Store, rows []recordRow) {
	t.Helper()
	c, err := readChain(s.db, testChain)
	if err != nil {
		t.Fatal(err)
	}
	if c == nil {
		return
	}
	byKey, on := map[string]recordRow{}, 0
	for _, r := range rows {
		byKey[r.Key] = r
		if schema.Status(*r.Status).OnBranch() && *r.Number >= c.RootNumber {
			on++
		}
	}
	n := 0
	for key := c.HeadKey; ; key = *byKey[key].Parent {
		r, ok := byKey[key]
		if !ok || !schema.Status(*r.Status).OnBranch() {
			t.Fatalf("branch is broken at %s after %d blocks", key, n)
		}
		n++
		if key == c.RootKey {
			break
		}
	}
	if n != on {
		t.Errorf("%d blocks from root to head, %d have a status of the branch", n, on)
	}
	replayed := map[string]string{}
	var feed []feedRow
	if err := s.db.Order("seq").Find(&feed).Error; err != nil {
		t.Fatal(err)
	}
	for i, e := range feed {
		if e.Seq != uint64(i)+1 {
			t.Fatalf("feed row %d has seq %d", i+1, e.Seq)
		}
		switch schema.FeedKind(e.Kind) {
		case schema.FeedBlock:
			replayed[*e.Key] = *e.Status
		case schema.FeedStatus:
			if replayed[*e.Key] != *e.Was {
				t.Errorf("seq %d says %s was %s, the feed said %s", e.Seq, *e.Key, *e.Was, replayed[*e.Key])
			}
			replayed[*e.Key] = *e.Status
		}
	}
	for _, r := range rows {
		if replayed[r.Key] != *r.Status {
			t.Errorf("%s is %s, its feed ends at %s", r.Payload, *r.Status, replayed[r.Key])
		}
	}
}

// events is the feed's status changes, gaps and alarms from a seq on, one word each.
func (d *drawing) events(after int) string {
	d.t.Helper()
	var feed []feedRow
	if err := d.s.db.Where("seq > ?", after).Order("seq").Find(&feed).Error; err != nil {
		d.t.Fatal(err)
	}
	var words []string
	for _, e := range feed {
		switch schema.FeedKind(e.Kind) {
		case schema.FeedStatus:
			words = append(words, fmt.Sprintf("%d:%s>%s", *e.Number, *e.Was, *e.Status))
		case schema.FeedGap:
			words = append(words, fmt.Sprintf("gap:%d-%d", *e.Number, *e.ToNumber))
		case schema.FeedAlarm:
			words = append(words, "alarm:"+*e.Note)
		}
	}
	return strings.Join(words, " ")
}

func (d *drawing) seq() int { return d.s.countRows(d.t, "feed") }

func (d *drawing) halted() string {
	d.t.Helper()
	c, err := readChain(d.s.db, testChain)
	if err != nil || c == nil {
		d.t.Fatal(c, err)
	}
	if c.Halted == nil {
		return ""
	}
	return *c.Halted
}

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

func TestSafeAndFinalizedAdvanceByMajority(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 6, "a0")
		d.add(3, "b3", "a2")
		head := spot(6, "a6")
		d.final("alice", head, spot(4, "a4"), spot(3, "a3"))
		d.want("a1!! a2!! a3!! a4! a5 a6", "b3!")
		d.final("bob", head, nil, nil)
		d.final("alice", head, spot(6, "a6"), spot(5, "a5"))
		d.want("a1!! a2!! a3!! a4! a5 a6", "b3!") // one of two is no majority
		d.final("bob", head, spot(5, "a5"), spot(4, "a4"))
		d.want("a1!! a2!! a3!! a4!! a5! a6", "b3!")
		d.add(2, "c2", "a1") // a rival that comes too late
		d.add(5, "b5", "a4")
		d.want("a1!! a2!! a3!! a4!! a5! a6", "c2! b3! b5")
	})
}

func TestFinalityOfBlocksNotStoredYetWaits(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 3, "a0")
		d.final("alice", spot(9, "a9"), spot(8, "a8"), spot(7, "a7"))
		d.want("a1 a2 a3", "")
		d.grow("a", 4, 9, "a3")
		d.final("alice", spot(9, "a9"), spot(8, "a8"), spot(7, "a7"))
		d.want("a1!! a2!! a3!! a4!! a5!! a6!! a7!! a8! a9", "")
	})
}

func TestASafeBlockMayStillBeReplaced(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 4, "a0")
		d.final("alice", spot(4, "a4"), spot(3, "a3"), spot(1, "a1"))
		d.want("a1!! a2! a3! a4", "")
		d.grow("b", 3, 5, "a2")
		d.see("alice", 5, "b5")
		d.want("a1!! a2! b3 b4 b5", "a3 a4")
		d.final("alice", spot(5, "b5"), spot(4, "b4"), spot(1, "a1"))
		d.want("a1!! a2! b3! b4! b5", "a3 a4")
	})
}

func TestABranchBelowAFinalizedBlockHaltsTheChain(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 5, "a0")
		d.final("alice", spot(5, "a5"), nil, spot(4, "a4"))
		d.grow("b", 4, 7, "a3")
		seq := d.seq()
		d.see("alice", 7, "b7")
		if d.halted() == "" {
			t.Fatal("not halted")
		}
		if got := d.events(seq); !strings.HasPrefix(got, "alarm:a branch contradicts a finalized block: 7 ") {
			t.Errorf("feed %s", got)
		}
		d.want("a1!! a2!! a3!! a4!! a5", "b4! b5 b6 b7")
		seq = d.seq()
		d.add(6, "a6", "a5") // frozen: stored, not placed
		d.final("alice", spot(6, "a6"), spot(6, "a6"), spot(6, "a6"))
		d.want("a1!! a2!! a3!! a4!! a5", "b4! b5 b6 a6 b7")
		if got := d.events(seq); got != "" {
			t.Errorf("feed of a halted chain %s", got)
		}
	})
}

func TestAnotherBlockFinalizedHaltsTheChain(t *testing.T) {
	t.Parallel()
	drawings(t, func(t *testing.T, d *drawing) {
		d.grow("a", 1, 5, "a0")
		for _, o := range []string{"alice", "bob", "carol"} {
			d.final(o, spot(5, "a5"), nil, spot(4, "a4"))
		}
		d.final("alice", spot(5, "a5"), nil, spot(4, "z4"))
		if d.halted() != "" {
			t.Fatal("halted by one of three")
		}
		d.final("bob", spot(5, "a5"), nil, spot(3, "z3"))
		if !strings.Contains(d.halted(), "another block finalized") {
			t.Errorf("halted: %q", d.halted())
		}
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
		want := []schema.Position{{Chain: testChain, Point: *spot(3, "a3")}}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Error(err, diff)
		}
	})
}
