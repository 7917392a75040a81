package store

import (
	"fmt"
	"slices"

	"gorm.io/gorm"
)

// branch is a walk from a block to its parents, highest first, that ends below the chain's branch: at the block where
// they fork, or at one whose parent is not stored, or at the walk's bound.
type branch struct {
	blocks []blockRow // off the chain's branch
	fork   *blockRow  // on it; nil if the walk did not get there
	cut    bool       // the walk's bound ended it
}

// lowest is the last block of the walk off the branch.
func (w *branch) lowest() blockRow { return w.blocks[len(w.blocks)-1] }

// from is the part of the walk that starts at a key, nil if it is not part of it.
func (w *branch) from(key string) *branch {
	for i, block := range w.blocks {
		if block.Key == key {
			return &branch{blocks: w.blocks[i:], fork: w.fork, cut: w.cut}
		}
	}
	return nil
}

// A link whose heights are not consecutive is no link: hashes prove the parent, but a forged header may claim any
// height.
const (
	walkStart = "WITH RECURSIVE walk AS (SELECT id, `key`, number, parent, status, 1 AS step FROM records " +
		"WHERE chain = ? AND `key` = ? UNION ALL SELECT r.id, r.`key`, r.number, r.parent, r.status, walk.step + 1 " +
		"FROM walk JOIN records r ON r.chain = ? AND r.`key` = walk.parent AND r.number + 1 = walk.number " +
		"WHERE walk.step < ?"
	walkOff  = " AND walk.status NOT IN ('canonical', 'safe', 'finalized')"
	walkStop = ") SELECT id, `key`, number, parent, status FROM walk ORDER BY step"
)

// walk reads the branch that a block ends. A block that is not stored, or that is on the chain's branch, has none.
func (b *bench) walk(key string) (*branch, error) {
	var rows []blockRow
	id := b.chain.Chain
	err := b.db.Raw(walkStart+walkOff+walkStop, id, key, id, maxWalk).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("walk from %s: %w", key, err)
	}
	w := &branch{blocks: rows}
	if n := len(rows); n > 0 && rows[n-1].Status.OnBranch() {
		w.blocks, w.fork = rows[:n-1], &rows[n-1]
	}
	w.cut = len(rows) == maxWalk && w.fork == nil
	return w, nil
}

// contest counts votes against the chain's branch. An observer whose head is on the branch votes for it. One whose
// head is off it votes for every block of its own branch that was on its branch in the report before as well. The
// highest block with a strict majority wins. One whose head is not stored yet is live but votes for nothing.
func (b *bench) contest() (*ruling, error) {
	off, err := b.offBranch()
	if err != nil || !b.majority(len(off)) {
		return nil, err
	}
	votes := map[string]int{}
	var winner *branch
	for _, voter := range off {
		w, err := b.ballot(voter)
		if err != nil {
			return nil, err
		}
		for i, block := range w.blocks {
			votes[block.Key]++
			if b.majority(votes[block.Key]) && (winner == nil || block.Number > winner.blocks[0].Number) {
				winner = &branch{blocks: w.blocks[i:], fork: w.fork, cut: w.cut}
			}
		}
	}
	if winner == nil {
		return nil, nil
	}
	return b.award(winner)
}

// offBranch is the voters whose heads are stored off the chain's branch.
func (b *bench) offBranch() ([]headRow, error) {
	var keys []string
	for _, v := range b.voters {
		keys = append(keys, v.HeadKey)
	}
	found, err := findBlocks(b.db, b.chain.Chain, keys)
	if err != nil {
		return nil, err
	}
	var off []headRow
	for _, v := range b.voters {
		if block, ok := found[v.HeadKey]; ok && !block.Status.OnBranch() {
			off = append(off, v)
		}
	}
	return off, nil
}

// findBlocks reads the blocks of a chain that are stored under the given keys.
func findBlocks(db *gorm.DB, chain uint64, keys []string) (map[string]blockRow, error) {
	found := map[string]blockRow{}
	for part := range slices.Chunk(keys, chunkRows) {
		var rows []blockRow
		if err := db.Where("chain = ? AND `key` IN ?", chain, part).Find(&rows).Error; err != nil {
			return nil, fmt.Errorf("find blocks: %w", err)
		}
		for _, row := range rows {
			found[row.Key] = row
		}
	}
	return found, nil
}

// ballot is the blocks that an observer off the branch votes for.
func (b *bench) ballot(v headRow) (*branch, error) {
	now, err := b.walk(v.HeadKey)
	if err != nil || b.alone {
		return now, err
	}
	if v.BeforeKey == nil {
		return &branch{}, nil
	}
	if w := now.from(*v.BeforeKey); w != nil {
		return w, nil
	}
	before, err := b.walk(*v.BeforeKey)
	if err != nil {
		return nil, err
	}
	for _, block := range now.blocks {
		if before.from(block.Key) != nil {
			return now.from(block.Key), nil
		}
	}
	return &branch{}, nil
}
