package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

const (
	statusEvery  = 5 * time.Second
	statusWithin = time.Second      // of a new head, if its block is not acked sooner
	chunk        = 64 << 10         // bytes of D frames per write, about
	recycleGrace = 10 * time.Second // to collect acks on a connection that is replaced
	farewell     = 2 * time.Second  // from B to the server's close
)

// errMoveOn reports a connection that came to its orderly end while there is more to do: drained by the server, or
// recycled.
var errMoveOn = errors.New("connection replaced")

// errClosed reports a server that closed without saying why.
var errClosed = errors.New("server closed the connection")

// session is one connection's life: data frames go out as far as the window allows, and their outcomes come back in
// order. It belongs to one goroutine, which never blocks on the network.
type session struct {
	conn  *relayConn
	box   outbox
	tally *tally
	log   logrus.FieldLogger
	board *board
	nodes witness

	cursor   uint64    // seq of the entry sent last
	unacked  []pending // data frames mark+1, mark+2 …, oldest first
	bytes    int       // of their contents
	mark     uint64    // data frames settled
	idle     bool      // the writer waits for a buffer
	pong     bool      // owed
	fresh    bool      // there is a status that the server has not heard
	due      bool      // it must not wait any longer
	told     uint64    // transitions of nodes that went out on this connection
	leaving  bool      // no new data frames here
	ending   bool      // Run ends: leave once the outbox is empty
	byeOwed  bool
	byeSaid  bool
	healthy  bool
	statusAt *time.Timer
	leaveAt  *time.Timer // when to stop waiting for acks, then for B to be written; stopped before
}

// witness is what a status tells of the nodes, besides heads.
type witness interface {
	Views() []schema.NodeView
	// Events returns transitions that were not asked for yet, the oldest first, at most most.
	Events(most int) []schema.NodeEvent
}

// pending is a data frame on its way.
type pending struct {
	seq   uint64
	size  int
	point schema.Point
}

// serve runs the session until the connection ends. ahead is called once, when a successor should be opened while the
// rest of the acks are collected. After ctx the session delivers what it can until hard ends, and returns nil; it
// returns errMoveOn after an orderly end of another kind.
func (s *session) serve(ctx, hard context.Context, recycle time.Duration, ahead func()) error {
	defer s.conn.close()
	s.idle, s.fresh = true, true
	s.statusAt = time.NewTimer(statusWithin)
	s.leaveAt = time.NewTimer(recycle)
	s.leaveAt.Stop()
	old := time.NewTimer(recycle)
	defer s.statusAt.Stop()
	defer s.leaveAt.Stop()
	defer old.Stop()
	done, late := ctx.Done(), hard.Done()
	for {
		if s.finished() {
			return s.part()
		}
		s.push()
		select {
		case err := <-s.conn.wrote:
			if s.idle = true; err != nil {
				return s.broken(fmt.Errorf("write: %w", err), time.Second)
			}
		case frame := <-s.conn.in:
			if err := s.receive(frame, ahead); err != nil {
				return err
			}
		case err := <-s.conn.ended:
			s.conn.ended <- err
			return s.broken(err, 0)
		case <-s.box.More():
		case <-s.board.changed:
			s.news()
		case <-s.statusAt.C:
			s.due = true
		case <-old.C:
			s.log.Info("connection is old: replacing it")
			s.leave(recycleGrace, ahead)
		case <-s.leaveAt.C:
			if s.byeOwed { // and could not be written in time
				return s.parted()
			}
			s.bye()
		case <-late:
			late = nil
			s.bye()
		case <-done:
			done, s.ending = nil, true
		}
	}
}

// news has a status sent soon.
func (s *session) news() {
	if !s.fresh {
		s.fresh = true
		s.statusAt.Reset(statusWithin)
	}
}

// bye ends the session with what is settled so far. The writer may be stuck; it gets a moment.
func (s *session) bye() {
	s.byeOwed = true
	s.leaveAt.Reset(farewell)
}

// listen takes what the server still says until the connection ends, for at most d. An error is the server's reason.
func (s *session) listen(d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		select {
		case frame := <-s.conn.in:
			if err := s.receive(frame, func() {}); err != nil {
				return err
			}
			continue
		default:
		}
		select {
		case frame := <-s.conn.in:
			if err := s.receive(frame, func() {}); err != nil {
				return err
			}
		case err := <-s.conn.ended: // after its last frame was put into in
			s.conn.ended <- err
			if len(s.conn.in) == 0 {
				return nil
			}
		case <-timer.C:
			return nil
		}
	}
}

// broken is the outcome of a connection that ended by itself. Behind our own B that is no loss: the server was quick to
// answer it.
func (s *session) broken(err error, wait time.Duration) error {
	err = s.lastWords(err, wait)
	if s.byeSaid {
		return s.parted()
	}
	return err
}

// lastWords returns why a broken connection ended: what the server said of it, else err.
func (s *session) lastWords(err error, wait time.Duration) error {
	if why := s.listen(wait); why != nil {
		return why
	}
	if errors.Is(err, io.EOF) {
		return errClosed
	}
	return err
}

// leave stops new data frames here and has a successor opened.
func (s *session) leave(within time.Duration, ahead func()) {
	if s.leaving || s.ending {
		return
	}
	s.leaving = true
	s.leaveAt.Reset(within)
	ahead()
}

// finished tells whether nothing is left to do on this connection but to part.
func (s *session) finished() bool {
	if s.byeSaid {
		return s.idle
	}
	entries, _, _ := s.box.Depth()
	if !s.byeOwed && (s.leaving && len(s.unacked) == 0 || s.ending && entries == 0) {
		s.bye()
	}
	return false
}

// part half-closes after B and reads on until the server closes, so that no outcome that is on its way is lost.
func (s *session) part() error {
	s.conn.halfClose()
	_ = s.listen(farewell) // whatever it says now, the connection is over
	return s.parted()
}

// parted is the outcome of an orderly end.
func (s *session) parted() error {
	if s.ending {
		return nil
	}
	return errMoveOn
}

// push gives the writer, if it is idle, all that can go now: what is owed first, then data frames, then status.
func (s *session) push() {
	if !s.idle || s.byeSaid {
		return
	}
	var buf []byte
	if s.pong {
		s.pong = false
		buf = netstring.Append(buf, wire.AppendPong(nil))
	}
	buf = s.appendData(buf)
	buf = s.appendStatus(buf)
	if s.byeOwed {
		s.byeSaid = true
		buf = netstring.Append(buf, wire.AppendBye(nil))
	}
	if len(buf) > 0 {
		s.idle = false
		s.conn.out <- buf
	}
}

// appendData appends as many data frames as the window has room for, and one in any case when nothing is on its way.
func (s *session) appendData(buf []byte) []byte {
	var sent int
	for !s.leaving && !s.byeOwed && len(buf) < chunk {
		e, ok := s.box.After(s.cursor)
		if !ok {
			break
		}
		frame := s.frame(e)
		size := len(frame)
		if size > s.conn.welcome.MaxFrame {
			if len(s.unacked) > 0 {
				break // the outbox gives up its oldest entry only
			}
			s.cursor = e.seq
			s.fail(e.point, wire.CodeSize, fmt.Sprintf("%d bytes, the server takes %d", size, s.conn.welcome.MaxFrame))
			continue
		}
		if len(s.unacked) > 0 && (len(s.unacked) >= min(s.conn.welcome.WindowFrames, wire.WindowFrames) ||
			s.bytes+size > min(s.conn.welcome.WindowBytes, wire.WindowBytes)) {
			break
		}
		s.cursor = e.seq
		s.unacked = append(s.unacked, pending{e.seq, size, e.point})
		s.bytes += size
		buf = netstring.Append(buf, frame)
		sent++
	}
	s.tally.sentFrames(sent)
	return buf
}

// frame is an entry as this server takes it: without its raw part where that was not agreed on, or does not fit.
func (s *session) frame(e entry) []byte {
	if s.conn.raw && len(e.frame) <= s.conn.welcome.MaxFrame {
		return e.frame
	}
	frame, err := wire.WithoutRaw(e.frame)
	if err != nil { // it was not made here; what the server says of it goes into the dead letters
		return e.frame
	}
	return frame
}

// appendStatus appends a status when it is due. News wait a moment for the ack of the blocks before them: a head that
// the server has not stored yet tells it nothing.
func (s *session) appendStatus(buf []byte) []byte {
	if s.byeOwed || !s.due && !(s.fresh && len(s.unacked) == 0 && len(buf) == 0) {
		return buf
	}
	s.due, s.fresh = false, false
	s.statusAt.Reset(statusEvery)
	report := s.board.report()
	for _, v := range s.nodes.Views() {
		if v.Chain != 0 && len(report.Nodes) < wire.MaxNodes {
			report.Nodes = append(report.Nodes, v)
		}
	}
	report.Events, s.told = s.board.transitions(s.told, s.nodes.Events(wire.MaxEvents))
	content, err := wire.AppendStatus(nil, report)
	if err != nil { // too much to say of the nodes must not keep the heads back
		s.log.WithError(err).Error("status goes without its nodes")
		report.Nodes, report.Events = nil, nil
		content, err = wire.AppendStatus(nil, report)
	}
	if err != nil {
		s.log.WithError(err).Error("status cannot be sent")
		return buf
	}
	return netstring.Append(buf, content)
}
