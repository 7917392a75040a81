package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// dialEach bounds the attempt on one address, and each look-up of a name.
const dialEach = 3 * time.Second

// shakeEach bounds the agreement on TLS, as servers do. It may take long where a crowd comes back: the address has shown
// that it lives, and whoever gives up and comes again has the server do the work twice.
const shakeEach = 10 * time.Second

// tcpDialer makes every TCP connection of the client. A peer that vanished without a word is found out by keep-alive
// and, where the system has it, TCP_USER_TIMEOUT.
var tcpDialer = net.Dialer{Timeout: dialEach, Control: userTimeout}

// dialer finds a server. It looks the names up at each attempt and tries the addresses in random order, because the
// system's own order would send every observer to the same one.
type dialer struct {
	servers []string // host:port
	rand    func() float64
	lookup  func(ctx context.Context, host string) ([]string, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)
	tls     func(name string) *tls.Config // nil: none
}

func newDialer(o Options) *dialer {
	return &dialer{o.Servers, o.Rand, net.DefaultResolver.LookupHost, tcpDialer.DialContext, o.TLS}
}

// place is an address of a server, and the name that led to it, for which its certificate must be good.
type place struct{ address, name string }

// dial returns the first connection that can be made. The address to avoid, of a server that asked to be left alone,
// comes last.
func (d *dialer) dial(ctx context.Context, avoid string) (net.Conn, error) {
	places, errs := d.resolve(ctx)
	d.shuffle(places)
	for i, p := range places {
		if p.address == avoid {
			places = append(append(places[:i:i], places[i+1:]...), p)
			break
		}
	}
	for _, p := range places {
		conn, err := d.reach(ctx, p)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return nil, fmt.Errorf("no server can be reached: %w", errors.Join(errs...))
}

// reach connects to one address and, where it is asked for, agrees on TLS there.
func (d *dialer) reach(ctx context.Context, p place) (net.Conn, error) {
	each, cancel := context.WithTimeout(ctx, dialEach)
	conn, err := d.connect(each, "tcp", p.address)
	cancel()
	if err != nil || d.tls == nil {
		return conn, err
	}
	secure := tls.Client(conn, d.tls(p.name))
	each, cancel = context.WithTimeout(ctx, shakeEach)
	defer cancel()
	if err := secure.HandshakeContext(each); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS with %s (%s): %w", p.name, p.address, explain(err))
	}
	return secure, nil
}

// explain adds to a failed handshake what may be set to have it succeed.
func explain(err error) error {
	var foreign x509.UnknownAuthorityError
	var name x509.HostnameError
	switch {
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w, which is what a port without TLS answers", err)
	case errors.As(err, &foreign):
		return fmt.Errorf("%w (--tls-ca names the authorities to trust)", err)
	case errors.As(err, &name):
		return fmt.Errorf("%w (--tls-name sets the name to expect)", err)
	}
	return err
}

func (d *dialer) resolve(ctx context.Context) (places []place, errs []error) {
	seen := map[place]bool{}
	for _, s := range d.servers {
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		each, cancel := context.WithTimeout(ctx, dialEach)
		hosts, err := d.lookup(each, host)
		cancel()
		if err != nil {
			errs = append(errs, err)
		}
		for _, h := range hosts {
			p := place{net.JoinHostPort(h, port), host}
			if d.tls == nil {
				p.name = "" // nobody asks for it: two names of one address are one place
			}
			if !seen[p] {
				seen[p] = true
				places = append(places, p)
			}
		}
	}
	return places, errs
}

// shuffle is Fisher and Yates's, on the injected source.
func (d *dialer) shuffle(list []place) {
	for i := len(list) - 1; i > 0; i-- {
		j := int(d.rand() * float64(i+1))
		list[i], list[j] = list[j], list[i]
	}
}
