package gateway

import (
	"net"
	"net/http"
	"sync"
)

// silentConns knows the connections on which nothing was asked yet. http.Server.Shutdown gives each of them five
// seconds to speak, and browsers and balancers like to open one too many: the end would nearly always take that long.
type silentConns struct {
	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

// track is an http.Server's ConnState.
func (s *silentConns) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.conns, c)
		return
	}
	if s.conns == nil {
		s.conns = make(map[net.Conn]struct{})
	}
	s.conns[c] = struct{}{}
}

// close ends them all.
func (s *silentConns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		_ = c.Close()
	}
}
