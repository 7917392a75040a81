package server

import (
	"context"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// bareContentType is what is known of a payload that comes without a word about itself.
const bareContentType = "application/octet-stream"

// serveBare stores every frame as a payload. It never writes: not an ack, not an error. ctx ends when the time for bare
// connections to end by themselves is over.
func (c *conn) serveBare(ctx context.Context, first []byte) {
	c.becomeBare()
	c.in.patience(0) // a client may send one payload an hour; TCP keepalive finds the dead ones
	content := first
	for {
		if len(content) == 0 {
			c.refuseBare("empty", "frame is empty")
			return
		}
		if err := c.offerBare(ctx, content); err != nil {
			c.log().WithError(err).Warn("bare payload not stored, connection closed")
			return
		}
		var err error
		if content, err = c.next(); err != nil {
			c.endBare(err)
			return
		}
	}
}

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
		if s.Outcome == schema.Refused || s.Outcome == schema.Unsettled {
			c.log().WithField("key", offer.Key).WithField("reason", s.Reason).Warn("bare payload " + s.Outcome.String())
		}
	})
	if err != nil {
		settled(schema.Unsettled)
		return fmt.Errorf("offer payload %s: %w", offer.Key, err)
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
