package store

import (
	"cmp"
	"fmt"
	"slices"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// lower moves the root down onto ancestors that were stored later, a bounded number at a time.
func (b *bench) lower() (*ruling, error) {
	c := b.chain
	if c.RootNumber == 0 {
		return nil, nil
	}
	parent, err := findBlocks(b.db, c.Chain, []string{c.RootParent})
	if err != nil {
		return nil, err
	}
	top, ok := parent[c.RootParent]
	if !ok || top.Number+1 != c.RootNumber {
		return nil, nil
	}
	down, err := walkAll(b.db, c.Chain, top.Key, maxChange)
	if err != nil {
		return nil, err
	}
	rivals, err := blocksBetween(b.db, c.Chain, down[len(down)-1].Number, top.Number)
	if err != nil {
		return nil, err
	}
	rivals = slices.DeleteFunc(rivals, func(r blockRow) bool { return r.Key == down[top.Number-r.Number].Key })
	for _, r := range rivals {
		if r.Status == schema.StatusFinalized {
			return b.halt(top, "ancestors of the branch contradict a finalized block"), nil
		}
	}
	return &ruling{apply: func(l *ledger, c *chainRow) error {
		if err := l.demote(c, rivals); err != nil {
			return err
		}
		low := down[len(down)-1]
		c.RootKey, c.RootNumber, c.RootParent = low.Key, low.Number, low.Parent
		return l.promote(c, down)
	}}, nil
}

// walkAll reads a block and its ancestors, whatever their status, highest first.
func walkAll(db *gorm.DB, chain uint64, key string, limit int) ([]blockRow, error) {
	var rows []blockRow
	if err := db.Raw(walkStart+walkStop, chain, key, chain, limit).Scan(&rows).Error; err != nil {
		return nil, fmt.Errorf("walk from %s: %w", key, err)
	}
	return rows, nil
}

// blocksBetween reads every block of the heights, both ends included, lowest first.
func blocksBetween(db *gorm.DB, chain, from, to uint64) ([]blockRow, error) {
	var rows []blockRow
	err := db.Where("chain = ? AND number BETWEEN ? AND ?", chain, from, to).Order("number, id").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read blocks: %w", err)
	}
	return rows, nil
}

// demote takes blocks off the branch, for good where their height is finalized.
func (l *ledger) demote(c *chainRow, blocks []blockRow) error {
	var loose, final []blockRow
	for _, b := range blocks {
		switch {
		case b.Status == schema.StatusOrphaned:
		case c.FinalizedNumber != nil && b.Number <= *c.FinalizedNumber:
			final = append(final, b)
		case b.Status.OnBranch():
			loose = append(loose, b)
		}
	}
	if err := l.setStatus(c.Chain, loose, schema.StatusNonCanonical); err != nil {
		return err
	}
	return l.setStatus(c.Chain, final, schema.StatusOrphaned)
}

// promote puts blocks on the branch, with the status that their height has there. None loses a higher one.
func (l *ledger) promote(c *chainRow, blocks []blockRow) error {
	byStatus := map[schema.Status][]blockRow{}
	for _, b := range blocks {
		status := schema.StatusCanonical
		switch {
		case c.FinalizedNumber != nil && b.Number <= *c.FinalizedNumber:
			status = schema.StatusFinalized
		case c.SafeNumber != nil && b.Number <= *c.SafeNumber:
			status = schema.StatusSafe
		}
		if rank(status) > rank(b.Status) {
			byStatus[status] = append(byStatus[status], b)
		}
	}
	for _, status := range []schema.Status{schema.StatusCanonical, schema.StatusSafe, schema.StatusFinalized} {
		if err := l.setStatus(c.Chain, byStatus[status], status); err != nil {
			return err
		}
	}
	return nil
}

// rank orders the statuses of blocks on the branch; those off it are 0.
func rank(s schema.Status) int {
	return slices.Index([]schema.Status{schema.StatusCanonical, schema.StatusSafe, schema.StatusFinalized}, s) + 1
}

// finalize moves finality up to where a strict majority of live observers sees it, or halts the chain when a majority
// sees another block finalized than we did.
func (b *bench) finalize() (*ruling, error) {
	against, err := b.contradiction()
	if err != nil || against != nil {
		return against, err
	}
	to, err := b.agreed(func(v headRow) (*string, *uint64) { return v.FinalizedKey, v.FinalizedNumber })
	if err != nil || to == nil {
		return nil, err
	}
	from := b.chain.above(b.chain.FinalizedNumber)
	if *to < from {
		return nil, nil
	}
	return &ruling{apply: func(l *ledger, c *chainRow) error {
		end := min(*to, from+maxChange-1)
		c.FinalizedNumber = &end
		if c.SafeNumber == nil || *c.SafeNumber < end {
			c.SafeNumber = &end
		}
		blocks, err := blocksBetween(l.tx, c.Chain, from, end)
		if err != nil {
			return err
		}
		var on, off []blockRow
		for _, block := range blocks {
			if block.Status.OnBranch() {
				on = append(on, block)
			} else {
				off = append(off, block)
			}
		}
		if err := l.promote(c, on); err != nil {
			return err
		}
		return l.demote(c, off)
	}}, nil
}

// secure moves the safe block up likewise.
func (b *bench) secure() (*ruling, error) {
	to, err := b.agreed(func(v headRow) (*string, *uint64) { return v.SafeKey, v.SafeNumber })
	if err != nil || to == nil {
		return nil, err
	}
	from := b.chain.above(b.chain.SafeNumber)
	if *to < from {
		return nil, nil
	}
	return &ruling{apply: func(l *ledger, c *chainRow) error {
		end := min(*to, from+maxChange-1)
		c.SafeNumber = &end
		blocks, err := blocksBetween(l.tx, c.Chain, from, end)
		if err != nil {
			return err
		}
		return l.promote(c, slices.DeleteFunc(blocks, func(block blockRow) bool { return !block.Status.OnBranch() }))
	}}, nil
}

// above is the first height of the branch above a mark.
func (c *chainRow) above(mark *uint64) uint64 {
	if mark == nil {
		return c.RootNumber
	}
	return max(c.RootNumber, *mark+1)
}

// agreed is the height that a strict majority of live observers has reached with a point on the chain's branch. A
// point that is not stored, or not on the branch, says nothing about the branch and counts for no height.
func (b *bench) agreed(point func(headRow) (*string, *uint64)) (*uint64, error) {
	var keys []string
	for _, v := range b.voters {
		if key, _ := point(v); key != nil {
			keys = append(keys, *key)
		}
	}
	if !b.majority(len(keys)) {
		return nil, nil
	}
	found, err := findBlocks(b.db, b.chain.Chain, keys)
	if err != nil {
		return nil, err
	}
	var reached []uint64
	for _, v := range b.voters {
		key, number := point(v)
		if key == nil {
			continue
		}
		if block, ok := found[*key]; ok && block.Status.OnBranch() && block.Number == *number {
			reached = append(reached, block.Number)
		}
	}
	if !b.majority(len(reached)) {
		return nil, nil
	}
	slices.SortFunc(reached, func(a, b uint64) int { return cmp.Compare(b, a) })
	return &reached[len(b.voters)/2], nil
}

// contradiction halts the chain when a strict majority of live observers sees blocks finalized at heights where ours
// is finalized and another.
func (b *bench) contradiction() (*ruling, error) {
	c := b.chain
	if c.FinalizedNumber == nil {
		return nil, nil
	}
	var numbers []uint64
	for _, v := range b.voters {
		if v.FinalizedNumber != nil && *v.FinalizedNumber <= *c.FinalizedNumber {
			numbers = append(numbers, *v.FinalizedNumber)
		}
	}
	if !b.majority(len(numbers)) {
		return nil, nil
	}
	ours, err := finalizedAt(b.db, c.Chain, numbers)
	if err != nil {
		return nil, err
	}
	var against []headRow
	for _, v := range b.voters {
		if v.FinalizedNumber == nil {
			continue
		}
		if key, ok := ours[*v.FinalizedNumber]; ok && key != *v.FinalizedKey {
			against = append(against, v)
		}
	}
	if !b.majority(len(against)) {
		return nil, nil
	}
	theirs := blockRow{Key: *against[0].FinalizedKey, Number: *against[0].FinalizedNumber}
	return b.halt(theirs, "observers see another block finalized"), nil
}

// finalizedAt reads the keys of the finalized blocks at some heights.
func finalizedAt(db *gorm.DB, chain uint64, numbers []uint64) (map[uint64]string, error) {
	var rows []blockRow
	err := db.Where("chain = ? AND number IN ? AND status = ?", chain, numbers, schema.StatusFinalized).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read finalized blocks: %w", err)
	}
	keys := make(map[uint64]string, len(rows))
	for _, row := range rows {
		keys[row.Number] = row.Key
	}
	return keys, nil
}
