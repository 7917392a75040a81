package server

import (
	"context"
	"time"
)

// drain ends all connections. Each mode has its own end: when it comes, reading stops and what still waits for room in
// the store is given up; relay clients have it back unacked, and send it elsewhere.
func (s *Server) drain(endRelay, endBare context.CancelFunc) {
	s.state.Store(stateDraining)
	closeDoors(s.doors)
	now := time.Now()
	open := s.tell(ends{now: now, relay: now.Add(s.opt.Drain), bare: now.Add(s.opt.BareDrain)})
	s.opt.Log.WithField("connections", open).Info("server drains")

	defer time.AfterFunc(s.opt.Drain, endRelay).Stop()
	defer time.AfterFunc(s.opt.BareDrain, endBare).Stop()
	// The last word: a client that takes neither its last acks nor its leave may not keep the process.
	force := time.AfterFunc(max(s.opt.Drain, s.opt.BareDrain)+stopGrace, s.closeAll)
	defer force.Stop()
	s.wg.Wait()
}

// tell starts the draining of every connection, also of those to come, and returns how many are open.
func (s *Server) tell(e ends) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = &e
	for c := range s.conns {
		c.drain(e)
	}
	return len(s.conns)
}

func (s *Server) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.raw.Close() // TLS would wait for a writer
	}
}

// drain asks the connection to end: relay clients are told to leave in time, everybody else is read on for a while.
func (c *conn) drain(e ends) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if c.relay == nil {
		c.in.stop(e.bare)
		return
	}
	c.in.stop(e.relay)
	c.relay.out.drain(e.relay.Sub(e.now), e.relay)
}
