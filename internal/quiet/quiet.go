// Package quiet keeps an HTTP server from making much of its clients: of connections on which nothing was asked, which
// hold up its end, and of what they get wrong, which fills its log. Who was given no log at all is silent.
package quiet

import (
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/sirupsen/logrus"
)

// Server sets up s before it serves: its Shutdown closes connections on which nothing was asked yet, and what it says
// goes to l as debugging detail. It takes s's ConnState and ErrorLog.
func Server(s *http.Server, l logrus.FieldLogger) {
	var silent conns
	s.ConnState = silent.track
	s.RegisterOnShutdown(silent.close)
	s.ErrorLog = log.New(debugWriter{l}, "", 0)
}

// conns are those on which nothing was asked yet. http.Server.Shutdown gives each of them five seconds to speak, and
// browsers and balancers like to open one too many: the end would nearly always take that long.
type conns struct {
	mu   sync.Mutex // guards open
	open map[net.Conn]struct{}
}

// track is an http.Server's ConnState.
func (s *conns) track(c net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state != http.StateNew {
		delete(s.open, c)
		return
	}
	if s.open == nil {
		s.open = make(map[net.Conn]struct{})
	}
	s.open[c] = struct{}{}
}

// close ends them all.
func (s *conns) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.open {
		_ = c.Close()
	}
}

// debugWriter takes net/http's own complaints, nearly all of them about clients.
type debugWriter struct{ log logrus.FieldLogger }

func (w debugWriter) Write(line []byte) (int, error) {
	w.log.Debug(strings.TrimSpace(string(line)))
	return len(line), nil
}
