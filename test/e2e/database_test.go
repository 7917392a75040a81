package e2e

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/faults"
)

// MariaDB is killed before a COMMIT and with its answer to one on the way, and once is frozen instead. The servers wait,
// say so and go on by themselves; what was acked is there.
func TestTheDatabaseIsKilledAndFrozen(t *testing.T) {
	t.Parallel()
	m := newMariaDB(t, t.TempDir())
	s := newScene(t, newDevnet(t, 2), m.database("firstseen"))
	proxy, dsn := behindMySQL(t, s.dsn)
	a, b := s.server("server-a", dsn), s.server("server-b", dsn)
	s.observer("alice", s.net.URLs()[0], []string{a.recorder.Addr()})
	s.observer("bob", s.net.URLs()[1], []string{b.recorder.Addr()})
	s.mine(3)
	s.rests()

	for _, at := range []faults.CommitPoint{faults.BeforeCommit, faults.AfterCommit} {
		killed := make(chan struct{})
		proxy.Catch(at, ingest, func() bool {
			m.kill()
			close(killed)
			return false
		})
		s.mine(1)
		happens(t, killed)
		s.mine(10)
		a.ready(false)
		b.ready(false)
		m.start()
		s.mine(1)
		s.rests()
		a.ready(true)
	}
	a.says("store cannot commit")
	a.says("store commits again")

	before := a.count("store cannot commit")
	m.signal(syscall.SIGSTOP)
	s.mine(5)
	a.ready(false)
	b.ready(false)
	if accepting() { // until the driver gives up, and nobody knows what became of the COMMIT
		eventually(t, time.Minute, func() error {
			if a.count("store cannot commit") == before {
				return errors.New("the driver waits still")
			}
			return nil
		})
	}
	m.signal(syscall.SIGCONT)
	s.rests()
}
