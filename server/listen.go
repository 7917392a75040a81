package server

import (
	"context"
	"net"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
)

// userTimeout is when a peer that acknowledges nothing is given up: as soon as one that says nothing.
const userTimeout = wire.DeadAfter

// listen opens a TCP port whose connections notice a dead peer: by keepalive when idle, which is all that watches a bare
// connection between payloads, and by the user timeout when written to.
func listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{
		Control:         setUserTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3},
	}
	return lc.Listen(context.Background(), "tcp", addr)
}
