package replica

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// why names what a follower waits for, in metrics.
type why string

const (
	whyMissing  why = "missing"      // an object that is named
	whyDamaged  why = "damaged"      // one that is not what its writer wrote
	whyStore    why = "object_store" // it does not answer
	whyDatabase why = "database"     // it does not take rows
)

// obstacle is something that following waits for.
type obstacle struct {
	what  why
	key   string // of the object; empty for the database
	err   error
	since time.Time
	told  bool // the log knows
}

func (t *obstacle) String() string {
	switch t.what {
	case whyDatabase:
		return fmt.Sprintf("the database takes no rows: %v", t.err)
	case whyStore:
		return fmt.Sprintf("the object store does not answer: %v", t.err)
	}
	return fmt.Sprintf("object %s is %s: %v", t.key, t.what, t.err)
}

// followState is what a Follower knows of itself.
type followState struct {
	now      func() time.Time
	patience time.Duration
	log      logrus.FieldLogger

	mu       sync.Mutex // guards what follows
	place    store.ReplicaPlace
	started  bool                 // a session has read the place
	complete bool                 // it once had everything that was shipped
	halted   string               // why
	troubles map[string]*obstacle // by key
	phase    schema.ReplicaPhase
	since    time.Time
	heads    map[uint64]uint64
	astray   map[uint64]schema.ChainState // where the writer's chains stood that stood elsewhere here
	equal    uint64
	differ   []schema.RangeDigest

	sign    *Checkpoint // the writer's last
	heard   time.Time   // when it changed last, by our clock
	behind  time.Time   // since when there are rows that are not applied; zero while none are known
	nothing bool        // no writer has shipped under these names
}

func (st *followState) begin(o FollowOptions) {
	st.now, st.patience, st.log = o.Now, o.Patience, quiet.Log(o.Log)
	st.place = store.ReplicaPlace{Env: o.Env, Role: o.Role}
	st.troubles, st.heads, st.astray = map[string]*obstacle{}, map[uint64]uint64{}, map[uint64]schema.ChainState{}
	st.phase, st.since = schema.ReplicaStarting, o.Now()
}

// start is the beginning of a session.
func (st *followState) start(place store.ReplicaPlace, chains []schema.ChainState) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if place.Role != st.place.Role {
		st.sign, st.heard = nil, time.Time{}
	}
	if place != st.place { // what differed may have gone
		st.differ, st.astray = nil, map[uint64]schema.ChainState{}
	}
	st.place, st.started = place, true
	clear(st.troubles)
	clear(st.heads)
	for _, c := range chains {
		st.heads[c.Chain] = c.Head.Number
	}
	st.behind = time.Time{}
	st.turn()
}

func (st *followState) current() store.ReplicaPlace {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.place
}

// halt says why nothing goes on; empty when it does.
func (st *followState) halt(reason string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.halted = reason
	st.turn()
}

// trouble notes that something is waited for. The log hears of it when it lasts.
func (st *followState) trouble(t *obstacle) {
	st.mu.Lock()
	defer st.mu.Unlock()
	t.since = st.now()
	if was := st.troubles[t.key]; was != nil {
		t.since, t.told = was.since, was.told
	}
	st.troubles[t.key] = t
	if !t.told && st.now().Sub(t.since) >= st.patience/4 {
		t.told = true
		st.log.WithField("since", t.since.UTC()).Warn("replica waits: " + t.String())
	}
	st.turn()
}

// settle notes that a trouble is over, if it was there.
func (st *followState) settle(key string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if t := st.troubles[key]; t != nil {
		delete(st.troubles, key)
		if t.told {
			st.log.WithField("since", t.since.UTC()).Info("replica goes on: what it waited for is there")
		}
	}
	st.turn()
}

// shipped tells whether the writer is known to have shipped a row.
func (st *followState) shipped(seq uint64) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.sign != nil && st.sign.Seq >= seq
}

// applied notes a commit.
func (st *followState) applied(place store.ReplicaPlace, done store.Applied, theirs []schema.ChainState) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.place = place
	for chain, head := range done.Heads {
		st.heads[chain] = head
	}
	for _, c := range theirs {
		delete(st.astray, c.Chain)
	}
	for _, c := range done.Differ {
		st.astray[c.Chain] = c
		st.log.WithFields(logrus.Fields{"chain": c.Chain, "head": c.Head.String(), "seq": place.Seq}).
			Error("chain stands elsewhere at the writer")
	}
	st.measure()
	st.turn()
}

// compared notes what came of digests: the last word on each range counts.
func (st *followState) compared(found store.DigestCheck) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.equal += uint64(len(found.Equal))
	for _, d := range slices.Concat(found.Equal, found.Differ) {
		st.differ = slices.DeleteFunc(st.differ, func(o schema.RangeDigest) bool {
			return o.Chain == d.Chain && o.From == d.From && o.To == d.To
		})
	}
	st.differ = append(st.differ, found.Differ...)
}

// signed notes the writer's sign of life, read at a time, and tells whether it has shipped rows that are not here.
func (st *followState) signed(c Checkpoint, at time.Time) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.sign == nil || !st.sign.At.Equal(c.At) || st.sign.Epoch != c.Epoch {
		st.heard = at
	}
	if c.Chains == nil && st.sign != nil {
		c.Chains = st.sign.Chains // the last that is known
	}
	st.sign, st.nothing = &c, false
	st.measure()
	st.turn()
	return c.Seq > st.place.Seq
}

// unsigned notes that there is no writer yet.
func (st *followState) unsigned() {
	st.mu.Lock()
	defer st.mu.Unlock()
	if !st.nothing {
		st.log.Warnf("nothing is shipped as %s/%s: is `firstseen ship` running?", st.place.Env, st.place.Role)
	}
	st.sign, st.nothing = nil, true
	st.turn()
}

// measure needs mu.
func (st *followState) measure() {
	switch {
	case st.sign == nil:
	case st.sign.End <= st.place.Seq:
		st.behind = time.Time{}
	case st.behind.IsZero():
		st.behind = st.now()
	}
}

// turn finds the phase. It needs mu.
func (st *followState) turn() {
	phase := schema.ReplicaCatching
	switch {
	case !st.started:
		phase = schema.ReplicaStarting
	case st.halted != "":
		phase = schema.ReplicaHalted
	case len(st.troubles) > 0:
		phase = schema.ReplicaWaiting
	case st.nothing || st.sign == nil:
		phase = schema.ReplicaStarting
	case st.place.Seq >= st.sign.Seq:
		phase, st.complete = schema.ReplicaFollowing, true
	case st.phase == schema.ReplicaFollowing && st.now().Sub(st.behind) < st.patience:
		phase = schema.ReplicaFollowing // a moment behind, as it always is
	}
	if phase == st.phase {
		return
	}
	st.log.WithFields(logrus.Fields{"phase": phase, "was": st.phase, "seq": st.place.Seq}).Debug("replica changes phase")
	st.phase, st.since = phase, st.now()
}

// oldest is the trouble that has lasted longest, nil if there is none. It needs mu.
func (st *followState) oldest() *obstacle {
	var found *obstacle
	for _, t := range st.troubles {
		if found == nil || cmp.Or(t.since.Compare(found.since), cmp.Compare(t.key, found.key)) < 0 {
			found = t
		}
	}
	return found
}

// State tells how the replica stands.
func (f *Follower) State() schema.ReplicaState {
	st := &f.state
	st.mu.Lock()
	defer st.mu.Unlock()
	out := schema.ReplicaState{
		Env: st.place.Env, Role: st.place.Role, Phase: st.phase, Since: st.since, Seq: st.place.Seq, Digests: st.equal,
		Differ: slices.Clone(st.differ), Lag: st.lag(),
	}
	if err := st.wrong(); err != nil {
		out.Reason = err.Error()
	} else if t := st.oldest(); t != nil {
		out.Reason = t.String()
	}
	theirs := map[uint64]uint64{}
	if st.sign != nil {
		out.End, out.WriterAt = new(max(st.sign.End, st.place.Seq)), new(st.sign.At)
		for _, c := range st.sign.Chains {
			theirs[c.Chain] = c.Head.Number
		}
	}
	for chain, head := range st.heads {
		c := schema.ReplicaChain{Chain: chain, Number: head}
		if writer, ok := theirs[chain]; ok {
			c.Writer, c.Lag = new(max(writer, head)), new(writer-min(writer, head))
		}
		out.Chains = append(out.Chains, c)
	}
	slices.SortFunc(out.Chains, func(a, b schema.ReplicaChain) int { return cmp.Compare(a.Chain, b.Chain) })
	return out
}

// lag is how long there have been rows that are not here; nil while nobody knows. It needs mu.
func (st *followState) lag() *time.Duration {
	switch {
	case st.sign == nil || st.now().Sub(st.heard) > st.patience:
		return nil
	case st.behind.IsZero():
		return new(time.Duration(0))
	}
	return new(st.now().Sub(st.behind))
}

// Ready tells whether the replica should be read from: an error before it first had everything that was shipped, and
// while it does not get on or is not as the writer is.
func (f *Follower) Ready(context.Context) error {
	f.state.mu.Lock()
	defer f.state.mu.Unlock()
	f.state.turn()
	return f.state.wrong()
}

// wrong needs mu.
func (st *followState) wrong() error {
	t := st.oldest()
	switch now := st.now(); {
	case st.halted != "":
		return errors.New("halted: " + st.halted)
	case t != nil && (now.Sub(t.since) >= st.patience || !st.complete):
		return errors.New(t.String())
	case len(st.differ) > 0:
		d := st.differ[0]
		return fmt.Errorf("blocks %d to %d of chain %d are not the writer's: %s", d.From, d.To, d.Chain, fixOf(d))
	case len(st.astray) > 0:
		for _, c := range st.astray {
			return fmt.Errorf("chain %d stands at %s at the writer, and elsewhere here: go back to where they part with "+
				"`firstseen rewind`, or give this replica an empty database", c.Chain, c.Head)
		}
	case st.nothing:
		return fmt.Errorf("nothing is shipped as %s/%s: is `firstseen ship` running?", st.place.Env, st.place.Role)
	case !st.complete:
		return errors.New("catching up" + st.progress())
	case st.sign == nil || now.Sub(st.heard) > max(2*st.patience, signPatience):
		return errors.New("the writer was not heard of for too long: is `firstseen ship` running?")
	case !st.behind.IsZero() && now.Sub(st.behind) > st.patience:
		return fmt.Errorf("behind the writer for %s%s", now.Sub(st.behind).Round(time.Second), st.progress())
	}
	return nil
}

// signPatience is how long a writer may be silent, which says something every 5 s.
const signPatience = 20 * time.Second

// progress needs mu.
func (st *followState) progress() string {
	if st.sign == nil {
		return ""
	}
	return fmt.Sprintf(": %d of %d rows", st.place.Seq, max(st.sign.End, st.place.Seq))
}
