package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/firstseen/firstseen/netstring"
)

const (
	bareWrite = 10 * time.Second // to write one frame
	bareClose = 5 * time.Second  // to wait for the server's close after ours
)

// runBare speaks to an original server: one connection per frame, one at a time. Such a server takes one connection
// after the other, closes each after its first frame and says nothing, so the next frame waits for that close. There
// are no acks: an entry counts as delivered when the server closed in good order.
func (l *link) runBare(ctx, hard context.Context) {
	var done uint64
	for !l.over(ctx, hard) {
		e, ok := l.box.After(done)
		if !ok {
			select {
			case <-l.box.More():
			case <-ctx.Done():
			}
			continue
		}
		if err := l.sendBare(hard, e.frame); err != nil {
			_ = l.judge(ctx, hard, err)
			continue
		}
		done = e.seq
		l.wait.reset()
		clear(l.said)
		l.tally.sentFrames(1)
		l.box.Ack(done)
	}
	l.tally.lost("", time.Now())
}

// sendBare delivers one payload on a connection of its own.
func (l *link) sendBare(ctx context.Context, payload []byte) error {
	conn, err := l.dial.dial(ctx, "")
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	l.tally.reaches(remote(conn), time.Now())
	if err := conn.SetDeadline(time.Now().Add(bareWrite)); err != nil {
		return err
	}
	if _, err := conn.Write(netstring.Append(nil, payload)); err != nil {
		return fmt.Errorf("server %s: write: %w", remote(conn), err)
	}
	return awaitClose(conn)
}

// awaitClose half-closes and reads until the server closes. One that does not within bareClose has everything all the
// same, since it confirmed what TCP brought it; one that resets may have thrown it away.
func awaitClose(conn net.Conn) error {
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		if err := half.CloseWrite(); err != nil {
			return fmt.Errorf("server %s: close: %w", remote(conn), err)
		}
	}
	if err := conn.SetReadDeadline(time.Now().Add(bareClose)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("server %s: wait for its close: %w", remote(conn), err)
	}
	return nil
}
