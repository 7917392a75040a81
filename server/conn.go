package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
)

// conn is one connection. One goroutine at a time has it: one that hears what is said, or, while nothing is, one that
// does nothing but wait, which costs half as much memory. Each starts the other when its time has come, and ends.
type conn struct {
	srv  *Server
	raw  net.Conn  // the socket
	tls  *tls.Conn // on raw; nil on a plain port
	nc   net.Conn  // either of them, what frames go through
	in   *inbox
	dec  *netstring.Decoder
	mode mode           // nil while undecided
	peer netip.AddrPort // the client's, whoever brought it; IPv4 even where the socket is IPv6; changed under mu

	mu       sync.Mutex // guards what follows: draining arrives from Run's goroutine
	relay    *relay     // nil in bare mode and while undecided
	bare     bool       // in bare mode
	draining bool
}

func newConn(s *Server, raw net.Conn, config *tls.Config) *conn {
	c := &conn{srv: s, raw: raw, nc: raw, peer: addrPort(raw.RemoteAddr())}
	if config != nil {
		c.tls = tls.Server(raw, config)
		c.nc = tlsConn{c.tls}
	}
	c.in = &inbox{nc: c.nc, from: origin(c.peer.Addr()), places: s.strangers}
	c.dec = netstring.NewDecoder(c.in, wire.MaxFrame)
	return c
}

// log is made anew at each use: thousands of idle connections need no logger each.
func (c *conn) log() logrus.FieldLogger { return c.srv.opt.Log.WithField("remote", c.peer.String()) }

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	p := tcp.AddrPort()
	return netip.AddrPortFrom(p.Addr().Unmap().WithZone(""), p.Port())
}

// remote is the client's address as records keep it.
func (c *conn) remote() string { return c.peer.Addr().String() }

// mode is what becomes of frames once the first one has told.
type mode interface {
	// frame takes a frame's content, which is valid until it returns. After an error there are no more.
	frame(content []byte) error
	// rest gives back memory that is not needed until the next frame.
	rest()
	// end says farewell to the client after an error of frame or next.
	end(err error)
}

// limits are the contexts that end when the time to drain each mode is over.
type limits struct{ relay, bare context.Context }

// serve takes the connection from its first byte to its end, when it is closed and forgotten. It returns when the
// connection begins to doze.
func (c *conn) serve(l *limits) {
	if !c.enter(l.bare) {
		c.over()
		return
	}
	c.in.patience(c.srv.firstFrame())
	c.hear(l)
}

// hear takes what is said until nothing more comes: for now, or ever.
func (c *conn) hear(l *limits) {
	for {
		content, err := c.next()
		switch {
		case errors.Is(err, errQuiet):
			if c.mode != nil {
				c.mode.rest()
			}
			go c.doze(l)
			return
		case err == nil && c.mode == nil:
			err = c.decide(l, content)
		case err == nil:
			err = c.mode.frame(content)
		}
		if err != nil {
			c.leave(err)
			return
		}
	}
}

// doze waits until something is said, or it is too late for that.
func (c *conn) doze(l *limits) {
	c.in.doze()
	go c.hear(l)
}

// decide finds out the mode by the first frame.
func (c *conn) decide(l *limits, first []byte) error {
	switch {
	case wire.IsHello(first):
		r := newRelay(l.relay, c)
		c.mode = r
		return r.open(first)
	case !c.mayBare():
		return errNoBare
	default:
		c.mode = newBare(l.bare, c)
		return c.mode.frame(first)
	}
}

func (c *conn) leave(err error) {
	defer c.over()
	switch {
	case c.mode != nil:
		c.mode.end(err)
	case errors.Is(err, errNoBare):
		c.refuseBareMode()
	default:
		c.endBare(err)
	}
}

// over closes and forgets the connection.
func (c *conn) over() {
	c.in.release()
	c.nc.Close()
	c.srv.remove(c)
}

// Why a goroutine lets go of a connection besides its end.
var (
	errQuiet  = errors.New("nothing is said")
	errNoBare = errors.New("bare mode is off for this address")
)

// next returns the content of the next frame, valid until it is called again. After errQuiet it may be called again.
func (c *conn) next() ([]byte, error) {
	c.in.between()
	if err := c.dec.Wait(); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) && c.in.rest() {
			return nil, errQuiet
		}
		return nil, err
	}
	c.in.begin()
	content, err := c.dec.Next()
	if err != nil {
		c.in.vacate() // now, and not after a farewell that may take its time
	}
	return content, err
}

// Why no more frames come. The words are also values of a metric's label.
const (
	whyEOF       = "eof"
	whyStopped   = "stopped"   // by this server
	whySilence   = "silence"   // no first byte in time
	whyTimeout   = "timeout"   // begun and not completed in time
	whyTruncated = "truncated" // EOF inside a frame
	whyTooLarge  = "too_large"
	whySyntax    = "syntax"
	whyBroken    = "broken" // the connection failed
)

// why classifies an error of next.
func (c *conn) why(err error) string {
	var syntax *netstring.SyntaxError
	switch {
	case errors.Is(err, netstring.ErrTooLarge):
		return whyTooLarge
	case errors.As(err, &syntax):
		return whySyntax
	case errors.Is(err, io.ErrUnexpectedEOF):
		return whyTruncated
	case errors.Is(err, io.EOF):
		return whyEOF
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return whyBroken
	case c.in.stopped():
		return whyStopped
	case c.in.inFrame():
		return whyTimeout
	}
	return whySilence
}

// becomeRelay makes r known to drain and sends its W, so that no G comes before it. It returns false if the server is
// draining already.
func (c *conn) becomeRelay(r *relay, welcome []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining {
		return false
	}
	c.relay = r
	c.in.places = c.srv.sessions
	r.out.start(welcome)
	return true
}

// linger ends the connection without a reset: it half-closes and then reads on, so that Close finds no unread input,
// until the peer closes too, limit has passed or so many bytes have come.
func (c *conn) linger(limit time.Duration, bytes int64) {
	c.in.between()
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	if c.nc.SetReadDeadline(time.Now().Add(limit)) != nil {
		return
	}
	io.Copy(io.Discard, io.LimitReader(c.nc, bytes)) //nolint:errcheck // whatever comes is thrown away, errors included
}
