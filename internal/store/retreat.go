package store

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// noteRewound marks the row of the feed that tells of a block that left the store. Tallies take it off again.
const noteRewound = "rewound"

// retreat takes a chain back. The feed that is served from here says so: blocks leave the branch from the highest, blocks
// that come back onto it follow from the lowest, as in any other reorganisation.
func (m *mover) retreat(move ChainMove) error {
	c, err := m.chain(move.Chain)
	if err != nil {
		return err
	}
	if c == nil {
		return fmt.Errorf("%w: it is not stored", ErrReplicaMoved)
	}
	r := &retreat{mover: m, chain: *c, plan: *move.Back}
	if r.out.Before, err = c.state(); err != nil {
		return err
	}
	for _, step := range []func() error{r.first, r.find, r.undo, r.settle} {
		if err := step(); err != nil {
			return err
		}
	}
	m.moved.Chains = append(m.moved.Chains, r.out)
	return nil
}

// retreat is one chain on its way back.
type retreat struct {
	*mover
	chain   chainRow // as it was
	plan    Retreat
	out     ChainMoved
	leaving []blockRow  // from the highest
	staying []formerRow // those that get another status
}

// formerRow is a block with the status that it had.
type formerRow struct {
	Block blockRow `gorm:"embedded"`
	Was   schema.Status
}

// first finds the block above the height that was told first. A block may have been told, taken away by an earlier
// rewind and told again: the last time counts.
func (r *retreat) first() error {
	var rows []struct {
		Key    string
		Number uint64
		Last   uint64
	}
	err := r.tx.Raw("SELECT f.`key`, f.number, MAX(f.seq) AS last FROM feed f "+
		"JOIN records r ON r.chain = f.chain AND r.`key` = f.`key` "+
		"WHERE f.chain = ? AND f.kind = ? AND f.number > ? GROUP BY f.`key` ORDER BY last LIMIT 1",
		r.chain.Chain, schema.FeedBlock, r.plan.Above).Scan(&rows).Error
	if err != nil {
		return fmt.Errorf("find the first block above %d: %w", r.plan.Above, err)
	}
	if len(rows) > 0 {
		p, err := point(rows[0].Number, rows[0].Key)
		if err != nil {
			return err
		}
		r.out.First, r.out.FirstAt = &p, rows[0].Last
	}
	if want := r.plan.First; want != "" && (len(rows) == 0 || rows[0].Key != string(want)) {
		return ErrReplicaMoved
	}
	return nil
}

// find reads what leaves and what changes.
func (r *retreat) find() error {
	switch {
	case r.plan.All:
		return r.findLeaving(byHeight, "chain = ? AND number IS NOT NULL", r.chain.Chain)
	case r.plan.Cut:
		return r.findLeaving(byHeight, "chain = ? AND number > ?", r.chain.Chain, r.plan.Above)
	case r.out.First == nil:
		return nil
	}
	err := r.findLeaving(byKey, "chain = ? AND `key` IN (SELECT f.`key` FROM feed f WHERE f.seq >= ? AND f.chain = ? AND f.kind = ?)",
		r.chain.Chain, r.out.FirstAt, r.chain.Chain, schema.FeedBlock)
	if err != nil {
		return err
	}
	return r.findStaying()
}

// The table of records by the index that leads to few of them: SQLite prefers the one that has them in order, and reads
// the whole chain.
const (
	byHeight = "records INDEXED BY records_chain_number"
	byKey    = "records INDEXED BY records_chain_key"
)

func (r *retreat) findLeaving(from, where string, args ...any) error {
	err := r.tx.Table(from).Where(where, args...).Order("number DESC, id DESC").Find(&r.leaving).Error
	if err != nil {
		return fmt.Errorf("find blocks that leave: %w", err)
	}
	for i := len(r.leaving) - 1; i >= 0; i-- {
		p, err := point(r.leaving[i].Number, r.leaving[i].Key)
		if err != nil {
			return err
		}
		r.out.Leaving = append(r.out.Leaving, p)
		if p.Number <= r.plan.Above {
			r.out.Late++
		}
	}
	return nil
}

// findStaying reads the blocks whose status changed since: the first change tells what it was.
func (r *retreat) findStaying() error {
	var rows []formerRow
	err := r.tx.Raw("SELECT r.id, r.`key`, r.number, r.parent, r.status, f.was FROM "+
		// SQLite takes the bare columns beside a MIN from the row that has it.
		"(SELECT `key`, was, MIN(seq) FROM feed WHERE seq >= ? AND chain = ? AND kind = ? GROUP BY `key`) f "+
		// CROSS makes it look up the records of those rows, not the rows of all records.
		"CROSS JOIN records r ON r.chain = ? AND r.`key` = f.`key` WHERE r.status <> f.was ORDER BY r.number DESC, r.id DESC",
		r.out.FirstAt, r.chain.Chain, schema.FeedStatus, r.chain.Chain).Scan(&rows).Error
	if err != nil {
		return fmt.Errorf("find blocks whose status changed: %w", err)
	}
	leaving := make(map[uint64]bool, len(r.leaving))
	for _, b := range r.leaving {
		leaving[b.ID] = true
	}
	r.staying = slices.DeleteFunc(rows, func(f formerRow) bool { return leaving[f.Block.ID] })
	r.out.Changed = uint64(len(r.staying))
	return nil
}

// undo writes the statuses and the rows that tell of them, and deletes what leaves.
func (r *retreat) undo() error {
	type change struct {
		blockRow
		to      schema.Status
		rewound bool
	}
	var off, on []change
	for _, b := range r.leaving {
		to := b.Status
		if to.OnBranch() {
			to = schema.StatusNonCanonical
		}
		off = append(off, change{b, to, true})
	}
	for _, f := range r.staying {
		c := change{f.Block, f.Was, false}
		if f.Was.OnBranch() && !f.Block.Status.OnBranch() {
			on = append(on, c)
			continue
		}
		off = append(off, c)
	}
	slices.SortStableFunc(off, func(a, b change) int { return cmp.Compare(b.Number, a.Number) })
	slices.Reverse(on)
	for _, c := range append(off, on...) {
		row := feedRow{
			Kind: string(schema.FeedStatus), Chain: r.chain.Chain, Key: &c.Key, Number: &c.Number,
			Status: text(c.to), Was: text(c.Status),
		}
		if c.rewound {
			row.Note = new(noteRewound)
		}
		r.add(row)
	}
	byStatus := map[schema.Status][]uint64{}
	for _, f := range r.staying {
		byStatus[f.Was] = append(byStatus[f.Was], f.Block.ID)
	}
	for status, ids := range byStatus {
		if err := updateStatus(r.tx, ids, status); err != nil {
			return err
		}
	}
	return r.forget(r.chain.Chain, r.leaving)
}

// settle finds out where the chain stands from the statuses of its blocks.
func (r *retreat) settle() error {
	var after *chainRow
	if len(r.leaving)+len(r.staying) > 0 || r.plan.Cut {
		var err error
		if after, err = r.stands(); err != nil {
			return err
		}
		if err := r.put(after, r.chain.Chain); err != nil {
			return err
		}
	} else {
		after = &r.chain
	}
	if after == nil {
		return nil
	}
	state, err := after.state()
	r.out.After = &state
	return err
}

// stands derives the chain's row: the head is the highest block on the branch, the root the lowest that it leads down to.
func (r *retreat) stands() (*chainRow, error) {
	head, err := r.highest("status IN ?", onBranch())
	if err != nil || head == nil {
		return nil, err
	}
	after := chainRow{Chain: r.chain.Chain, HeadKey: head.Key, HeadNumber: head.Number, Halted: r.chain.Halted}
	root, err := r.root(head)
	if err != nil {
		return nil, err
	}
	after.RootKey, after.RootNumber, after.RootParent = root.Key, root.Number, root.Parent
	if r.chain.FinalizedNumber != nil {
		final, err := r.highest("status = ?", schema.StatusFinalized)
		if err != nil {
			return nil, err
		}
		after.FinalizedNumber = final.height()
	}
	if r.chain.SafeNumber != nil {
		safe, err := r.highest("status IN ?", []schema.Status{schema.StatusSafe, schema.StatusFinalized})
		if err != nil {
			return nil, err
		}
		after.SafeNumber = cmp.Or(safe.height(), after.FinalizedNumber)
	}
	halted, err := r.toldSince(schema.FeedAlarm)
	if err != nil {
		return nil, err
	}
	if halted || r.plan.Cut {
		after.Halted = nil // it is told again, if it is so
	}
	return &after, nil
}

// height is nil for no block.
func (b *blockRow) height() *uint64 {
	if b == nil {
		return nil
	}
	return &b.Number
}

// highest is the highest block of the chain that a condition holds for, nil if there is none.
func (r *retreat) highest(where string, args ...any) (*blockRow, error) {
	var rows []blockRow
	err := r.tx.Where("chain = ?", r.chain.Chain).Where(where, args...).Order("number DESC").Limit(1).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("find where the chain stands: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return &rows[0], nil
}

// root is the lowest block that the head leads down to on the branch. Below everything that was touched the branch is as
// it was: there it need not be looked at again, unless its root had leapt over a gap since.
func (r *retreat) root(head *blockRow) (*blockRow, error) {
	low := head.Number
	for _, b := range r.leaving {
		low = min(low, b.Number)
	}
	for _, f := range r.staying {
		low = min(low, f.Block.Number)
	}
	leapt, err := r.toldSince(schema.FeedGap)
	if err != nil {
		return nil, err
	}
	if leapt {
		low = 0
	}
	var rows []blockRow
	err = r.tx.Raw("SELECT b.id, b.`key`, b.number, b.parent, b.status FROM records b "+
		"WHERE b.chain = ? AND b.number BETWEEN ? AND ? AND b.status IN ? AND NOT EXISTS (SELECT 1 FROM records p "+
		"WHERE p.chain = b.chain AND p.`key` = b.parent AND p.number + 1 = b.number AND p.status IN ?) "+
		"ORDER BY b.number DESC LIMIT 1",
		r.chain.Chain, low, head.Number, onBranch(), onBranch()).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("find root: %w", err)
	}
	if len(rows) > 0 {
		return &rows[0], nil
	}
	return &blockRow{Key: r.chain.RootKey, Number: r.chain.RootNumber, Parent: r.chain.RootParent}, nil
}

// toldSince tells whether the feed has a row of a kind among those that are taken back.
func (r *retreat) toldSince(kind schema.FeedKind) (bool, error) {
	if r.out.First == nil {
		return false, nil
	}
	var n int64
	err := r.tx.Model(&feedRow{}).Where("seq >= ? AND chain = ? AND kind = ?", r.out.FirstAt, r.chain.Chain, kind).
		Limit(1).Count(&n).Error
	if err != nil {
		return false, fmt.Errorf("look for rows of kind %s: %w", kind, err)
	}
	return n > 0, nil
}

func (c *chainRow) state() (schema.ChainState, error) {
	root, err := point(c.RootNumber, c.RootKey)
	if err != nil {
		return schema.ChainState{}, err
	}
	head, err := point(c.HeadNumber, c.HeadKey)
	return schema.ChainState{
		Chain: c.Chain, Root: root, Head: head, Safe: c.SafeNumber, Finalized: c.FinalizedNumber, Halted: deref(c.Halted),
	}, err
}

// secure moves a chain's safe and finalized marks up to where they are known to be, as far as the chain reaches.
func (m *mover) secure(move ChainMove) error {
	c, err := m.chain(move.Chain)
	if err != nil || c == nil {
		return err
	}
	final, safe := higher(c.FinalizedNumber, move.Finalized, c.HeadNumber), higher(c.SafeNumber, move.Safe, c.HeadNumber)
	if final == c.FinalizedNumber && safe == c.SafeNumber {
		return nil
	}
	from := c.RootNumber
	if c.FinalizedNumber != nil {
		from = max(from, *c.FinalizedNumber+1)
	}
	c.FinalizedNumber, c.SafeNumber = final, safe
	to := from
	for _, mark := range []*uint64{final, safe} {
		if mark != nil {
			to = max(to, *mark)
		}
	}
	blocks, err := blocksBetween(m.tx, c.Chain, from, to)
	if err != nil {
		return err
	}
	var on, off []blockRow
	for _, b := range blocks {
		if b.Status.OnBranch() {
			on = append(on, b)
		} else {
			off = append(off, b)
		}
	}
	if err := m.promote(c, on); err != nil {
		return err
	}
	if err := m.demote(c, off); err != nil {
		return err
	}
	return m.saveChain(c)
}

// higher is a mark moved up to a height, though not above a limit.
func higher(mark, to *uint64, limit uint64) *uint64 {
	if to == nil {
		return mark
	}
	height := min(*to, limit)
	if mark != nil && *mark >= height {
		return mark
	}
	return &height
}
