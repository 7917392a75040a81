package replica

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

func (f *fleet) switchOptions(role string) SwitchOptions {
	return SwitchOptions{Store: f.replica, Objects: f.objects, Names: Names{"test", role}, Actor: "tester@here"}
}

func (f *fleet) change(role string) *Switch {
	f.t.Helper()
	w, err := PlanSwitch(f.t.Context(), f.switchOptions(role))
	if err != nil || w == nil {
		f.t.Fatal(w, err)
	}
	if err := w.Do(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return w
}

// branchIs wants the replica's branch to be a role's, block for block, with their statuses.
func (f *fleet) branchIs(role string, chain uint64) {
	f.t.Helper()
	var views [2][]string
	for i, s := range []*store.Store{f.writers[role], f.replica} {
		var keys []schema.Key
		err := s.Branch(f.t.Context(), chain, 0, 99999, func(h schema.BranchHeader) error {
			keys = append(keys, h.Key)
			return nil
		})
		if err != nil {
			f.t.Fatal(err)
		}
		for _, key := range keys {
			records, err := s.RecordsByKey(f.t.Context(), key, []uint64{chain})
			if err != nil || len(records) != 1 {
				f.t.Fatal(records, err)
			}
			views[i] = append(views[i], fmt.Sprintf("%d %.6s %s", records[0].Header.Number, key, records[0].Status))
		}
	}
	if !slices.Equal(views[0], views[1]) {
		f.t.Fatalf("branch of chain %d\n%s\nat %s, here\n%s", chain, strings.Join(views[0], "\n"), role, strings.Join(views[1], "\n"))
	}
}

func TestAReplicaGoesOnWithAnotherRoleFromItsHead(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary", "standby")
	blocks := branch(1, "a", 1, 300, "none")
	for _, role := range []string{"primary", "standby"} {
		f.bare(role, "both have this")
		f.offer(role, blocks[:200]...)
	}
	f.see("primary", 1, blocks[199], &blocks[149])
	f.see("standby", 1, blocks[199], &blocks[139]) // the two learn of finality at different moments
	f.ship(sizes{liveRows: 64, bulkRows: 256})
	f.follow("primary")
	f.offer("standby", blocks[200:260]...)
	f.see("standby", 1, blocks[259], &blocks[209])
	f.ship(sizes{liveRows: 64, bulkRows: 256})
	was, err := f.replica.FeedEnd(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w := f.change("standby")
	if len(w.Chains) != 1 || w.Chains[0].Meet == nil || w.Chains[0].Meet.Number != 200 || w.Chains[0].Leaving != 0 {
		t.Fatalf("%+v", w)
	}
	if err := f.follow("standby").Ready(t.Context()); err != nil {
		t.Error(err)
	}
	f.branchIs("standby", 1)
	f.equal("standby", 1, 201)
	if end, err := f.replica.FeedEnd(t.Context()); err != nil || end.Epoch == was.Epoch || end.Was != was.Epoch {
		t.Errorf("%+v, %v", end, err)
	}
	f.offer("standby", blocks[260:]...)
	f.ship(sizes{liveRows: 64, bulkRows: 256})
	f.follow("standby")
	f.branchIs("standby", 1)
	if w, err := PlanSwitch(t.Context(), f.switchOptions("standby")); w != nil || err != nil {
		t.Errorf("to where it is: %+v, %v", w, err)
	}
}

func TestAReplicaGoesBackToMeetAnotherRole(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary", "standby")
	common, other := branch(1, "a", 1, 180, "none"), branch(2, "a", 1, 40, "none")
	for _, role := range []string{"primary", "standby"} {
		f.offer(role, common...)
	}
	// The roles part at 180, and the standby told of the second chain's blocks from the top.
	mine, theirs := branch(1, "b", 181, 200, "1a180"), branch(1, "c", 181, 210, "1a180")
	f.offer("primary", mine...)
	f.offer("primary", other...)
	f.offer("standby", other[39])
	f.offer("standby", other[:39]...)
	f.see("standby", 2, other[39], nil)
	f.offer("standby", theirs...)
	f.see("primary", 1, mine[19], &common[99])
	f.see("standby", 1, theirs[29], &common[79])
	f.ship(sizes{liveRows: 48, bulkRows: 128})
	f.follow("primary")
	f.equal("primary", 1, 0)
	w := f.change("standby")
	if len(w.Chains) != 2 || w.Chains[0].Meet == nil || w.Chains[0].Meet.Number != 72 || w.Chains[0].Leaving != 128 ||
		w.Chains[1].Meet != nil || w.Chains[1].Leaving != 40 {
		t.Fatalf("%+v", w)
	}
	if err := f.follow("standby").Ready(t.Context()); err != nil {
		t.Error(err)
	}
	f.branchIs("standby", 1)
	f.branchIs("standby", 2)
	f.equal("standby", 1, 73)
	f.equal("standby", 2, 0)
	f.see("standby", 1, theirs[29], &theirs[9])
	f.ship(sizes{liveRows: 48, bulkRows: 128})
	f.follow("standby")
	f.branchIs("standby", 1)
	// And back again, over heights that are the standby's by now.
	f.offer("primary", branch(1, "c", 181, 220, "1a180")...)
	f.see("primary", 1, one{1, 220, "1c220", ""}, nil)
	f.see("primary", 1, one{1, 220, "1c220", ""}, &theirs[9])
	f.ship(sizes{liveRows: 48, bulkRows: 128})
	f.change("primary")
	f.follow("primary")
	f.branchIs("primary", 1)
	f.branchIs("primary", 2)
	// A rewind into what is the other role's.
	if r := f.rewind(1, 60); r.After.Head.Number != 60 {
		t.Errorf("%+v", r)
	}
	f.follow("primary")
	f.branchIs("primary", 1)
}

func TestALiveSwitchChangesNothingWhenTheRolesDoNotMeet(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary", "standby")
	f.offer("primary", branch(1, "a", 1, 400, "none")...)
	f.ship(sizes{liveRows: 256})
	follower := f.follower("primary")
	f.while(follower.Run, func() bool {
		f.await("the replica follows", func() bool { return f.arrived("primary") })
		refused := func(role, want string) {
			t.Helper()
			_, err := follower.Switch(t.Context(), f.switchOptions(role))
			var why Refused
			if !errors.As(err, &why) || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
		refused("nobody", "has shipped nothing")
		refused("stand by", "A-Z")
		f.offer("standby", branch(1, "a", 1, 100, "none")...)
		f.ship(sizes{liveRows: 256})
		refused("standby", "wait until it has caught up")
		f.offer("standby", branch(1, "z", 200, 420, "none")...)
		f.see("standby", 1, one{1, 420, "1z420", ""}, nil)
		f.ship(sizes{liveRows: 256})
		refused("standby", "in common")
		if entries, err := f.replica.Audit(t.Context(), 1); err != nil || len(entries) != 0 {
			t.Errorf("%+v, %v", entries, err)
		}
		f.offer("primary", branch(1, "a", 401, 402, "1a400")...)
		f.ship(sizes{liveRows: 256})
		f.await("the replica goes on", func() bool { return f.arrived("primary") })
		return true
	})
	f.equal("primary", 1, 0)
}

func TestALiveSwitch(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary", "standby")
	blocks := branch(1, "a", 1, 30, "none")
	f.offer("primary", blocks[:20]...)
	f.offer("standby", blocks...)
	f.ship(small())
	follower := f.follower("primary")
	f.while(follower.Run, func() bool {
		f.await("the replica follows", func() bool { return f.arrived("primary") })
		if w, err := follower.Switch(t.Context(), f.switchOptions("standby")); err != nil || w.To != "standby" {
			t.Fatal(w, err)
		}
		f.await("the replica follows the other", func() bool { return f.arrived("standby") })
		if st := follower.State(); st.Role != "standby" {
			t.Errorf("%+v", st)
		}
		return true
	})
	f.branchIs("standby", 1)
}

func TestALiveSwitchOfAnEmptyReplicaIsRefused(t *testing.T) {
	t.Parallel()
	f := newFleet(t, "primary", "standby")
	f.offer("standby", branch(1, "a", 1, 3, "none")...)
	f.ship(small())
	follower := f.follower("primary")
	f.while(follower.Run, func() bool {
		var why Refused
		if w, err := follower.Switch(t.Context(), f.switchOptions("standby")); !errors.As(err, &why) {
			t.Errorf("%+v, %v", w, err)
		}
		if w, err := follower.Switch(t.Context(), f.switchOptions("primary")); w != nil || err != nil {
			t.Errorf("to where it is: %+v, %v", w, err)
		}
		return true
	})
}
