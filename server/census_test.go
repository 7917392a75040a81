package server

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/presence"
)

func TestCensusTellsWhoIsConnected(t *testing.T) {
	t.Parallel()
	r := start(t)
	named, bare := r.dial(), r.dial()
	r.dial()
	named.greet()
	bare.send("<p>payload</p>")
	want := presence.Census{
		Server: "relay-1", Count: 3, Addresses: map[string]int{"127.0.0.1": 3},
		Observers: map[string]int{"paris-1": 1, presence.BareConnections: 1, presence.UndecidedOnes: 1},
	}
	eventually(t, "three connections, each in its way", func() bool { return cmp.Equal(want, r.srv.Census()) })
	named.send("B")
	named.wantEnd()
	eventually(t, "one left", func() bool { return r.srv.Census().Count == 2 })
}
