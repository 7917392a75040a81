package replica

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/internal/store"
)

// Follower makes a store follow a writer's feed: every row in its order, each once.
//
// All that it knows of its place is in the store, where it moves with the rows in one transaction. A session begins at
// that place; whatever it finds to be otherwise than it believed ends it, and the next one begins at the place that is
// there then. So a crash, a rewind and a change of roles need nothing but another session.
type Follower struct {
	opts    FollowOptions
	log     logrus.FieldLogger
	metrics *followMetrics

	wake  chan struct{} // one element: look for the next segment now
	holds chan *hold    // who wants to change the place asks Run here
	ended chan struct{} // closed when Run returns

	state followState
}

// NewFollower checks the options. Run makes it follow.
func NewFollower(o FollowOptions) (*Follower, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("follow: %w", err)
	}
	o.setDefaults()
	f := &Follower{
		opts: o, log: quiet.Log(o.Log), wake: make(chan struct{}, 1), holds: make(chan *hold), ended: make(chan struct{}),
	}
	f.state.begin(o)
	f.metrics = newFollowMetrics(f)
	return f, nil
}

// hold keeps sessions away from the store.
type hold struct {
	granted chan struct{} // closed once no session runs
	done    chan struct{} // closed by whoever asked for it
}

// pause ends the session that runs and keeps the next one away until resume is called; that one reads its place anew.
func (f *Follower) pause(ctx context.Context) (resume func(), err error) {
	h := &hold{granted: make(chan struct{}), done: make(chan struct{})}
	select {
	case f.holds <- h:
		<-h.granted
		return sync.OnceFunc(func() { close(h.done) }), nil
	case <-f.ended:
		return nil, errors.New("the follower has ended")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// haltError ends a session for good: what the writer shipped contradicts what is stored, which another look does not
// change. Only the store's being moved does.
type haltError struct{ reason string }

// Error implements error.
func (e *haltError) Error() string { return e.reason }

// Run follows until ctx ends, and then returns nil. It waits for whatever is missing, for as long as it takes: Ready and
// State tell. Only a database that can be no replica's, or one of another environment, is an error. Call it once.
func (f *Follower) Run(ctx context.Context) error {
	defer close(f.ended)
	if err := f.opts.Store.ReplicaReady(ctx); err != nil {
		return err
	}
	if err := f.checkNames(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		err := f.supervise(ctx)
		var halted *haltError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, store.ErrReplicaMoved):
			f.log.Info("the replica's place was moved, by a rewind, a switch, or another process that follows into this database: " +
				"following goes on from there")
		case errors.As(err, &halted):
			f.state.halt(halted.reason)
			f.log.WithField("reason", halted.reason).Error("replica halted: what was shipped contradicts what is stored")
			f.awaitMove(ctx)
			f.state.halt("")
		case err != nil:
			f.state.trouble(&obstacle{what: whyDatabase, err: err})
			f.rest(ctx)
		}
	}
	return nil
}

// checkNames refuses a database that follows somebody else.
func (f *Follower) checkNames(ctx context.Context) error {
	place, err := f.opts.Store.ReplicaPlace(ctx)
	if err != nil || place == nil {
		return err
	}
	if place.Env != f.opts.Env {
		return fmt.Errorf("the database is a replica of environment %s, not of %s: give this one another database", place.Env, f.opts.Env)
	}
	if place.Role != f.opts.Role {
		return fmt.Errorf("the database follows role %s: to change to %s, use `firstseen switch`", place.Role, f.opts.Role)
	}
	return nil
}

// supervise runs one session, and ends it when somebody asks for a hold.
func (f *Follower) supervise(ctx context.Context) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- f.session(inner) }()
	select {
	case err := <-done:
		return err
	case h := <-f.holds:
		cancel()
		<-done //nolint:errcheck // whatever it was, the next session begins at the place that is there then
		f.grant(ctx, h)
		return nil
	}
}

func (f *Follower) grant(ctx context.Context, h *hold) {
	close(h.granted)
	select {
	case <-h.done:
	case <-ctx.Done():
	}
}

// awaitMove waits until somebody else has moved the replica's place.
func (f *Follower) awaitMove(ctx context.Context) {
	was := f.state.current()
	tick := time.NewTicker(f.opts.Poll)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case h := <-f.holds:
			f.grant(ctx, h)
			return
		case <-tick.C:
			if place, err := f.opts.Store.ReplicaPlace(ctx); err == nil && place != nil && *place != was {
				return
			}
		}
	}
}

// rest waits for a moment, or until somebody asks for a hold.
func (f *Follower) rest(ctx context.Context) {
	timer := time.NewTimer(f.opts.Poll)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case h := <-f.holds:
		f.grant(ctx, h)
	}
}

// session follows from the place that is stored until something ends it.
func (f *Follower) session(ctx context.Context) error {
	stored, err := f.opts.Store.ReplicaPlace(ctx)
	if err != nil {
		return err
	}
	chains, err := f.opts.Store.Chains(ctx)
	if err != nil {
		return err
	}
	s := &session{Follower: f, names: f.opts.Names, stored: stored, place: store.ReplicaPlace{Env: f.opts.Env, Role: f.opts.Role}}
	if stored != nil {
		s.place, s.names.Role = *stored, stored.Role
	}
	f.state.start(s.place, chains)
	ctx, cancel := context.WithCancel(ctx)
	defer s.parts.Wait()
	defer cancel()
	s.parts.Go(func() { s.listen(ctx) })
	s.parts.Go(func() { s.watch(ctx) })
	jobs := make(chan *job, ahead-1)
	s.parts.Go(func() {
		defer close(jobs)
		s.fetch(ctx, jobs)
	})
	return s.apply(ctx, jobs)
}

// session is one run from a place.
type session struct {
	*Follower
	parts  sync.WaitGroup
	names  Names
	stored *store.ReplicaPlace // as the store has it; nil before the first application
	place  store.ReplicaPlace  // the same, with names where the store has nothing yet

	digesting chan struct{} // closed when the last comparison of digests is done; nil before the first
}

// listen turns hints into looks. Whether they come at all makes no difference but the wait.
func (s *session) listen(ctx context.Context) {
	for ctx.Err() == nil {
		b, err := s.opts.Broker(s.names.Role)
		if err == nil {
			err = b.Listen(ctx, func(p broker.Pointer) {
				s.metrics.hints.Inc()
				if p.Last > s.state.current().Seq {
					s.poke()
				}
			})
			err = errors.Join(err, b.Close())
		}
		if ctx.Err() != nil {
			return
		}
		s.log.WithError(err).Warn("hints do not come, following by polling")
		pause(ctx, s.opts.Patience)
	}
}

func (f *Follower) poke() {
	select {
	case f.wake <- struct{}{}:
	default: // it has yet to look
	}
}

// pause waits, or returns early when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
