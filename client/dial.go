package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// dialEach bounds the attempt on one address, and each look-up of a name.
const dialEach = 3 * time.Second

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
}

func newDialer(o Options) *dialer {
	return &dialer{o.Servers, o.Rand, net.DefaultResolver.LookupHost, tcpDialer.DialContext}
}

// dial returns the first connection that can be made. The address to avoid, of a server that asked to be left alone,
// comes last.
func (d *dialer) dial(ctx context.Context, avoid string) (net.Conn, error) {
	addresses, errs := d.resolve(ctx)
	d.shuffle(addresses)
	for i, a := range addresses {
		if a == avoid {
			addresses = append(append(addresses[:i:i], addresses[i+1:]...), a)
			break
		}
	}
	for _, a := range addresses {
		each, cancel := context.WithTimeout(ctx, dialEach)
		conn, err := d.connect(each, "tcp", a)
		cancel()
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

func (d *dialer) resolve(ctx context.Context) (addresses []string, errs []error) {
	seen := map[string]bool{}
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
			if a := net.JoinHostPort(h, port); !seen[a] {
				seen[a] = true
				addresses = append(addresses, a)
			}
		}
	}
	return addresses, errs
}

// shuffle is Fisher and Yates's, on the injected source.
func (d *dialer) shuffle(list []string) {
	for i := len(list) - 1; i > 0; i-- {
		j := int(d.rand() * float64(i+1))
		list[i], list[j] = list[j], list[i]
	}
}
