package store

import (
	"cmp"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// branching follows where one chain stands from nothing but its rows in the feed. The judge's changes of branch are told
// from the head downward, then a gap if there is one, then the new branch upward; a root that sinks onto its ancestors is
// told from the highest of them downward. In the middle of a change, which rows may be cut at, the row says how far it
// got: a head that is on no branch means that none is left.
type branching struct {
	db    *gorm.DB
	id    uint64
	row   *chainRow // nil while the chain has no block
	moved bool

	// bare means that every block of the branch was taken off it: the next one to join stands alone.
	bare   bool
	blocks map[string]*placed // those looked at by now; nil for one that is not stored
}

// placed is a stored block, or one about to be.
type placed struct {
	id      uint64
	key     string
	number  uint64
	parent  string
	status  schema.Status
	fresh   *schema.ShippedRecord // nil of one that was stored before
	changed bool                  // its status is not what is stored
}

// join puts a block on the branch. Before is the row before this one.
func (c *branching) join(b *placed, before schema.FeedEvent) (wrong string, err error) {
	switch {
	case c.row == nil:
		c.row = &chainRow{Chain: c.id}
		c.stand(b)
		return "", nil
	case !c.bare && b.parent == c.row.HeadKey && b.number == c.row.HeadNumber+1:
		if c.row.SafeNumber != nil && *c.row.SafeNumber > c.row.HeadNumber { // what was safe above went down
			c.row.SafeNumber = new(c.row.HeadNumber)
		}
		c.row.HeadKey, c.row.HeadNumber, c.moved = b.key, b.number, true
		return "", nil
	case !c.bare && b.key == c.row.RootParent && b.number+1 == c.row.RootNumber:
		return "", c.sink(b)
	case c.bare:
		return "", c.restart(b)
	case bridges(before, c.id, b.number):
		c.stand(b)
		return "", c.unsafe(b)
	}
	return fmt.Sprintf("is put on the branch, but its parent %s is not the head %s at %d", b.parent, c.row.HeadKey,
		c.row.HeadNumber), nil
}

// bridges tells whether a row is a gap right below a height: what lies there joins the branch without its parent.
func bridges(before schema.FeedEvent, chain, number uint64) bool {
	return before.Kind == schema.FeedGap && before.Chain == chain && before.To != nil && *before.To+1 == number
}

// restart begins the branch anew with a block. Its parent may be on the branch since before a gap.
func (c *branching) restart(b *placed) error {
	parent, err := c.find(b.parent)
	if err != nil {
		return err
	}
	c.stand(b)
	if parent == nil || !parent.status.OnBranch() || parent.number+1 != b.number {
		return c.unsafe(b)
	}
	if c.row.SafeNumber != nil && *c.row.SafeNumber > parent.number {
		c.row.SafeNumber = new(parent.number)
	}
	return c.sink(parent)
}

// stand makes a block the only one of the branch.
func (c *branching) stand(b *placed) {
	c.row.RootKey, c.row.RootNumber, c.row.RootParent = b.key, b.number, b.parent
	c.row.HeadKey, c.row.HeadNumber = b.key, b.number
	c.bare, c.moved = false, true
}

// sink lowers the root onto a block, and on to those below it that are on the branch since before a gap.
func (c *branching) sink(b *placed) error {
	for b != nil && b.status.OnBranch() && b.number+1 == c.row.RootNumber {
		c.row.RootKey, c.row.RootNumber, c.row.RootParent, c.moved = b.key, b.number, b.parent, true
		var err error
		if b, err = c.find(b.parent); err != nil {
			return err
		}
	}
	return nil
}

// leave takes a block off the branch. Those below the root, left from before a gap, leave in no order.
func (c *branching) leave(b *placed) (wrong string) {
	switch {
	case c.row == nil:
		return "leaves a branch that is not there"
	case c.bare, b.number < c.row.RootNumber:
		return ""
	case b.key != c.row.HeadKey:
		return fmt.Sprintf("leaves the branch below its head %s at %d", c.row.HeadKey, c.row.HeadNumber)
	case b.key == c.row.RootKey:
		c.bare = true
		return ""
	}
	c.row.HeadKey, c.row.HeadNumber, c.moved = b.parent, b.number-1, true
	return ""
}

// raise moves the marks of safe and finalized blocks up to a block.
func (c *branching) raise(b *placed) {
	up := func(mark **uint64) {
		if *mark == nil || **mark < b.number {
			*mark, c.moved = new(b.number), true
		}
	}
	if c.row == nil {
		return
	}
	switch b.status {
	case schema.StatusFinalized:
		up(&c.row.FinalizedNumber)
		up(&c.row.SafeNumber)
	case schema.StatusSafe:
		up(&c.row.SafeNumber)
	}
}

// unsafe lowers the mark of safe blocks to that of finalized ones if no block at its height was on the branch before the
// one that just joined it.
func (c *branching) unsafe(joined *placed) error {
	safe := c.row.SafeNumber
	if safe == nil {
		return nil
	}
	stored, err := blocksBetween(c.db, c.id, *safe, *safe)
	if err != nil {
		return err
	}
	for _, b := range stored {
		if c.blocks[b.Key] == nil {
			c.blocks[b.Key] = placedOf(b)
		}
	}
	for _, b := range c.blocks {
		if b != nil && b != joined && b.number == *safe && b.status.OnBranch() {
			return nil
		}
	}
	c.row.SafeNumber, c.moved = c.row.FinalizedNumber, true
	return nil
}

// find returns a stored block by its key, nil if there is none. Its ancestors are asked for next, so they come along.
func (c *branching) find(key string) (*placed, error) {
	if b, ok := c.blocks[key]; ok {
		return b, nil
	}
	rows, err := walkAll(c.db, c.id, key, maxChange)
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		c.blocks[key] = nil
		return nil, nil
	}
	for _, r := range rows {
		if c.blocks[r.Key] == nil {
			c.blocks[r.Key] = placedOf(r)
		}
	}
	return c.blocks[key], nil
}

func placedOf(r blockRow) *placed {
	return &placed{id: r.ID, key: r.Key, number: r.Number, parent: r.Parent, status: r.Status}
}

// compareChains notes the chains that the writer says stand elsewhere. A root may be lower here: the writer sinks it onto
// blocks that were on the branch before a gap step by step, without a row for each step.
func (a *application) compareChains() error {
	if len(a.Chains) == 0 {
		return nil
	}
	ours, err := readChains(a.db)
	if err != nil {
		return err
	}
	for _, theirs := range a.Chains {
		if a.told.told[theirs.Chain] > a.After.Seq {
			continue // what is here is further on
		}
		i, ok := slices.BinarySearchFunc(ours, theirs.Chain, func(s schema.ChainState, id uint64) int {
			return cmp.Compare(s.Chain, id)
		})
		if _, mixed := a.told.foreign[theirs.Chain]; ok && mixed { // another writer began and settled it elsewhere
			ours[i].Root, ours[i].Safe, ours[i].Finalized = theirs.Root, theirs.Safe, theirs.Finalized
		}
		if !ok || !sameState(ours[i], theirs) {
			a.differ = append(a.differ, theirs)
		}
	}
	return nil
}

func sameState(ours, theirs schema.ChainState) bool {
	mark := func(a, b *uint64) bool { return (a == nil) == (b == nil) && (a == nil || *a == *b) }
	return ours.Head == theirs.Head && mark(ours.Safe, theirs.Safe) && mark(ours.Finalized, theirs.Finalized) &&
		ours.Halted == theirs.Halted && (ours.Root == theirs.Root || ours.Root.Number < theirs.Root.Number)
}
