package replica

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// sideObject is what is stored beside the segments.
type sideObject struct {
	tag string
	sum schema.Hash // of what it holds but for the time; zero while that is not known
}

// writeSide stores what no row tells, if it has changed.
func (s *Shipper) writeSide(ctx context.Context) error {
	side, err := s.opts.Store.Side(ctx)
	if err != nil {
		return err
	}
	at, st := side.At, s.look()
	side.At = time.Time{}
	timeless, err := EncodeSide(Side{Side: *side, Sightings: st.waiting})
	if err != nil {
		return err
	}
	sum := schema.Hash(sha256.Sum256(timeless))
	if sum == s.side.sum {
		return nil
	}
	side.At = at
	stored, err := EncodeSide(Side{Epoch: st.epoch, Side: *side, Sightings: st.waiting, Seq: st.seq})
	if err != nil {
		return err
	}
	if s.side.sum.IsZero() {
		if _, s.side.tag, err = s.opts.Objects.Get(ctx, s.opts.Side()); err != nil && !errors.Is(err, objects.ErrNotFound) {
			return err
		}
	}
	tag, err := s.opts.Objects.Replace(ctx, s.opts.Side(), stored, s.side.tag)
	if err != nil {
		s.side.sum = schema.Hash{} // whatever is there: its tag is read again
		if errors.Is(err, objects.ErrConflict) {
			return errors.Join(err, s.fence(ctx))
		}
		return err
	}
	s.side = sideObject{tag: tag, sum: sum}
	return nil
}
