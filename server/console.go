package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/quiet"
)

// Counter tells how many connections are open over all servers.
type Counter interface {
	Snapshot() presence.Snapshot
}

// ConsoleOptions configure a Console. Addr, Name and Counts are needed.
type ConsoleOptions struct {
	Addr   string  // host:port to listen on; port 0 takes a free one
	Name   string  // of the server
	Boot   string  // of the server's beats
	Counts Counter // what WHO answers from

	Log logrus.FieldLogger // nil: silence
}

// Limits of the console: it is for people and monitors, who come few at a time and say little.
const (
	consoleConns   = 64              // at once; further ones wait in the kernel's queue
	consoleLine    = 256             // bytes of one line
	consoleSilence = time.Minute     // after which whoever says nothing is sent away
	consoleWrite   = 5 * time.Second // for one answer
)

// Console answers WHO, WHERE and WHY, a line each that ends with CR LF, as the connection-count server did that firstseen
// replaces. Anything else is an unexpected command. A count that is not known is said to be unknown.
type Console struct {
	opts ConsoleOptions
	ln   net.Listener

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]struct{}
	ended bool
	wg    sync.WaitGroup // connections
}

// NewConsole checks the options and listens. Nothing is accepted before Run.
func NewConsole(ctx context.Context, o ConsoleOptions) (*Console, error) {
	if o.Addr == "" || o.Name == "" || o.Counts == nil {
		return nil, errors.New("server: a console needs Addr, Name and Counts")
	}
	o.Log = quiet.Log(o.Log)
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", o.Addr, err)
	}
	return &Console{opts: o, ln: netutil.LimitListener(ln, consoleConns), conns: map[net.Conn]struct{}{}}, nil
}

// Addr returns the address that the console listens on.
func (c *Console) Addr() net.Addr { return c.ln.Addr() }

// Run serves until ctx ends, then closes every connection and returns nil.
func (c *Console) Run(ctx context.Context) error {
	unhook := context.AfterFunc(ctx, c.close)
	defer unhook()
	for {
		nc, err := c.ln.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			c.wg.Wait()
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept console connection: %w", err)
		case err != nil:
			c.opts.Log.WithError(err).Warn("console cannot accept")
			wait(ctx, time.Second)
			continue
		}
		c.handle(nc)
	}
}

func (c *Console) handle(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		nc.Close()
		return
	}
	c.conns[nc] = struct{}{}
	c.wg.Go(func() {
		c.serve(nc)
		nc.Close()
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.conns, nc)
	})
}

func (c *Console) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.ln.Close()
	for nc := range c.conns {
		nc.Close()
	}
}

// serve answers line by line until the client leaves, says nothing for a while, or says a line that has no end.
func (c *Console) serve(nc net.Conn) {
	in := bufio.NewReaderSize(nc, consoleLine)
	for {
		if nc.SetReadDeadline(time.Now().Add(consoleSilence)) != nil {
			return
		}
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		answer := c.answer(strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"))
		if nc.SetWriteDeadline(time.Now().Add(consoleWrite)) != nil {
			return
		}
		if _, err := io.WriteString(nc, answer+"\r\n"); err != nil {
			return
		}
	}
}

func (c *Console) answer(command string) string {
	switch command {
	case "WHO":
		if s := c.opts.Counts.Snapshot(); s.Known {
			return fmt.Sprintf("Users connected: %d", s.Total)
		}
		return "Users connected: unknown"
	case "WHERE":
		return "Machine name is " + c.opts.Name + c.opts.Boot
	case "WHY":
		return "Ultimate answer is: 42"
	}
	return "Unexpected command"
}
