package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/pires/go-proxyproto"
)

// door is one port. What comes through it speaks TLS from its first byte, or none at all: nothing is guessed from what a
// client sends, so nobody is let in without TLS by oversight.
type door struct {
	ln  net.Listener
	tls *tls.Config // nil: plain text
}

// openDoors listens on every address of the options. After an error nothing is left open.
func openDoors(o Options) ([]door, error) {
	wanted := []struct {
		addr string
		tls  *tls.Config
	}{{o.Addr, o.TLS}, {o.PlainAddr, nil}}
	var doors []door
	for _, w := range wanted {
		if w.addr == "" {
			continue
		}
		ln, err := listen(w.addr)
		if err != nil {
			closeDoors(doors)
			return nil, fmt.Errorf("listen on %s: %w", w.addr, err)
		}
		doors = append(doors, door{ln, quietTLS(w.tls)})
	}
	return doors, nil
}

func closeDoors(doors []door) {
	for _, d := range doors {
		d.ln.Close()
	}
}

// quietTLS keeps TLS 1.3 from sending session tickets behind the handshake. A bare client never reads them, and one that
// closes with unread input sends a reset, which destroys what it has sent. Nobody misses them: connections last.
func quietTLS(config *tls.Config) *tls.Config {
	if config == nil {
		return nil
	}
	config = config.Clone()
	config.SessionTicketsDisabled = true
	if choose := config.GetConfigForClient; choose != nil {
		config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			chosen, err := choose(hello)
			if chosen == nil || err != nil {
				return nil, err
			}
			chosen = chosen.Clone()
			chosen.SessionTicketsDisabled = true
			return chosen, nil
		}
	}
	return config
}

// tlsConn is a TLS connection that tells an end without TLS's own farewell from one inside a frame. Netstrings carry their
// lengths, so nobody can cut a stream short unnoticed; RFC 8446, section 6.1, leaves it to such protocols.
type tlsConn struct{ *tls.Conn }

// Read implements io.Reader.
func (c tlsConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// Why a connection did not get as far as its first frame, or not beyond. The words are also values of a metric's label.
const (
	whyProxy = "proxy" // no PROXY header, or a bad one, from a proxy
	whyTLS   = "tls"   // no TLS, or not as it must be
	whyBare  = "bare"  // bare mode from where it may not come
)

// enter does what comes before the first frame: whom a proxy brings is asked of the proxy, and TLS is agreed on. It
// returns false when that fails; the connection is over then. ctx ends when the time to drain is over.
func (c *conn) enter(ctx context.Context) bool {
	if why, err := c.unlock(ctx); err != nil {
		log := c.log().WithField("reason", why).WithError(err)
		if errors.Is(err, io.EOF) { // came and went, as balancers do that look whether somebody is there
			log.Debug("connection ended before it began")
			return false
		}
		c.srv.metrics.turnedAway.WithLabelValues(why).Inc()
		log.Info("connection refused")
		return false
	}
	return true
}

func (c *conn) unlock(ctx context.Context) (why string, err error) {
	if contains(c.srv.opt.ProxyFrom, c.peer.Addr()) {
		if err := c.askProxy(); err != nil {
			return whyProxy, err
		}
	}
	if c.tls == nil {
		return "", nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTime)
	defer cancel()
	return whyTLS, c.tls.HandshakeContext(ctx)
}

func contains(networks []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// proxyFixed is how long the part of a PROXY header is that every one has.
const proxyFixed = 16

// askProxy takes the PROXY header, version 2, that a trusted proxy sends before anything else (haproxy's
// proxy-protocol.txt, section 2.2), and makes the address in it that of the client. Version 1 is refused: its length
// is known only once it has been read, and whoever speaks it can speak version 2. Exactly the header is read and no byte
// more, so that nothing needs to be buffered afterwards.
func (c *conn) askProxy() error {
	if err := c.raw.SetReadDeadline(time.Now().Add(proxyTime)); err != nil {
		return err
	}
	header := make([]byte, proxyFixed, proxyFixed+64)
	if _, err := io.ReadFull(c.raw, header); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint16(header[14:]))
	if !bytes.HasPrefix(header, proxyproto.SIGV2) || size > proxyMost {
		return errors.New("a trusted proxy must send a PROXY header of version 2 and of at most 4 KiB first")
	}
	header = append(header, make([]byte, size)...)
	if _, err := io.ReadFull(c.raw, header[proxyFixed:]); err != nil {
		return noEOF(err)
	}
	parsed, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(header)))
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	if parsed.Command.IsProxy() { // else the proxy speaks for itself, to see whether somebody is there
		peer := addrPort(parsed.SourceAddr)
		if !peer.Addr().IsValid() || parsed.TransportProtocol.IsDatagram() {
			return errors.New("PROXY header: not of a TCP connection")
		}
		c.mu.Lock()
		c.peer, c.in.from = peer, origin(peer.Addr())
		c.mu.Unlock()
	}
	return c.in.lift() // which knows whether this server drains
}

// noEOF is for an end where something was promised.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// mayBare tells whether the connection may speak bare mode.
func (c *conn) mayBare() bool {
	o := &c.srv.opt
	return !o.NoBare && (len(o.BareFrom) == 0 || contains(o.BareFrom, c.peer.Addr()))
}

// refuseBareMode ends a connection that may not speak bare mode as a bare one ends at a bad frame: without a word.
func (c *conn) refuseBareMode() {
	c.srv.metrics.turnedAway.WithLabelValues(whyBare).Inc()
	c.log().WithField("reason", whyBare).Info("connection refused: bare mode is off for this address")
	c.linger(bareLingerTime, lingerBytes)
}
