package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// The disk under a server's SQLite file stops keeping what is written: nothing is acked that may be lost. When it keeps
// it again, the server goes on by itself.
func TestNoAckWhileTheServersDiskFails(t *testing.T) {
	t.Parallel()
	s := newScene(t, newDevnet(t, 1), "sqlite:"+filepath.Join(t.TempDir(), "firstseen.db"))
	server := s.server("server-a", s.dsn)
	observer := s.observer("alice", s.net.URLs()[0], []string{server.recorder.Addr()})
	s.mine(3)
	s.rests()

	before := len(s.acked())
	heal := sickDisk(t, server.Process, func() { s.mine(1) })
	server.ready(false)
	ackedBySick := s.acked()
	head := s.net.Head().Hash.Key()
	if ackedBySick[head] {
		t.Errorf("the head was acked, and %d others since %d were, while no fsync succeeded", len(ackedBySick)-before, before)
	}
	s.lacks([]schema.Key{head})
	heal()
	s.mine(1)
	s.rests()
	server.ready(true)
	observer.delivers()
	server.says("store cannot commit")
	server.says("store commits again")
}

// The disk under an observer's spool stops keeping what is written: no block counts as taken from the chain that could be
// lost, so none is sent either. When it keeps it again, the observer fetches what it left.
func TestProgressStandsWhileTheObserversDiskFails(t *testing.T) {
	t.Parallel()
	s := newScene(t, newDevnet(t, 1), "sqlite:"+filepath.Join(t.TempDir(), "firstseen.db"))
	server := s.server("server-a", s.dsn)
	args := []string{"--spool", filepath.Join(t.TempDir(), "spool")}
	observer := s.observer("keeper", s.net.URLs()[0], []string{server.recorder.Addr()}, args...)
	s.mine(3)
	s.rests()
	observer.delivers()

	heal := sickDisk(t, observer.Process, func() { s.mine(1) })
	observer.ready(false)
	observer.says("spool cannot be written")
	s.mine(5)
	head := s.net.Head().Hash.Key()
	if s.offered()[head] {
		t.Error("a block was sent that is not in the spool")
	}
	observer.Kill() // and with it goes whatever was not written
	heal()
	observer.restart()
	s.rests()

	heal = sickDisk(t, observer.Process, func() { s.mine(1) })
	observer.ready(false)
	heal()
	observer.ready(true)
	s.mine(1)
	s.rests()
	if strings.Contains(observer.Log.String(), "panic") {
		t.Error("the observer panicked")
	}
}
