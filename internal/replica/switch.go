package replica

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// Another role is another writer with a database of its own: its rows have other seqs, it told the same blocks in another
// order, its judge settled them at other moments, and others were first to see them. What the two have in common are the
// blocks. So a replica that changes over goes on behind a row of the new role after which that role's chain ended with a
// block that is on the branch here, and that it had no rival of:
//
//   - the head, if the role has shipped every one of the last depth blocks here, and no other of their heights;
//   - else a block depth below the head or, if that one has a rival, the next lower one without; everything above leaves
//     and comes again as the new role has it;
//   - else nothing: the roles do not meet within reach, and the replica stays where it is.
//
// What stays is the former role's, with its record ids and who was first; rows of the new one about it change statuses
// only (store, retold). Digests of those heights cannot be equal to the new role's and are not compared.

// depth is how far below a head branches may part: a deeper reorganisation halts a chain.
const depth = 128

// SwitchOptions ask for a replica to follow another role.
type SwitchOptions struct {
	Store   MoveStore
	Objects MoveObjects
	Names          // what is to be followed; the environment must be the one that the replica follows
	Actor   string // user@host, for the audit
}

// Switch is what a change of roles changes.
type Switch struct {
	From, To string // roles
	Applied  uint64 // the last row of the former role's feed that is applied
	Resume   uint64 // following goes on behind this row of the new one's
	Chains   []SwitchedChain

	move  store.Move
	store MoveStore
}

// SwitchedChain is one chain of a Switch.
type SwitchedChain struct {
	Chain   uint64
	Head    schema.Point
	Meet    *schema.Point // the block behind which it goes on; nil where the whole chain comes anew
	Leaving int           // blocks that are taken out
}

// PlanSwitch finds out where a replica would go on with another role, and changes nothing. It returns nil if there is
// nothing to change: the replica follows that role, or nobody yet. Its error is a Refused where the roles do not fit.
func PlanSwitch(ctx context.Context, o SwitchOptions) (*Switch, error) {
	if err := o.Validate(); err != nil {
		return nil, Refused(err.Error())
	}
	place, err := o.Store.ReplicaPlace(ctx)
	if err != nil || place == nil {
		return nil, err
	}
	if place.Env != o.Env {
		return nil, refuse("the database follows environment %s: what %s has is something else, so %s", place.Env, o.Env, startOver)
	}
	if place.Role == o.Role {
		return nil, nil
	}
	s := catalogue{o.Names, o.Objects}
	end, err := s.checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	if end == nil || end.Seq == 0 {
		return nil, refuse("role %s has shipped nothing to environment %s yet, so the replica goes on with %s: is `firstseen ship "+
			"--role %s` running, with the same --objects?", o.Role, o.Env, place.Role, o.Role)
	}
	w := &Switch{From: place.Role, To: o.Role, Applied: place.Seq, store: o.Store}
	w.move = store.Move{From: *place, Action: "switch", Actor: o.Actor,
		To: store.ReplicaPlace{Env: o.Env, Role: o.Role, Source: end.Source}}
	if err := w.meet(ctx, s, end.Chains); err != nil {
		return nil, err
	}
	moved, err := o.Store.PlanMove(ctx, w.move)
	if err != nil {
		return nil, fmt.Errorf("plan switch: %w", err)
	}
	w.count(moved)
	return w, nil
}

// meet finds for each chain where to go on, and the first of those places.
func (w *Switch) meet(ctx context.Context, s catalogue, theirs []schema.ChainState) error {
	ours, err := w.store.Chains(ctx)
	if err != nil {
		return err
	}
	everything := uint64(math.MaxInt64)
	w.move.Chains = []store.ChainMove{{Chain: schema.BareChain, ForeignTo: &everything}}
	least := uint64(math.MaxUint64)
	for _, c := range ours {
		move, err := w.meetOn(ctx, s, c)
		if err != nil {
			return err
		}
		if i := slices.IndexFunc(theirs, func(t schema.ChainState) bool { return t.Chain == c.Chain }); i >= 0 && move.ForeignTo != nil {
			move.Safe, move.Finalized = theirs[i].Safe, theirs[i].Finalized
		}
		least = min(least, move.Told)
		w.move.Chains = append(w.move.Chains, move)
	}
	for _, c := range theirs {
		if slices.ContainsFunc(ours, func(o schema.ChainState) bool { return o.Chain == c.Chain }) {
			continue
		}
		headers, err := s.from(ctx, c.Chain, 0)
		if err != nil {
			return err
		}
		if len(headers) > 0 { // a chain that is new here comes from its first block
			least = min(least, firstTold(headers).seq-1)
		}
	}
	if least == math.MaxUint64 {
		least = 0
	}
	at, err := s.startFor(ctx, least)
	if err != nil {
		return err
	}
	w.Resume, w.move.To.Seq, w.move.To.Link = at.seq, at.seq, at.link
	// Bare payloads that the new role told before this are not looked for.
	w.move.Chains[0].Told = at.seq
	return nil
}

// meetOn finds where to go on with one chain.
func (w *Switch) meetOn(ctx context.Context, s catalogue, c schema.ChainState) (store.ChainMove, error) {
	move := store.ChainMove{Chain: c.Chain}
	lowest := c.Head.Number - min(2*depth, c.Head.Number)
	ours, err := branchOf(ctx, w.store, c.Chain, lowest, c.Head.Number)
	if err != nil {
		return move, err
	}
	headers, err := s.from(ctx, c.Chain, lowest)
	if err != nil {
		return move, err
	}
	switched := SwitchedChain{Chain: c.Chain, Head: c.Head}
	at, number, ok := meeting(headers, ours, c)
	switch {
	case ok:
		switched.Meet = &schema.Point{Number: number, Hash: ours[number]}
		move.Told, move.ForeignTo = at, &number
		if number < c.Head.Number {
			move.Back = &store.Retreat{Above: number, Cut: true}
		}
	case c.Root.Number+depth > c.Head.Number:
		// The chain is that short here: it may as well come from its first block.
		all, err := s.from(ctx, c.Chain, 0)
		if err != nil {
			return move, err
		}
		if len(all) == 0 {
			return move, refuse("%s has shipped no block of chain %d, which is stored here: the replica goes on with %s",
				s.Role, c.Chain, w.From)
		}
		move.Told, move.Back = firstTold(all).seq-1, &store.Retreat{All: true, Cut: true}
	default:
		return move, w.apart(s, c, headers)
	}
	w.Chains = append(w.Chains, switched)
	return move, nil
}

// meeting finds the highest block to go on behind.
func meeting(headers []telling, ours map[uint64]schema.Hash, c schema.ChainState) (at, number uint64, ok bool) {
	if straight(headers, ours, c) {
		if at, ok = clean(headers, ours, c.Head.Number); ok {
			return at, c.Head.Number, true
		}
	}
	for below := uint64(depth); below <= 2*depth && below <= c.Head.Number; below++ {
		number = c.Head.Number - below
		if number < c.Root.Number {
			break
		}
		if at, ok = clean(headers, ours, number); ok {
			return at, number, true
		}
	}
	return 0, 0, false
}

// straight tells whether a role has shipped each of the last blocks of a branch, one after the other, and no rival of any.
func straight(headers []telling, ours map[uint64]schema.Hash, c schema.ChainState) bool {
	least := max(c.Root.Number, c.Head.Number+1-min(depth, c.Head.Number+1))
	n, before := uint64(0), uint64(0)
	for _, t := range headers {
		if t.Number < least || t.Number > c.Head.Number {
			continue
		}
		if t.Hash != ours[t.Number] || t.seq < before {
			return false
		}
		n, before = n+1, t.seq
	}
	return n == c.Head.Number+1-least
}

// apart says why there is nowhere to go on.
func (w *Switch) apart(s catalogue, c schema.ChainState, headers []telling) error {
	if len(headers) == 0 {
		return refuse("%s has shipped no block of chain %d from %d on, the head here is %d: wait until it has caught up; the "+
			"replica goes on with %s", s.Role, c.Chain, c.Head.Number-min(2*depth, c.Head.Number), c.Head.Number, w.From)
	}
	top := headers[len(headers)-1].Number
	if top+depth < c.Head.Number {
		return refuse("%s has shipped chain %d up to %d only, more than %d blocks below the head here, %d: wait until it has "+
			"caught up; the replica goes on with %s", s.Role, c.Chain, top, depth, c.Head.Number, w.From)
	}
	return refuse("%s and %s have no block of chain %d in common between %d and %d blocks below the head here, %d, that "+
		"%s told before everything above it: the replica goes on with %s; to follow %s, %s", s.Role, w.From, c.Chain,
		depth, 2*depth, c.Head.Number, s.Role, w.From, s.Role, startOver)
}

// count takes over what a move changes.
func (w *Switch) count(moved *store.Moved) {
	for i := range w.Chains {
		w.Chains[i].Leaving = 0
		for _, m := range moved.Chains {
			if m.Before.Chain == w.Chains[i].Chain {
				w.Chains[i].Leaving = len(m.Leaving)
			}
		}
	}
}

// Do does what was planned, unless the replica has been moved since. What was applied since then and lies above where the
// roles meet is an error, too: plan again.
func (w *Switch) Do(ctx context.Context) error {
	w.move.Detail = switchDetail{From: w.From, To: w.To, Applied: w.Applied, Resume: w.Resume, Chains: w.details()}
	moved, err := w.store.MoveReplica(ctx, w.move)
	if errors.Is(err, store.ErrReplicaMoved) {
		return refuse("rows were applied, or the replica was moved, since this was planned: try again")
	}
	if err != nil {
		return fmt.Errorf("switch: %w", err)
	}
	w.count(moved)
	return nil
}

// switchDetail is what the audit keeps.
type switchDetail struct {
	From    string         `json:"from"`
	To      string         `json:"to"`
	Applied uint64         `json:"applied_seq"`
	Resume  uint64         `json:"resume_seq"`
	Chains  []switchedJSON `json:"chains"`
}

type switchedJSON struct {
	Chain   uint64        `json:"chain"`
	Head    schema.Point  `json:"head"`
	Meet    *schema.Point `json:"meet"`
	Leaving int           `json:"blocks"`
}

func (w *Switch) details() []switchedJSON {
	out := make([]switchedJSON, len(w.Chains))
	for i, c := range w.Chains {
		out[i] = switchedJSON(c)
	}
	return out
}
