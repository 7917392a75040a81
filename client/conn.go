package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
)

// errNoRelay reports a peer that did not answer HELLO: an original server, or none of ours at all.
var errNoRelay = errors.New("server does not speak relay mode, try --bare")

// errSilent reports a server that said nothing for wire.DeadAfter, pings included.
var errSilent = fmt.Errorf("server silent for %s", wire.DeadAfter)

// relayConn is a connection on which the server has said W. One goroutine reads it and one writes it; both end when it
// is closed, which close waits for.
type relayConn struct {
	net.Conn
	welcome wire.Welcome
	raw     bool // raw parts are agreed on
	dec     *netstring.Decoder
	clock   *patience

	in    chan []byte   // frames, 64 at most: beyond, the server waits
	ended chan error    // why reading ended, one
	out   chan []byte   // one buffer at a time
	wrote chan error    // how writing it went, one
	quit  chan struct{} // closed by close
	once  sync.Once
	both  sync.WaitGroup
}

// openRelay says HELLO on conn and waits for W. On an error conn is closed.
func openRelay(ctx context.Context, conn net.Conn, hello wire.Hello) (*relayConn, error) {
	clock := &patience{Conn: conn, each: wire.DeadAfter}
	c := &relayConn{Conn: conn, clock: clock, dec: netstring.NewDecoder(clock, wire.MaxFrame),
		in: make(chan []byte, 64), ended: make(chan error, 1), out: make(chan []byte, 1), wrote: make(chan error, 1),
		quit: make(chan struct{})}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	err := c.greet(hello)
	if err == nil && !stop() {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	c.both.Go(c.read)
	c.both.Go(c.write)
	return c, nil
}

// greet sends HELLO and takes the answer.
func (c *relayConn) greet(h wire.Hello) error {
	if h.Token != "" && !verified(c.Conn) {
		return errors.New("the access key is sent over TLS only, to a server whose certificate was verified")
	}
	hello, err := wire.AppendHello(nil, h)
	if err != nil {
		return err
	}
	until := time.Now().Add(wire.WelcomeTimeout)
	c.clock.until(until)
	if err := c.SetWriteDeadline(until); err != nil {
		return err
	}
	if _, err := c.Write(netstring.Append(nil, hello)); err != nil {
		return fmt.Errorf("send HELLO: %w", err)
	}
	frame, err := c.dec.Next()
	if err != nil {
		return notRelay(err)
	}
	switch wire.Type(frame) {
	case wire.TypeWelcome:
		c.welcome, err = wire.ParseWelcome(frame)
		c.raw = slices.Contains(h.Caps, wire.CapRaw) && slices.Contains(c.welcome.Caps, wire.CapRaw)
		if err == nil {
			err = c.SetWriteDeadline(time.Time{})
		}
		return err
	case wire.TypeFatal:
		return fatal(frame)
	default:
		return fmt.Errorf("%w: it answered HELLO with something else", errNoRelay)
	}
}

// verified tells whether conn speaks TLS with a server whose certificate was verified.
func verified(conn net.Conn) bool {
	secure, ok := conn.(*tls.Conn)
	return ok && len(secure.ConnectionState().VerifiedChains) > 0
}

// notRelay tells a server that does not know HELLO, which closes, stays silent or answers in a language of its own, from
// a network that failed.
func notRelay(err error) error {
	var syntax *netstring.SyntaxError
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("%w: no answer to HELLO within %s", errNoRelay, wire.WelcomeTimeout)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it closed after HELLO, as a port that wants TLS does (--tls), and a proxy with no server behind it", errNoRelay)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: its answer to HELLO is no netstring", errNoRelay)
	}
	return fmt.Errorf("wait for W: %w", err)
}

// fatal returns an E frame as an error.
func fatal(frame []byte) error {
	f, err := wire.ParseFatal(frame)
	if err != nil {
		return err
	}
	return &f
}

// read passes frames on until the connection ends. Bytes of any kind count as a sign of life; a frame that was begun
// must end within wire.FrameTimeout, or one byte now and then could hold the link for ever.
func (c *relayConn) read() {
	for {
		c.clock.until(time.Time{})
		err := c.dec.Wait()
		var frame []byte
		if err == nil {
			c.clock.until(time.Now().Add(wire.FrameTimeout))
			frame, err = c.dec.Next()
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errSilent
		}
		if err != nil {
			c.ended <- err
			return
		}
		select {
		case c.in <- bytes.Clone(frame):
		case <-c.quit:
			return
		}
	}
}

// write writes one buffer after the other. It has no deadline of its own: a server whose store stalls stops reading for
// as long as that takes, and pings meanwhile. One that is gone is noticed by read or by the kernel, and closing ends it.
func (c *relayConn) write() {
	for {
		select {
		case buf := <-c.out:
			_, err := c.Write(buf)
			c.wrote <- err
		case <-c.quit:
			return
		}
	}
}

// close ends both goroutines and the connection.
func (c *relayConn) close() {
	c.once.Do(func() { close(c.quit); c.Conn.Close() })
	c.both.Wait()
}

// halfClose says that nothing more will be written.
func (c *relayConn) halfClose() {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite() // the answer to a connection that is gone comes from reading it
	}
}

// patience sets the deadline of each Read: a fixed point if there is one, else each from now.
type patience struct {
	net.Conn
	each  time.Duration
	fixed time.Time // read and set by the reading goroutine only
}

func (p *patience) until(t time.Time) { p.fixed = t }

// Read implements io.Reader.
func (p *patience) Read(b []byte) (int, error) {
	at := p.fixed
	if at.IsZero() {
		at = time.Now().Add(p.each)
	}
	if err := p.SetReadDeadline(at); err != nil {
		return 0, err
	}
	return p.Conn.Read(b)
}
