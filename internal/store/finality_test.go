package store

import (
	"strings"
	"testing"
)

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
