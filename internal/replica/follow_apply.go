package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// apply takes segments in, one after the other, until ctx ends or one cannot follow on what is stored.
func (s *session) apply(ctx context.Context, jobs <-chan *job) error {
	look := time.NewTicker(s.opts.Sign)
	defer look.Stop()
	var next *job
	for {
		var ready <-chan struct{}
		wanted := jobs
		if next != nil {
			ready, wanted = next.done, nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case j, ok := <-wanted:
			if !ok {
				return ctx.Err()
			}
			next = j
		case <-ready:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err := s.take(ctx, next); err != nil {
				return err
			}
			next = nil
		case <-look.C:
			if err := s.unmoved(ctx); err != nil {
				return err
			}
		}
	}
}

// unmoved looks whether the place is still where this session left it: while nothing comes, nothing else would notice
// that somebody moved it.
func (s *session) unmoved(ctx context.Context) error {
	place, err := s.opts.Store.ReplicaPlace(ctx)
	if err != nil || (place == nil) == (s.stored == nil) && (place == nil || *place == *s.stored) {
		return nil //nolint:nilerr // whoever applies next finds out what is wrong with the database
	}
	return store.ErrReplicaMoved
}

// take applies one segment, and tries again for as long as it is the database that does not take it.
func (s *session) take(ctx context.Context, j *job) error {
	app, err := s.application(j.seg)
	if err != nil {
		return err
	}
	for {
		began := time.Now()
		done, err := s.opts.Store.Apply(ctx, app)
		var against *store.Contradiction
		switch {
		case err == nil:
			s.metrics.apply.Observe(time.Since(began).Seconds())
			s.took(j, app, done)
			return s.digest(ctx, j.seg.Digests)
		case ctx.Err() != nil || errors.Is(err, store.ErrReplicaMoved) || errors.Is(err, store.ErrOwnFeed):
			return err
		case errors.As(err, &against):
			return &haltError{fmt.Sprintf("%s: %v", j.key, against)}
		}
		s.state.trouble(&obstacle{what: whyDatabase, err: err})
		s.metrics.waits.WithLabelValues(string(whyDatabase)).Inc()
		pause(ctx, s.opts.Poll)
	}
}

// took notes what was committed.
func (s *session) took(j *job, app *store.Application, done store.Applied) {
	s.place = app.After
	stored := app.After
	s.stored = &stored
	s.state.settle("")
	s.state.applied(s.place, done, app.Chains)
	s.metrics.rows.Add(float64(len(app.Rows)))
	s.metrics.segments.WithLabelValues(j.kind).Inc()
	if n := len(app.Rows); n > 0 && j.kind == kindLive {
		s.metrics.delay.Observe(max(0, s.opts.Now().Sub(app.Rows[n-1].At).Seconds()))
	}
}

// application makes of a segment what follows on the present place. A bulk segment may begin before it: the rows that
// are in already must lead to the link that is stored.
func (s *session) application(seg *Segment) (*store.Application, error) {
	if s.place.Source != "" && seg.Source != s.place.Source {
		return nil, &haltError{fmt.Sprintf("row %d is of another feed (%s) than the %d rows here (%s): the writer's "+
			"database was replaced; give this replica an empty database", seg.First, seg.Source, s.place.Seq, s.place.Source)}
	}
	link, rows := seg.Prev, seg.Rows
	for len(rows) > 0 && rows[0].Event.Seq <= s.place.Seq {
		event, err := encodeEvent(&rows[0].Event)
		if err != nil {
			return nil, err
		}
		link, rows = NextLink(link, event, rows[0].Object), rows[1:]
	}
	if link != s.place.Link {
		return nil, &haltError{fmt.Sprintf("rows up to %d are not those that were shipped (link %s here, %s there): another "+
			"history; go back to where they part with `firstseen rewind`, or give this replica an empty database",
			s.place.Seq, s.place.Link, link)}
	}
	app := &store.Application{
		Believed: s.stored, After: s.place, Sightings: seg.Sightings, Chains: seg.Chains,
		Rows: make([]schema.ShippedRow, len(rows)),
	}
	for i := range rows {
		app.Rows[i] = schema.ShippedRow{FeedEvent: rows[i].Event, Record: rows[i].Record}
	}
	app.After.Seq, app.After.Link, app.After.Source = seg.Last, seg.Link, seg.Source
	return app, nil
}

// digest compares what is stored with the writer's digests, beside the work that goes on. At most one comparison runs:
// the next waits for it.
func (s *session) digest(ctx context.Context, theirs []schema.RangeDigest) error {
	if len(theirs) == 0 {
		return nil
	}
	if s.digesting != nil {
		select {
		case <-s.digesting:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	check, err := s.opts.Store.CheckDigests(ctx, theirs)
	if err != nil {
		return fmt.Errorf("compare digests: %w", err)
	}
	done := make(chan struct{})
	s.digesting = done
	s.parts.Go(func() {
		defer close(done)
		found, err := check()
		if err != nil {
			if ctx.Err() == nil {
				s.log.WithError(err).Warn("digests are not compared")
			}
			return
		}
		s.metrics.digests.Add(float64(len(found.Equal)))
		s.metrics.mismatches.Add(float64(len(found.Differ)))
		for _, d := range found.Differ {
			s.log.WithFields(map[string]any{"chain": d.Chain, "from": d.From, "to": d.To, "seq": d.Seq}).
				Error("digest differs from the writer's: " + fixOf(d))
		}
		s.state.compared(found)
	})
	return nil
}

// fixOf says what to do about a range that differs.
func fixOf(d schema.RangeDigest) string {
	if d.From == 0 {
		return "give this replica an empty database"
	}
	return fmt.Sprintf("`firstseen rewind --chain %d --to-height %d` fetches it anew", d.Chain, d.From-1)
}
