package e2e

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/firstseen/firstseen/internal/faults"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/invariants"
)

// ingest is how the transaction that stores blocks begins.
const ingest = "INSERT INTO records"

// deadly plants a fault in the way of a commit: what was on its way is lost with the session, and the process, if there
// is one, killed.
func deadly(p *faults.MySQLProxy, at faults.CommitPoint, victim *actor) <-chan struct{} {
	done := make(chan struct{})
	p.Catch(at, ingest, func() bool {
		if victim != nil {
			victim.Kill()
		}
		close(done)
		return false
	})
	return done
}

// deadlyFrame kills the victim when the next frame of the type is about to pass.
func deadlyFrame(r *invariants.Recorder, kind byte, from string, victim *actor, then invariants.Verdict) <-chan struct{} {
	done := make(chan struct{})
	var first sync.Once
	r.Gate(func(f invariants.Frame) invariants.Verdict {
		verdict := invariants.Pass
		if f.Type == kind && f.Observer == from && len(f.Keys) > 0 {
			first.Do(func() {
				victim.Kill()
				close(done)
				verdict = then
			})
		}
		return verdict
	})
	return done
}

// A server dies before its COMMIT, with the answer to its COMMIT on its way to it, with its ack on its way to the
// observer, and after that; an observer dies with a block on its way and with the ack on its way. Each time everything is
// stored once, and nothing is acked that is not.
func TestKilledAtEachPointFromOfferToAck(t *testing.T) {
	t.Parallel()
	s := newScene(t, newDevnet(t, 2), testenv.MySQL(t))
	proxy, dsn := behindMySQL(t, s.dsn)
	server := s.server("server-a", dsn)
	to := []string{server.recorder.Addr()}
	keeper := s.observer("keeper", s.net.URLs()[0], to, "--spool", filepath.Join(t.TempDir(), "spool"))
	forgetful := s.observer("forgetful", s.net.URLs()[1], to)
	s.mine(3)
	s.rests()

	for _, point := range []struct {
		name   string
		victim *actor
		plant  func(victim *actor) <-chan struct{}
		stored bool // with the victim dead, the block is there
	}{
		{"nobody, but a COMMIT is lost", nil, func(v *actor) <-chan struct{} { return deadly(proxy, faults.BeforeCommit, v) }, true},
		{"nobody, but the answer to a COMMIT is lost", nil, func(v *actor) <-chan struct{} { return deadly(proxy, faults.AfterCommit, v) }, true},
		{"server before COMMIT", server, func(v *actor) <-chan struct{} { return deadly(proxy, faults.BeforeCommit, v) }, false},
		{"server between COMMIT and its answer", server, func(v *actor) <-chan struct{} { return deadly(proxy, faults.AfterCommit, v) }, true},
		{"server with its ack on the way", server,
			func(v *actor) <-chan struct{} { return deadlyFrame(v.recorder, wire.TypeAck, "keeper", v, 0) }, true},
		{"observer with its spool and a block on the way", keeper,
			func(v *actor) <-chan struct{} {
				return deadlyFrame(server.recorder, wire.TypeData, "keeper", v, invariants.Pass)
			}, true},
		{"observer without a spool, its ack on the way", forgetful,
			func(v *actor) <-chan struct{} {
				return deadlyFrame(server.recorder, wire.TypeAck, "forgetful", v, invariants.Pass)
			}, true},
	} {
		t.Log(point.name)
		s.told("keeper", "forgetful") // so that the next commit, frame and ack are about the next block
		happened := point.plant(point.victim)
		s.mine(1)
		happens(t, happened)
		head := s.net.Head().Hash
		if point.stored {
			s.has(head)
		} else if s.acked()[head.Key()] {
			t.Error("a block was acked whose COMMIT never came")
		} else {
			s.lacks([]schema.Key{head.Key()})
		}
		s.mine(2)
		if point.victim != nil {
			point.victim.restart()
		}
		s.rests()
	}
	server.recorder.Gate(nil)
	s.mine(1)
	keeper.delivers()
	forgetful.delivers() // and then, with all acks taken, the server dies
	server.restart()
	s.mine(1)
	s.rests()
}
