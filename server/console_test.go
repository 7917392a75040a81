package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/presence"
)

// shifting is a count that tests change.
type shifting struct {
	now atomic.Pointer[presence.Snapshot]
}

func (s *shifting) Snapshot() presence.Snapshot { return *s.now.Load() }

func startConsole(t *testing.T, counts Counter) (c *Console, stop func()) {
	t.Helper()
	c, err := NewConsole(t.Context(), ConsoleOptions{
		Addr: "127.0.0.1:0", Name: "relay-1", Boot: "-3f2504e0", Counts: counts,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	var err2 error
	stop = func() { cancel(); err2 = errors.Join(err2, <-ended); ended <- nil }
	t.Cleanup(func() {
		if stop(); err2 != nil {
			t.Error(err2)
		}
	})
	return c, stop
}

func dialConsole(t *testing.T, c *Console) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", c.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(patience))
	return nc
}

func TestConsoleAnswersEachLine(t *testing.T) {
	t.Parallel()
	counts := &shifting{}
	counts.now.Store(&presence.Snapshot{Known: true, Total: 17})
	c, _ := startConsole(t, counts)
	nc := dialConsole(t, c)
	in := bufio.NewReader(nc)
	for _, step := range []struct{ say, want string }{
		{"WHO\r\n", "Users connected: 17\r\n"},
		{"WHERE\r\n", "Machine name is relay-1-3f2504e0\r\n"},
		{"WHY\r\n", "Ultimate answer is: 42\r\n"},
		{"WHO\n", "Users connected: 17\r\n"},
		{"who\r\n", "Unexpected command\r\n"},
		{"\r\n", "Unexpected command\r\n"},
		{"WHO \x00\xff\r\n", "Unexpected command\r\n"},
	} {
		if _, err := io.WriteString(nc, step.say); err != nil {
			t.Fatal(err)
		}
		if got, err := in.ReadString('\n'); err != nil || got != step.want {
			t.Errorf("%q: %q, %v; want %q", step.say, got, err, step.want)
		}
	}
	counts.now.Store(&presence.Snapshot{Reason: "the presence store cannot be read", Total: 3})
	io.WriteString(nc, "WHO\r\nWHY\r\n")
	for _, want := range []string{"Users connected: unknown\r\n", "Ultimate answer is: 42\r\n"} {
		if got, err := in.ReadString('\n'); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func TestConsoleEndsLinesThatNeverEnd(t *testing.T) {
	t.Parallel()
	counts := &shifting{}
	counts.now.Store(&presence.Snapshot{})
	c, _ := startConsole(t, counts)
	nc := dialConsole(t, c)
	io.WriteString(nc, strings.Repeat("W", 10*consoleLine))
	if n, err := io.Copy(io.Discard, nc); n != 0 {
		t.Errorf("%d bytes were answered, %v", n, err)
	}
}

func TestConsoleEndsWithItsConnections(t *testing.T) {
	t.Parallel()
	counts := &shifting{}
	counts.now.Store(&presence.Snapshot{})
	c, stop := startConsole(t, counts)
	nc := dialConsole(t, c)
	io.WriteString(nc, "WHY\r\n")
	if _, err := bufio.NewReader(nc).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	stop()
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("the connection outlived the console")
	}
}

func TestConsoleOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []ConsoleOptions{
		{}, {Addr: "127.0.0.1:0", Name: "x"}, {Addr: "127.0.0.1:0", Counts: &shifting{}}, {Addr: "nonsense", Name: "x", Counts: &shifting{}},
	} {
		if _, err := NewConsole(t.Context(), bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}
