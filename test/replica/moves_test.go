package replica

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// stands waits until a replica's chain stands where the writer's does, on whatever row of a feed of its own.
func (s *site) stands(r *replica) {
	s.t.Helper()
	s.written()
	testenv.Eventually(s.t, func() error {
		want, err := s.standing(s.api)
		got, err2 := s.standing(r.api())
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		w, g := want.Chains[0], got.Chains[0]
		if w.Head != g.Head || g.Safe == nil || *w.Safe != *g.Safe || g.Finalized == nil || *w.Finalized != *g.Finalized {
			return fmt.Errorf("replica's chain stands at %+v, the writer's at %+v", g, w)
		}
		return nil
	})
}

// sameNodes compares the JSON-RPC answers of a replica with the chain's own.
func (s *site) sameNodes(r *replica) {
	s.t.Helper()
	all, err := s.calls()
	if err != nil {
		s.t.Fatal(err)
	}
	testenv.Eventually(s.t, func() error { return sameCalls(s.t.Context(), all, s.net.URLs()[0], r.api()+"/rpc") })
}

// A replica is taken back while it runs, once for show and once in earnest, and again while it does not run; each time it
// fetches anew what it lost.
func TestARewoundReplicaFetchesAnewWhatItLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, newDevnet(t, few), few, nobody)
	r := s.follow()
	s.mine(20)
	s.reorg(2)
	s.caughtUp(r)
	rewind := func(args ...string) (view struct {
		Leaving int
		Before  struct{ Head schema.Point }
		After   *struct{ Head schema.Point }
	}) {
		t.Helper()
		args = append([]string{"rewind", "--db", "sqlite://" + r.file, "--objects", s.bucket.url(), "--env", "test", "--output", "json"}, args...)
		out, stderr, code := binary.Once(t, s.bucket.environ(), args...)
		if err := json.Unmarshal([]byte(out), &view); err != nil || code != 0 {
			t.Fatalf("%v: %d %s%s", args, code, out, stderr)
		}
		return view
	}
	before, err := s.standing(r.api())
	if err != nil {
		t.Fatal(err)
	}
	seen := rewind("--to-height", "12", "--dry-run")
	if head := s.net.Head(); seen.Before.Head != head || seen.After == nil || seen.After.Head.Number != 12 || seen.Leaving == 0 {
		t.Errorf("shown is %+v, the head is %s", seen, head)
	}
	if after, err := s.standing(r.api()); err != nil || after.Seq != before.Seq {
		t.Errorf("a dry run led from row %d to %d: %v", before.Seq, after.Seq, err)
	}
	rewind("--to-height", "12")
	s.mine(3)
	s.stands(r)
	r.Kill()
	rewind("--to-height", "5")
	s.mine(3)
	r.restart()
	s.stands(r)
	s.sameNodes(r)
	var kept struct{ Audit []struct{ Action string } }
	if err := getJSON(t.Context(), r.api()+"/v1/replica", &kept); err != nil || len(kept.Audit) != 2 || kept.Audit[0].Action != "rewind" {
		t.Errorf("the audit has %+v: %v", kept, err)
	}
	s.sameDigests()
}

// A replica that follows one writer goes over to another, which has observers and a database of its own.
func TestAReplicaGoesOverToAnotherWriter(t *testing.T) {
	t.Parallel()
	s := newSite(t, newDevnet(t, few), few, testenv.Kafka(t))
	standby := s.another("standby")
	r := s.follow()
	s.mine(12)
	standby.shipped()
	s.caughtUp(r)
	s.ship.Kill()
	s.mine(4)
	if _, stderr, code := binary.Once(t, s.environ(), "switch", "--role", "standby", "--admin", r.Addr(t, "admin")); code != 0 {
		t.Fatalf("switch: %d %s", code, stderr)
	}
	standby.reorg(2)
	standby.stands(r)
	standby.sameNodes(r)
}
