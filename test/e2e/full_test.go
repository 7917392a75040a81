package e2e

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// MariaDB's disk is full (error 1114): what it cannot store is not acked. When there is room again, nobody needs to be restarted.
func TestNoAckWhileTheDatabasesDiskIsFull(t *testing.T) {
	t.Parallel()
	disk := newFull(t, 192<<20)
	m := newMariaDB(t, disk.dir)
	s := newScene(t, newDevnet(t, 1), m.database("firstseen"))
	server := s.server("server-a", s.dsn)
	s.observer("alice", s.net.URLs()[0], []string{server.recorder.Addr()})
	s.mine(3)
	s.rests()

	disk.fill()
	eventually(t, time.Minute, func() error {
		if strings.Contains(server.Log.String(), "store cannot commit") {
			return nil
		}
		s.mine(20) // until the tables have to grow
		return errors.New("there is room still")
	})
	server.ready(false)
	if head := s.net.Head().Hash.Key(); s.acked()[head] {
		t.Error("a block was acked that cannot be stored")
	}
	disk.empty()
	s.mine(1)
	s.rests()
	server.ready(true)
	server.says("store commits again")
}
