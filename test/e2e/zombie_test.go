package e2e

import (
	"syscall"
	"testing"

	"github.com/firstseen/firstseen/internal/faults"
	"github.com/firstseen/firstseen/internal/testenv"
)

// A server is stopped in the middle of a transaction, with locks in the database and observers that wait, and comes back
// when nobody expects it any more. The other server goes on meanwhile, and the zombie does no harm.
func TestAZombieHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	s := newScene(t, newDevnet(t, 2), testenv.MySQL(t))
	proxy, dsn := behindMySQL(t, s.dsn)
	a, b := s.server("server-a", dsn), s.server("server-b", s.dsn)
	alice := s.observer("alice", s.net.URLs()[0], []string{a.recorder.Addr()})
	s.observer("bob", s.net.URLs()[1], []string{b.recorder.Addr()})
	s.mine(3)
	s.rests()

	stopped, awake := make(chan struct{}), make(chan struct{})
	proxy.Catch(faults.BeforeCommit, ingest, func() bool {
		_ = a.Signal(syscall.SIGSTOP)
		close(stopped)
		select {
		case <-awake:
		case <-t.Context().Done():
		}
		return true
	})
	s.mine(1)
	happens(t, stopped)
	s.mine(3)
	s.has(s.net.Head().Hash)
	if accepting() {
		alice.says("server silent")
	}
	close(awake)
	_ = a.Signal(syscall.SIGCONT)
	s.mine(1)
	s.rests()
}
