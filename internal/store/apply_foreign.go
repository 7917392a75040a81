package store

import (
	"fmt"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// After a change of roles some of what is here is as the former writer had it: told in another order, settled at other
// moments, under other ids. The new writer's rows about it are taken for what they say of the present.

// settled tells whether an event about a block that is another writer's changes nothing, or cannot be. What is final stays
// so, and nothing loses rank on the branch: the new writer's judge may have come to that later. A row that adds a block
// which is on the branch here says where that writer's judge began; where it ended is told by rows of its own.
func settled(e schema.FeedEvent, was schema.Status) (same bool, wrong string) {
	switch {
	case was == schema.StatusFinalized && e.Status == schema.StatusOrphaned,
		was == schema.StatusOrphaned && e.Status == schema.StatusFinalized:
		return false, fmt.Sprintf("the writer that was followed before had the block %s for good", was)
	case was == schema.StatusFinalized, was == schema.StatusOrphaned:
		return true, ""
	case was.OnBranch() && e.Status.OnBranch():
		return rank(e.Status) <= rank(was), ""
	}
	return was == e.Status || e.Kind == schema.FeedBlock && was.OnBranch(), ""
}

// renumber gives new records ids of their own where the writer's are taken by records of another writer. Places in lists do
// not mean the same as at the writer then.
func (a *application) renumber() error {
	if len(a.told.foreign) == 0 || len(a.fresh) == 0 {
		return nil
	}
	var last uint64
	if err := a.db.Model(&recordRow{}).Select("COALESCE(MAX(id), 0)").Scan(&last).Error; err != nil {
		return fmt.Errorf("find last id: %w", err)
	}
	taken := map[uint64]bool{}
	for part := range slices.Chunk(a.fresh, chunkRows) {
		ids, found := make([]uint64, len(part)), []uint64(nil)
		for i, b := range part {
			ids[i] = b.id
			last = max(last, b.id)
		}
		if err := a.db.Model(&recordRow{}).Where("id IN ?", ids).Pluck("id", &found).Error; err != nil {
			return fmt.Errorf("find ids: %w", err)
		}
		for _, id := range found {
			taken[id] = true
		}
	}
	for _, b := range a.fresh {
		if taken[b.id] {
			last++
			b.id = last
		}
	}
	return nil
}
