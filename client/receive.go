package client

import (
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// receive takes one frame of the server. An error ends the connection.
func (s *session) receive(frame []byte, ahead func()) error {
	switch wire.Type(frame) {
	case wire.TypeAck:
		return s.ack(frame)
	case wire.TypeRefusal:
		return s.refusal(frame)
	case wire.TypePing:
		s.pong = true // one answer does for several
		return wire.ParseBare(frame, wire.TypePing)
	case wire.TypeDrain:
		within, err := wire.ParseDrain(frame)
		if err != nil {
			return err
		}
		s.log.WithField("within", within.String()).Info("server drains: moving on")
		// Leave before the server closes, so that the acks of its last moment are read.
		s.leave(min(within*9/10, maxDrain), ahead)
		return nil
	case wire.TypeFatal:
		return fatal(frame)
	}
	if wire.Skippable(frame) {
		return nil
	}
	return fmt.Errorf("server sent an unknown frame of %d bytes", len(frame))
}

// maxDrain bounds how long a server that drains keeps new blocks waiting.
const maxDrain = 15 * time.Second

// ack takes an A frame: everything up to n is durable.
func (s *session) ack(frame []byte) error {
	n, flags, err := wire.ParseAck(frame)
	if err != nil {
		return err
	}
	if n-uint64(len(flags)) != s.mark || len(flags) > len(s.unacked) {
		return fmt.Errorf("server acks %d frames up to %d, but %d are settled and %d on their way",
			len(flags), n, s.mark, len(s.unacked))
	}
	var first, duplicate uint64
	for _, flag := range flags {
		if flag == wire.FlagFirst {
			first++
		} else {
			duplicate++
		}
	}
	last := s.unacked[len(flags)-1].seq
	s.settle(len(flags))
	s.tally.acked(first, duplicate)
	s.box.Ack(last)
	return nil
}

// refusal takes an N frame: the data frame after the mark will never be stored.
func (s *session) refusal(frame []byte) error {
	r, err := wire.ParseRefusal(frame)
	if err != nil {
		return err
	}
	if r.N != s.mark+1 || len(s.unacked) == 0 {
		return fmt.Errorf("server refuses frame %d, but %d are settled and %d on their way", r.N, s.mark, len(s.unacked))
	}
	point := s.unacked[0].point
	s.settle(1)
	s.fail(point, r.Code, r.Text)
	return nil
}

// settle moves the mark over the n oldest frames.
func (s *session) settle(n int) {
	for _, p := range s.unacked[:n] {
		s.bytes -= p.size
	}
	s.unacked = s.unacked[n:]
	s.mark += uint64(n)
	s.healthy = true
}

// fail puts the outbox's oldest entry aside.
func (s *session) fail(point schema.Point, code wire.Code, text string) {
	s.box.Fail(fmt.Sprintf("%s: %s", code, text))
	s.tally.refusedOne(code)
	s.log.WithFields(logrus.Fields{"number": point.Number, "hash": point.Hash, "code": code, "reason": text}).
		Error("block refused for good: kept with the dead letters, not sent again")
}
