package e2e

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/invariants"
)

// torn cuts the connection once, so many bytes into the next frame of the type, or before the last byte of one that is
// shorter.
func torn(r *invariants.Recorder, kind byte, after int) <-chan struct{} {
	done := make(chan struct{})
	var first sync.Once
	r.Gate(func(f invariants.Frame) invariants.Verdict {
		verdict := invariants.Pass
		if f.Type == kind && len(f.Keys) > 0 {
			first.Do(func() {
				verdict = invariants.Verdict(min(after, f.Size-1))
				close(done)
			})
		}
		return verdict
	})
	return done
}

// settledBy waits until a server behind the recorder has settled the block.
func settledBy(t *testing.T, r *invariants.Recorder, key schema.Key) {
	t.Helper()
	eventually(t, time.Minute, func() error {
		all := r.Exchanges()
		last := all[len(all)-1]
		for i := range last.Outcomes {
			if last.Offers[i] == key {
				return nil
			}
		}
		return fmt.Errorf("block %s is not settled", key)
	})
}

// offsets are where a frame is cut: at each byte where its parts meet and at some in between, or at all.
func offsets(size int) []int {
	var all []int
	for at := range size {
		if accepting() || at < 10 || at%(size/16) == 0 || at >= size-6 {
			all = append(all, at)
		}
	}
	return all
}

// Connections of several observers are cut within a frame of data or an ack, each a byte further than the one before.
// Nothing of a frame that is not whole is stored, and nothing of what it offered is lost.
func TestConnectionsAreCutAtEachByteOfAFrame(t *testing.T) {
	t.Parallel()
	const observers = 4
	s := newScene(t, newDevnet(t, 1), testenv.MySQL(t))
	server := s.server("server-a", s.dsn)
	recorders := []*invariants.Recorder{server.recorder}
	for i := range observers {
		if i > 0 {
			recorders = append(recorders, s.record(server.Addr(t, "server")))
		}
		s.observer(fmt.Sprint("observer-", i), s.net.URLs()[0], []string{recorders[i].Addr()})
	}
	size := make(chan int, 1)
	recorders[0].Gate(func(f invariants.Frame) invariants.Verdict {
		if f.Type == wire.TypeData && len(size) == 0 {
			size <- f.Size
		}
		return invariants.Pass
	})
	s.mine(1)
	s.rests()
	leaks := server.watchLeaks()

	type cut struct {
		kind  byte
		after int
	}
	var cuts []cut
	for _, at := range offsets(<-size) {
		cuts = append(cuts, cut{wire.TypeData, at})
	}
	for at := range len("4:A1 f,") {
		cuts = append(cuts, cut{wire.TypeAck, at})
	}
	for len(cuts) > 0 {
		var done []<-chan struct{}
		for _, r := range recorders[:min(len(recorders), len(cuts))] {
			done = append(done, torn(r, cuts[0].kind, cuts[0].after))
			cuts = cuts[1:]
		}
		s.mine(1)
		for i, each := range done {
			happens(t, each)
			settledBy(t, recorders[i], s.net.Head().Hash.Key())
		}
	}
	s.rests()
	leaks()
}

// watchLeaks returns a check that the process has no more goroutines and open files than now, but for a few that come
// and go.
func (a *actor) watchLeaks() (check func()) {
	a.scene.t.Helper()
	const few = 10
	look := func() (figures [2]float64, err error) {
		for i, name := range []string{"go_goroutines", "process_open_fds"} {
			if figures[i], err = a.metric(name); err != nil {
				return figures, err
			}
		}
		return figures, nil
	}
	before, err := look()
	if err != nil {
		a.scene.t.Fatal(err)
	}
	return func() {
		a.scene.t.Helper()
		eventually(a.scene.t, time.Minute, func() error {
			now, err := look()
			if err == nil && (now[0] > before[0]+few || now[1] > before[1]+few) {
				err = fmt.Errorf("%v goroutines and files, %v before", now, before)
			}
			return err
		})
	}
}
