package replica

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// What a rewind depends on. A role may have told block N+1 before block N, or long before: an observer begins at the tip
// and fills history in later, children overtake their parents, siblings come late. And what became of a block is told by
// rows of its own at any time after it. So a height is no place in the feed, and "everything above N" is not a range of
// it.
//
// What is a place in the feed is the row that told of the first block above N, whichever block that was; call it row R+1.
// No row up to R is about a block above N, since a block's first row is the one that adds it. So the chain as it stood
// after row R has no block above N, and every row after R comes again, in order, onto exactly what it came onto the first
// time: nothing has to be guessed, merged or tolerated. That is where a rewind goes. It costs that blocks at or below N
// which were told after R leave too, and come again; and that a chain whose history was filled in after its tip may have
// to go back far, since its first block above N may be its first of all. Statuses of blocks that stay are set back to what
// they were after R: the replica's own feed has the rows that changed them.
//
// R is no smaller than it need be, either: going on anywhere later would miss row R+1.
//
// The other chains are not touched. Their rows after R come again as well, and are passed over by their seq.

// MoveStore is what moving a replica needs of its store.
type MoveStore interface {
	ReplicaPlace(ctx context.Context) (*store.ReplicaPlace, error)
	Chains(ctx context.Context) ([]schema.ChainState, error)
	// Branch passes on the blocks on a chain's branch from one height to another, both included.
	Branch(ctx context.Context, chain, from, to uint64, each func(schema.BranchHeader) error) error
	// ForeignTo tells up to which height blocks of a chain may be as another writer had them; nil if none are.
	ForeignTo(ctx context.Context, chain uint64) (*uint64, error)
	PlanMove(ctx context.Context, m store.Move) (*store.Moved, error)
	MoveReplica(ctx context.Context, m store.Move) (*store.Moved, error)
}

// Refused is why a replica cannot be moved as asked, in a sentence that names what to do instead.
type Refused string

// Error implements error.
func (r Refused) Error() string { return string(r) }

func refuse(format string, args ...any) error { return Refused(fmt.Sprintf(format, args...)) }

// startOver is the way out where no place in the feed fits.
const startOver = "begin with an empty database (stop following, move the file away, start again): that takes minutes"

// RewindOptions ask for one chain of a replica to be taken back to a height.
type RewindOptions struct {
	Store   MoveStore
	Objects MoveObjects
	Env     string // must be the one that the replica follows
	Chain   uint64
	Height  uint64
	Actor   string // user@host, for the audit
}

// Rewind is what a rewind changes.
type Rewind struct {
	Chain  uint64
	Height uint64
	Role   string             // of the writer that is followed
	Before schema.ChainState  // where the chain stands
	After  *schema.ChainState // where it stands then; nil if nothing of it stays

	Leaving []schema.Point // blocks that are taken out, the lowest first
	Late    uint64         // of those, the ones at or below the height: told after one above it
	Changed uint64         // blocks that stay with another status

	Both      int            // blocks above the height that are here and in the object store
	OnlyHere  []schema.Point // blocks above the height that the object store does not have: they do not come again
	OnlyThere []schema.Point // blocks above the height that are not applied yet

	Applied        uint64 // the last row that is applied
	Stood          uint64 // the row of the writer's feed after which the chain stood so
	Resume         uint64 // following goes on behind this row, the last of a segment
	BelowFinalized bool   // final blocks leave

	move  store.Move
	store MoveStore
}

// PlanRewind finds out what a rewind would change, and changes nothing. Its error is a Refused where the request is at
// fault.
func PlanRewind(ctx context.Context, o RewindOptions) (*Rewind, error) {
	place, chain, err := o.check(ctx)
	if err != nil {
		return nil, err
	}
	r := &Rewind{
		Chain: o.Chain, Height: o.Height, Role: place.Role, Before: *chain, Applied: place.Seq, Resume: place.Seq,
		Stood: place.Seq, store: o.Store,
		BelowFinalized: chain.Finalized != nil && *chain.Finalized > o.Height,
	}
	back := &store.Retreat{Above: o.Height}
	foreign, err := o.Store.ForeignTo(ctx, o.Chain)
	if err != nil {
		return nil, err
	}
	back.Cut = foreign != nil && o.Height < *foreign
	r.move = store.Move{
		From: *place, To: *place, Action: "rewind", Actor: o.Actor,
		Chains: []store.ChainMove{{Chain: o.Chain, Back: back, Told: place.Seq, ForeignTo: foreign}},
	}
	moved, err := o.Store.PlanMove(ctx, r.move)
	if err != nil {
		return nil, fmt.Errorf("plan rewind: %w", err)
	}
	c := moved.Chains[0]
	r.After, r.Leaving, r.Late, r.Changed = c.After, c.Leaving, c.Late, c.Changed
	s := catalogue{Names{place.Env, place.Role}, o.Objects}
	headers, err := s.from(ctx, o.Chain, o.Height)
	if err != nil {
		return nil, err
	}
	r.compare(headers)
	if len(r.Leaving) == 0 {
		return r, nil
	}
	if back.Cut {
		err = r.cut(ctx, s, headers)
	} else {
		err = r.exact(*place, c, headers)
	}
	if err != nil {
		return nil, err
	}
	return r, r.begin(ctx, s)
}

func (o *RewindOptions) check(ctx context.Context) (*store.ReplicaPlace, *schema.ChainState, error) {
	place, err := o.Store.ReplicaPlace(ctx)
	if err != nil {
		return nil, nil, err
	}
	if place == nil {
		return nil, nil, refuse("the database follows nobody yet: only what `firstseen follow` has filled can be rewound")
	}
	if place.Env != o.Env {
		return nil, nil, refuse("the database follows environment %s, not %s: use --env %s", place.Env, o.Env, place.Env)
	}
	chains, err := o.Store.Chains(ctx)
	if err != nil {
		return nil, nil, err
	}
	i := slices.IndexFunc(chains, func(c schema.ChainState) bool { return c.Chain == o.Chain })
	if i < 0 {
		return nil, nil, refuse("chain %d is not stored here: %s", o.Chain, those(chains))
	}
	if head := chains[i].Head.Number; o.Height > head {
		return nil, nil, refuse("chain %d is at height %d: it can be taken back, not forward to %d", o.Chain, head, o.Height)
	}
	return place, &chains[i], nil
}

func those(chains []schema.ChainState) string {
	if len(chains) == 0 {
		return "there is none"
	}
	text := "there is"
	for _, c := range chains {
		text += fmt.Sprintf(" %d", c.Chain)
	}
	return text
}

// compare holds the blocks that leave against those that the role has shipped above the height.
func (r *Rewind) compare(headers []telling) {
	there := make(map[schema.Hash]bool, len(headers))
	here := make(map[schema.Hash]bool, len(r.Leaving))
	for _, t := range headers {
		there[t.Hash] = true
	}
	for _, p := range r.Leaving {
		here[p.Hash] = true
		switch {
		case p.Number <= r.Height:
		case there[p.Hash]:
			r.Both++
		default:
			r.OnlyHere = append(r.OnlyHere, p)
		}
	}
	for _, t := range headers {
		if t.Number > r.Height && !here[t.Hash] {
			r.OnlyThere = append(r.OnlyThere, t.Point)
		}
	}
}

// exact finds the row that told of the first block above the height.
func (r *Rewind) exact(place store.ReplicaPlace, c store.ChainMoved, headers []telling) error {
	i := slices.IndexFunc(headers, func(t telling) bool { return t.Hash == c.First.Hash })
	var seq uint64
	switch {
	case i >= 0:
		seq = headers[i].seq
		if place.Epoch == "" && seq != c.FirstAt {
			return refuse("block %s was told by row %d of the feed that is followed, the object store says row %d: that is "+
				"another feed; %s", c.First, c.FirstAt, seq, startOver)
		}
	case place.Epoch == "":
		seq = c.FirstAt // rows have the same seq here as at the writer
	default:
		return refuse("the object store has no header of block %s, so nobody knows where to go on: choose another height, "+
			"or %s", c.First, startOver)
	}
	for _, t := range headers {
		if t.Number > r.Height && t.seq < seq {
			return refuse("row %d told of block %s, which should be here and is not: the object store does not hold what this "+
				"database followed; %s", t.seq, t.Point, startOver)
		}
	}
	r.Stood = seq - 1
	to := &r.move.Chains[0]
	to.Told, to.Back.First = r.Stood, c.First.Hash.Key()
	if to.ForeignTo != nil && c.After == nil {
		to.ForeignTo = nil
	}
	return nil
}

// cut takes a chain back into what was here before the role changed: what stays is the former role's, so the place is one
// at which this role's chain ended with the same block.
func (r *Rewind) cut(ctx context.Context, s catalogue, headers []telling) error {
	ours, err := branchOf(ctx, r.store, r.Chain, r.Height, r.Height)
	if err != nil {
		return err
	}
	seq, ok := clean(headers, ours, r.Height)
	if !ok {
		return refuse("at height %d, %s has shipped another block than the one that is here, or several, or those above it "+
			"first: choose a lower height, or %s", r.Height, s.Role, startOver)
	}
	r.Stood = seq
	to := &r.move.Chains[0]
	to.Told, to.ForeignTo = seq, &r.Height
	return nil
}

// begin finds the segment to go on with.
func (r *Rewind) begin(ctx context.Context, s catalogue) error {
	at, err := s.startFor(ctx, r.Stood)
	if err != nil {
		return err
	}
	r.Resume = at.seq
	r.move.To.Seq, r.move.To.Link = at.seq, at.link
	return nil
}

// Do does what was planned, unless the replica has been moved since. What was applied since then leaves, too.
func (r *Rewind) Do(ctx context.Context) error {
	if len(r.Leaving) == 0 {
		return nil
	}
	r.move.Detail = rewindDetail{
		Chain: r.Chain, Height: r.Height, From: r.Before.Head, Leaving: len(r.Leaving), Applied: r.Applied, Resume: r.Resume,
	}
	moved, err := r.store.MoveReplica(ctx, r.move)
	if errors.Is(err, store.ErrReplicaMoved) {
		return refuse("the replica was moved by somebody else just now: look at it, and try again")
	}
	if err != nil {
		return fmt.Errorf("rewind: %w", err)
	}
	c := moved.Chains[0]
	r.Applied, r.Before, r.After, r.Leaving = moved.Place.Seq, c.Before, c.After, c.Leaving
	r.Late, r.Changed = c.Late, c.Changed
	return nil
}

// rewindDetail is what the audit keeps.
type rewindDetail struct {
	Chain   uint64       `json:"chain"`
	Height  uint64       `json:"to_height"`
	From    schema.Point `json:"from"`
	Leaving int          `json:"blocks"`
	Applied uint64       `json:"applied_seq"`
	Resume  uint64       `json:"resume_seq"`
}

// branchOf reads a part of a chain's branch.
func branchOf(ctx context.Context, s MoveStore, chain, from, to uint64) (map[uint64]schema.Hash, error) {
	out := map[uint64]schema.Hash{}
	err := s.Branch(ctx, chain, from, to, func(h schema.BranchHeader) error {
		hash, err := h.Key.Hash()
		out[h.Number] = hash
		return err
	})
	return out, err
}

// clean finds the row after which a role's chain ended with our block of a height: the role has shipped that block and no
// other of its height, and nothing above it before. It is the last row before the first one about a block above.
func clean(headers []telling, ours map[uint64]schema.Hash, height uint64) (seq uint64, ok bool) {
	hash, ok := ours[height]
	if !ok {
		return 0, false
	}
	var at, above uint64 // rows; 0 while there is none
	for _, t := range headers {
		switch {
		case t.Number < height:
		case t.Number > height:
			if above == 0 || t.seq < above {
				above = t.seq
			}
		case t.Hash != hash:
			return 0, false
		default:
			at = t.seq
		}
	}
	switch {
	case at == 0, above != 0 && above < at:
		return 0, false
	case above == 0:
		return at, true
	}
	return above - 1, true
}
