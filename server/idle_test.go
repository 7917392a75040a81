package server

import (
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/netstring"
)

// Not parallel: it measures the whole process, clients included, which hold a socket each and no goroutine.
func TestIdleConnectionsAreCheap(t *testing.T) {
	const n = 500
	for _, mode := range []string{"bare", "relay"} {
		t.Run(mode, func(t *testing.T) {
			r := start(t)
			before := memory()
			var conns []net.Conn
			for range n {
				nc, err := net.Dial("tcp", r.srv.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, nc)
				first := hello
				if mode == "bare" {
					first = "<p>1</p>"
				}
				if _, err := nc.Write(netstring.Append(nil, []byte(first))); err != nil {
					t.Fatal(err)
				}
			}
			eventually(t, "all modes decided", func() bool { return r.metric("mode_connections", mode) == n })
			eventually(t, "every connection is left to a goroutine that only waits", func() bool { return dozing() == n })
			each := (memory() - before) / n
			t.Logf("%d bytes per idle %s connection, both ends", each, mode)
			if each > 8<<10 {
				t.Errorf("%d bytes per idle %s connection, at most 8 KiB", each, mode)
			}
			for _, nc := range conns {
				nc.Close()
			}
		})
	}
}

// dozing counts the goroutines that wait in doze.
func dozing() int {
	stacks := make([]byte, 4<<20)
	return strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "server.(*inbox).doze(")
}

// memory returns the bytes in use by live heap objects and goroutine stacks.
func memory() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // stacks shrink while the first one scans them
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
