package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
)

const window = 1024 // unanswered offers of one observer or producer, as on the wire

// observers relay lists of blocks to one server, each over a connection of its own.
type observers struct {
	servers
	lists [][]block
	pace  time.Duration // from one block to the next of an observer; 0: as fast as it can
	apart bool          // the lists hold the same blocks: they start so far apart that no batch holds a block twice
}

// run measures them against a server of its own over the database.
func (o observers) run(ctx context.Context, dsn string) (result, error) {
	srv, err := o.launch(ctx, dsn)
	if err != nil {
		return result{}, err
	}
	defer func() { _ = srv.stop() }()
	conns := make([]*observer, len(o.lists))
	for i := range conns {
		if conns[i], err = connect(ctx, srv.addr, fmt.Sprintf("observer-%d", i)); err != nil {
			return result{}, err
		}
		defer conns[i].nc.Close() //nolint:revive // there are few
	}
	before, err := srv.used()
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	took, err := o.relay(conns)
	if err != nil {
		return result{}, err
	}
	elapsed := time.Since(start)
	after, err := srv.used()
	if err != nil {
		return result{}, err
	}
	r := measured(len(took), elapsed, after.CPU-before.CPU, took)
	r.rss = after.Peak
	return r, nil
}

// relay lets all of them send, and returns how long each ack took.
func (o observers) relay(conns []*observer) ([]time.Duration, error) {
	passed := make([]chan struct{}, len(conns)+1)
	for i := range passed {
		passed[i] = make(chan struct{})
	}
	close(passed[0])
	var (
		work errgroup.Group
		mu   sync.Mutex
		all  []time.Duration
	)
	for i, c := range conns {
		work.Go(func() error {
			c.pace, c.mark, c.passed = o.pace, min(2*window, len(o.lists[i])-1), passed[i+1]
			if o.apart {
				<-passed[i]
			}
			took, err := c.relay(o.lists[i])
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			return err
		})
	}
	return all, work.Wait()
}

// observer is one connection in relay mode.
type observer struct {
	nc     net.Conn
	dec    *netstring.Decoder
	pace   time.Duration
	mark   int           // once this block is sent,
	passed chan struct{} // passed is closed
}

func connect(ctx context.Context, addr, name string) (*observer, error) {
	var dialer net.Dialer
	nc, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	o := &observer{nc: nc, dec: netstring.NewDecoder(nc, wire.MaxFrame)}
	hello, err := wire.AppendHello(nil, wire.Hello{Observer: name, Chains: []uint64{benchChain}})
	if err == nil {
		_, err = nc.Write(netstring.Append(nil, hello))
	}
	if err == nil {
		err = o.welcomed()
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("greet: %w", err)
	}
	return o, nil
}

func (o *observer) welcomed() error {
	content, err := o.dec.Next()
	if err == nil && wire.Type(content) != wire.TypeWelcome {
		return errors.New(string(content))
	}
	return err
}

// once sends one block and waits for its ack.
func (o *observer) once(b block) error {
	_, err := o.nc.Write(b.frame)
	if err == nil {
		_, err = o.acked()
	}
	return err
}

// relay sends the blocks within the window and returns how long each ack took, from before the write of its frame.
func (o *observer) relay(list []block) ([]time.Duration, error) {
	sent := make(chan time.Time, window)
	took := make([]time.Duration, 0, len(list))
	both, ctx := errgroup.WithContext(context.Background()) // ends with whichever fails
	both.Go(func() error { return o.send(ctx, list, sent) })
	both.Go(func() error {
		for len(took) < len(list) {
			n, err := o.acked()
			if err != nil {
				o.nc.Close() // frees send
				return err
			}
			for range n {
				took = append(took, time.Since(<-sent))
			}
		}
		return nil
	})
	return took, both.Wait()
}

func (o *observer) send(ctx context.Context, list []block, sent chan<- time.Time) error {
	out := bufio.NewWriterSize(o.nc, 32<<10)
	begun := time.Now()
	for i := range list {
		if o.pace > 0 {
			time.Sleep(time.Until(begun.Add(time.Duration(i) * o.pace)))
		}
		select {
		case sent <- time.Now():
		default:
			if err := out.Flush(); err != nil { // the window is full: what is in it must go out
				return err
			}
			select {
			case sent <- time.Now():
			case <-ctx.Done():
				return nil
			}
		}
		if _, err := out.Write(list[i].frame); err != nil {
			return err
		}
		if o.pace > 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		if i == o.mark {
			close(o.passed)
		}
	}
	return out.Flush()
}

// acked waits for the next ack and returns how many frames it covers.
func (o *observer) acked() (int, error) {
	for {
		content, err := o.dec.Next()
		if err != nil {
			return 0, fmt.Errorf("wait for ack: %w", err)
		}
		switch wire.Type(content) {
		case wire.TypeAck:
			_, flags, err := wire.ParseAck(content)
			return len(flags), err
		case wire.TypePing:
		default:
			return 0, fmt.Errorf("wait for ack: %s", content)
		}
	}
}
