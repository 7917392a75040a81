package server

import (
	"net/netip"

	"github.com/firstseen/firstseen/internal/presence"
)

// Census tells who is connected at this moment. Boot is left to whoever publishes the server's beats.
func (s *Server) Census() presence.Census {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := presence.Census{
		Server: s.opt.Name, Count: len(s.conns), Observers: map[string]int{}, Addresses: map[string]int{},
	}
	for c := range s.conns {
		observer, addr := c.known()
		out.Observers[observer]++
		out.Addresses[addr.String()]++
	}
	return out
}

// known returns what the connection is called and where its client is.
func (c *conn) known() (observer string, addr netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.relay != nil:
		observer = c.relay.hello.Observer
	case c.bare:
		observer = presence.BareConnections
	default:
		observer = presence.UndecidedOnes
	}
	return observer, c.peer.Addr()
}

// becomeBare makes it known that the client does not name itself.
func (c *conn) becomeBare() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bare = true
}
