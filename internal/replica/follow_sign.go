package replica

import (
	"context"
	"errors"
	"time"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/store"
)

// watch reads the writer's sign of life and what no row tells, every few seconds until ctx ends.
func (s *session) watch(ctx context.Context) {
	tick := time.NewTicker(s.opts.Sign)
	defer tick.Stop()
	var side string // the tag of the last one applied
	failing := false
	for {
		s.readSign(ctx)
		tag, err := s.readSide(ctx, side)
		if err != nil && !failing && ctx.Err() == nil {
			s.log.WithError(err).Warn("what the writer's nodes and clients are is not taken over, will try until it is")
		}
		side, failing = tag, err != nil
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// readSign reads the checkpoint. That it cannot be read is told by the lag, which is then unknown.
func (s *session) readSign(ctx context.Context) {
	began := s.opts.Now()
	body, _, err := s.opts.Objects.Get(ctx, s.names.Writer())
	var c Checkpoint
	if err == nil {
		c, err = DecodeCheckpoint(body)
	}
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, objects.ErrNotFound):
		s.state.unsigned()
	case err != nil:
		s.state.trouble(&obstacle{what: whyStore, key: s.names.Writer(), err: err})
	default:
		s.state.settle(s.names.Writer())
		if s.state.signed(c, began) {
			s.poke() // there is more than what was taken for the end
		}
	}
}

// readSide applies the side object when it is another than the one before, and returns the tag of the one that is applied.
// It can wait: nothing depends on it. That the object store does not answer, the checkpoint tells.
func (s *session) readSide(ctx context.Context, last string) (string, error) {
	body, tag, err := s.opts.Objects.Get(ctx, s.names.Side())
	if err != nil || tag == last || s.state.current().Seq == 0 {
		return last, nil //nolint:nilerr // see above
	}
	side, err := DecodeSide(body)
	if err == nil {
		err = s.opts.Store.ApplySide(ctx, &side.Side)
	}
	if err == nil && len(side.Sightings) > 0 {
		place := s.state.current()
		if place.Seq < side.Seq {
			return last, nil // not all of them have their record
		}
		_, err = s.opts.Store.Apply(ctx, &store.Application{Believed: &place, After: place, Sightings: side.Sightings})
		if errors.Is(err, store.ErrReplicaMoved) {
			return last, nil // a segment came between
		}
	}
	if err != nil {
		return last, err
	}
	return tag, nil
}
