package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// bareContentType is what is known of a payload that comes without a word about itself.
const bareContentType = "application/octet-stream"

// bare is a connection in bare mode: every frame is a payload. It never writes: not an ack, not an error.
type bare struct {
	*conn
	ctx context.Context // ends when the time to end by itself is over; frames come on many goroutines
}

var errEmpty = errors.New("frame is empty")

func newBare(ctx context.Context, c *conn) bare {
	c.becomeBare()
	c.in.patience(0) // a client may send one payload an hour; TCP keepalive finds the dead ones
	c.srv.metrics.modes.WithLabelValues("bare").Inc()
	return bare{c, ctx}
}

// frame implements mode.
func (b bare) frame(content []byte) error {
	if len(content) == 0 {
		return errEmpty
	}
	return b.offerBare(b.ctx, content)
}

// rest implements mode.
func (bare) rest() {}

// end implements mode.
func (b bare) end(err error) {
	defer b.srv.metrics.modes.WithLabelValues("bare").Dec()
	var unstored *unstored
	switch {
	case errors.Is(err, errEmpty):
		b.refuseBare("empty", err.Error())
	case errors.As(err, &unstored):
		b.log().WithError(err).Warn("bare payload not stored, connection closed")
	default:
		b.endBare(err)
	}
}

// unstored is an offer that the store did not take.
type unstored struct {
	key schema.Key
	err error
}

func (e *unstored) Error() string { return fmt.Sprintf("offer payload %s: %v", e.key, e.err) }
func (e *unstored) Unwrap() error { return e.err }

func (c *conn) offerBare(ctx context.Context, content []byte) error {
	m, size := c.srv.metrics, len(content)
	m.frame("bare", "payload", size)
	c.srv.print.line(c.peer, content)
	payload := append([]byte(nil), content...)
	offer := &schema.Offer{
		Chain:       schema.BareChain,
		Key:         schema.PayloadKey(payload),
		ContentType: bareContentType,
		Payload:     payload,
		Server:      c.srv.opt.Name,
		Remote:      c.remote(),
		ReceivedAt:  c.srv.opt.Now().UTC(),
	}
	settled := m.offered("bare", size)
	err := c.srv.opt.Store.Offer(ctx, offer, func(s schema.Settlement) {
		settled(s.Outcome)
		switch s.Outcome {
		case schema.Refused:
			c.srv.refuse(Refusal{
				Mode: "bare", Remote: c.peer.String(), Key: offer.Key, Bytes: size, Code: string(wire.CodeData), Reason: s.Reason,
			})
		case schema.Unsettled:
			c.log().WithField("key", offer.Key).WithField("reason", s.Reason).Warn("bare payload unsettled")
		}
	})
	if err != nil {
		settled(schema.Unsettled)
		return &unstored{offer.Key, err}
	}
	return nil
}

// endBare ends a connection that is in bare mode or said too little to be in any.
func (c *conn) endBare(err error) {
	switch why := c.why(err); why {
	case whyEOF, whyStopped, whyBroken, whySilence:
		c.log().WithField("reason", why).Debug("bare connection ended")
	default:
		c.refuseBare(why, err.Error())
	}
}

// refuseBare ends a connection at a frame that is no payload. What was stored before stays so. The client must not see
// a reset, which would look as if the frames before were lost too; so what it still sends is read and thrown away.
func (c *conn) refuseBare(why, text string) {
	c.srv.metrics.refused.WithLabelValues(why).Inc()
	c.log().WithField("reason", why).Info("bare frame refused: " + text)
	c.linger(bareLingerTime, lingerBytes)
}
