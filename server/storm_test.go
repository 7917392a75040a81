package server_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
)

// A crowd connects all at once, says HELLO, breaks off and comes back, while one observer goes on delivering. Its acks
// must keep coming; that they do so within 3 s is judged where nothing else runs.
func TestReconnectingCrowdDoesNotStallAcks(t *testing.T) {
	crowd, judged := 400, false
	if os.Getenv("FIRSTSEEN_ACCEPT") != "" {
		crowd, judged = 10_000, true
	}
	crowd = affordable(t, crowd)
	for _, db := range []struct {
		name string
		dsn  func(testing.TB) string
	}{
		{"sqlite", func(tb testing.TB) string { return "sqlite:///" + filepath.Join(tb.TempDir(), "storm.db") }},
		{"mysql", testenv.MySQL},
	} {
		t.Run(db.name, func(t *testing.T) {
			addr := serve(t, migrated(t, db.dsn(t)))
			over := make(chan struct{})
			var steady sync.WaitGroup
			var took []time.Duration
			nc := greet(t, addr, crowd)
			defer nc.Close()
			steady.Go(func() { took = deliver(t, nc, over) })
			begun := time.Now()
			for range 2 {
				storm(t, addr, crowd)
			}
			lasted := time.Since(begun)
			close(over)
			steady.Wait()
			if len(took) == 0 {
				t.Fatal("no ack came")
			}
			slices.Sort(took)
			t.Logf("%d clients, twice, in %v: %d acks meanwhile, p50 %v, p99 %v, slowest %v", crowd, lasted.Round(time.Millisecond),
				len(took), took[len(took)/2], took[len(took)*99/100], took[len(took)-1])
			if slowest := took[len(took)-1]; judged && slowest > 3*time.Second {
				t.Errorf("an ack took %v", slowest)
			}
		})
	}
}

// affordable is how many of so many connections this process may hold both ends of.
func affordable(t *testing.T, crowd int) int {
	t.Helper()
	const others = 256
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if want := uint64(2*crowd + others); limit.Cur < want {
		raised := unix.Rlimit{Cur: want, Max: max(limit.Max, want)}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return min(crowd, (int(min(limit.Cur, 1<<20))-others)/2)
}

// storm connects a crowd as fast as it can, waits until each has had its W, and breaks all connections off.
func storm(t *testing.T, addr string, crowd int) {
	t.Helper()
	conns := make([]net.Conn, crowd)
	var dialing errgroup.Group
	dialing.SetLimit(256)
	for i := range conns {
		dialing.Go(func() (err error) {
			for range 20 {
				if conns[i], err = arrive(addr, i); !errors.Is(err, errLater) {
					break
				}
			}
			return err
		})
	}
	err := dialing.Wait()
	for _, nc := range conns {
		if tcp, ok := nc.(*net.TCPConn); ok {
			tcp.SetLinger(0) // a reset, as from clients that die
			tcp.Close()
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// errLater is a server's "retry", which a client in a crowd must expect.
var errLater = errors.New("come back later")

// arrive connects and is welcomed.
func arrive(addr string, i int) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", addr, time.Minute)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(time.Minute))
	if _, err := nc.Write(netstring.Append(nil, helloOf(i))); err != nil {
		return nc, err
	}
	content, err := netstring.NewDecoder(nc, wire.MaxFrame).Next()
	switch {
	case err != nil:
	case strings.HasPrefix(string(content), "Eretry "):
		nc.Close()
		return nil, errLater
	case wire.Type(content) != wire.TypeWelcome:
		err = errors.New(string(content))
	}
	return nc, err
}

// deliver sends one block after the other, each when the one before is acknowledged, until over is closed, and returns
// how long each took.
func deliver(t *testing.T, nc net.Conn, over <-chan struct{}) (took []time.Duration) {
	dec := netstring.NewDecoder(nc, wire.MaxFrame)
	for i := 0; ; i++ {
		select {
		case <-over:
			return took
		default:
		}
		nc.SetDeadline(time.Now().Add(time.Minute))
		sent := time.Now()
		if _, err := nc.Write(benchFrame(t, i)); err != nil {
			t.Error(err)
			return took
		}
		for acked := false; !acked; {
			content, err := dec.Next()
			if err != nil {
				t.Errorf("no ack: %v", err)
				return took
			}
			acked = wire.Type(content) == wire.TypeAck
		}
		took = append(took, time.Since(sent))
	}
}
