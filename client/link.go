package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/wire"
)

// link delivers what is in the outbox to one of the servers.
type link struct {
	o     Options
	log   logrus.FieldLogger
	box   outbox
	board *board
	tally *tally
	meet  *meeting
	dial  *dialer
	nodes witness
	wait  backoff
	said  map[string]bool // what was logged of the outage that lasts; at most maxSaid, then it starts anew
}

func newLink(o Options, box outbox, b *board, t *tally, m *meeting, nodes witness) *link {
	return &link{o: o, log: o.Log, box: box, board: b, tally: t, meet: m, dial: newDialer(o), nodes: nodes,
		wait: backoff{first: 250 * time.Millisecond, most: 10 * time.Second, rand: o.Rand}, said: map[string]bool{}}
}

// run delivers until ctx ends, and then for at most Options.Drain what is left. Its error is a server's final word, E
// stop.
func (l *link) run(ctx context.Context) error {
	hard, cancel := outlive(ctx, l.o.Drain)
	defer cancel()
	if l.o.Bare {
		l.runBare(ctx, hard)
		return nil
	}
	return l.runRelay(ctx, hard)
}

// outlive returns a context that ends d after ctx.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	hard, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-hard.Done():
		}
	})
	return hard, func() { stop(); cancel() }
}

// runRelay keeps one connection in relay mode.
func (l *link) runRelay(ctx, hard context.Context) error {
	if _, err := l.meet.chainID(ctx); err != nil {
		return nil // nothing was ever observed
	}
	var ahead <-chan opened
	opening, cancel := context.WithCancel(hard)
	defer func() { cancel(); discard(ahead) }()
	for !l.over(ctx, hard) {
		conn, err := l.next(opening, ahead)
		ahead = nil
		if err == nil {
			err = l.converse(ctx, opening, conn, &ahead)
		}
		if err := l.judge(ctx, hard, err); err != nil {
			return err
		}
	}
	return nil
}

// over tells whether run is to end: the time is up, or it was told to and nothing is left.
func (l *link) over(ctx, hard context.Context) bool {
	entries, _, _ := l.box.Depth()
	return hard.Err() != nil || ctx.Err() != nil && entries == 0
}

// lastPause is between attempts once Run was told to end.
const lastPause = 200 * time.Millisecond

// judge decides what the end of a connection means: nil to go on, after a pause if it was a failure.
func (l *link) judge(ctx, hard context.Context, err error) error {
	now := time.Now()
	var f *wire.Fatal
	switch {
	case err == nil, errors.Is(err, errMoveOn):
		l.tally.lost("", now)
		return nil
	case errors.As(err, &f) && !f.Retry:
		l.tally.lost(err.Error(), now)
		return fmt.Errorf("server says stop: %w", err)
	}
	l.tally.lost(err.Error(), now)
	pause := l.wait.next()
	log := l.log.WithError(err).WithField("pause", pause.Round(time.Millisecond).String())
	switch {
	case !l.news(err):
		log.Debug("still no connection")
	case errors.Is(err, errNoRelay):
		log.Error("no relay with this server")
	default:
		log.Warn("connection lost or not made")
	}
	if sleep(ctx, pause) != nil {
		_ = sleep(hard, lastPause) // told to end, there is little time left to try
	}
	return nil
}

// maxSaid bounds the failures that are remembered; their texts may hold a port that is another each time.
const maxSaid = 16

// news tells whether a failure is to be logged: the first of its kind since there was a connection, so that an outage
// does not fill the log.
func (l *link) news(err error) bool {
	if l.said[err.Error()] {
		return false
	}
	if len(l.said) == maxSaid {
		clear(l.said)
	}
	l.said[err.Error()] = true
	return true
}

// opened is a connection that was made ahead of its use, or why not.
type opened struct {
	conn *relayConn
	err  error
}

// next returns the connection that is being opened ahead, or opens one.
func (l *link) next(ctx context.Context, ahead <-chan opened) (*relayConn, error) {
	if ahead == nil {
		return l.open(ctx, "")
	}
	o := <-ahead // open always ends: each of its parts has a deadline
	return o.conn, o.err
}

// discard closes a connection that was opened ahead and is not needed.
func discard(ahead <-chan opened) {
	if ahead == nil {
		return
	}
	if o := <-ahead; o.conn != nil {
		o.conn.close()
	}
}

// open connects and gets to W.
func (l *link) open(ctx context.Context, avoid string) (*relayConn, error) {
	chainID, err := l.meet.chainID(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := l.dial.dial(ctx, avoid)
	if err != nil {
		return nil, err
	}
	hello := wire.Hello{Observer: l.o.Name, Chains: []uint64{chainID}, Caps: []string{}}
	if l.o.Raw {
		hello.Caps = append(hello.Caps, wire.CapRaw)
	}
	if l.o.Token != (keys.Token{}) {
		hello.Token = l.o.Token.Reveal()
	}
	c, err := openRelay(ctx, conn, hello)
	if err != nil {
		return nil, fmt.Errorf("server %s: %w", conn.RemoteAddr(), err)
	}
	return c, nil
}

// converse runs a session on the connection. A successor may be on its way in ahead when it returns.
func (l *link) converse(ctx, hard context.Context, conn *relayConn, ahead *<-chan opened) error {
	server := remote(conn)
	log := l.log.WithFields(logrus.Fields{"server": conn.welcome.Server, "session": conn.welcome.Session, "remote": server})
	log.Info("relaying")
	clear(l.said)
	began := time.Now()
	l.tally.connectedTo(conn.welcome.Server, began)
	l.meet.welcome(conn.welcome.Chains)
	s := &session{conn: conn, box: l.box, tally: l.tally, log: log, board: l.board, nodes: l.nodes}
	recycle := time.Duration(float64(l.o.Recycle) * (0.9 + 0.2*l.o.Rand()))
	err := s.serve(ctx, hard, recycle, func() { *ahead = l.openAhead(hard, server) })
	if s.healthy || time.Since(began) > l.wait.most {
		l.wait.reset()
	}
	if err != nil && !errors.Is(err, errMoveOn) {
		return fmt.Errorf("server %s: %w", server, err)
	}
	return err
}

// openAhead opens a connection elsewhere while an old one is still in use. Whoever gets the channel must read it once.
func (l *link) openAhead(ctx context.Context, avoid string) <-chan opened {
	c := make(chan opened, 1)
	go func() { // ends with open; its owner waits for it by reading c
		conn, err := l.open(ctx, avoid)
		c <- opened{conn, err}
	}()
	return c
}

func remote(c net.Conn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return ""
}
