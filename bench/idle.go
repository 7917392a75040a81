package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"text/tabwriter"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

const idleConns = 10_000

// idle tells what so many connections that say nothing, after they have sent one frame, cost a server's process: its live
// memory and what of it is resident. The kernel's share, the sockets, is not in it.
func idle(ctx context.Context, s servers, n int) error {
	fmt.Printf("\n%d idle connections to a server\n", n)
	b, err := mine(0, schema.Hash{})
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "mode\tlive bytes each\tresident bytes each")
	for _, mode := range []struct {
		name string
		join func(ctx context.Context, addr string, i int) (net.Conn, error)
	}{
		{"relay", func(ctx context.Context, addr string, i int) (net.Conn, error) {
			o, err := connect(ctx, addr, fmt.Sprintf("observer-%d", i))
			if err != nil {
				return nil, err
			}
			return o.nc, o.once(b)
		}},
		{"bare", func(ctx context.Context, addr string, i int) (net.Conn, error) {
			nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
			if err == nil {
				_, err = nc.Write(netstring.Append(nil, fmt.Appendf(nil, "<p>%d</p>", i)))
			}
			return nc, err
		}},
	} {
		live, resident, err := idling(ctx, s, n, mode.join)
		if err != nil {
			return fmt.Errorf("%s: %w", mode.name, err)
		}
		_, _ = fmt.Fprintf(w, "%s\t%d\t%d\n", mode.name, live, resident)
	}
	return w.Flush()
}

func idling(ctx context.Context, s servers, n int, join func(context.Context, string, int) (net.Conn, error)) (live, resident int64, err error) {
	srv, err := s.launch(ctx, "")
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = srv.stop() }()
	conns := make([]net.Conn, n)
	defer func() {
		for _, nc := range conns {
			if nc != nil {
				nc.Close()
			}
		}
	}()
	before, err := srv.used()
	if err != nil {
		return 0, 0, err
	}
	var joining errgroup.Group
	joining.SetLimit(64)
	for i := range conns {
		joining.Go(func() (err error) {
			conns[i], err = join(ctx, srv.addr, i)
			return err
		})
	}
	if err := joining.Wait(); err != nil {
		return 0, 0, err
	}
	for {
		after, err := srv.used()
		if err != nil {
			return 0, 0, err
		}
		if after.Conns == n {
			time.Sleep(2 * time.Second) // first frames of the last ones, and until the server takes them for idle
			after, err = srv.used()
			return (after.Live - before.Live) / int64(n), (after.RSS - before.RSS) / int64(n), err
		}
	}
}
