package store

import (
	"fmt"

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

// freeIDs gives records another id whose own is another writer's record's here. Places in lists do not mean the same as
// at the writer then.
func (a *application) freeIDs() error {
	if len(a.told.foreign) == 0 {
		return nil
	}
	var ids []uint64
	highest := uint64(0)
	for i := range a.Rows {
		if a.isNew(&a.Rows[i]) {
			ids = append(ids, a.Rows[i].Record.ID)
			highest = max(highest, a.Rows[i].Record.ID)
		}
	}
	taken := map[uint64]bool{}
	for len(ids) > 0 {
		n := min(len(ids), chunkRows)
		var found []uint64
		if err := a.db.Model(&recordRow{}).Where("id IN ?", ids[:n]).Pluck("id", &found).Error; err != nil {
			return fmt.Errorf("find ids that are taken: %w", err)
		}
		for _, id := range found {
			taken[id] = true
		}
		ids = ids[n:]
	}
	if len(taken) == 0 {
		return nil
	}
	var last uint64
	if err := a.db.Model(&recordRow{}).Select("MAX(id)").Scan(&last).Error; err != nil {
		return fmt.Errorf("find the highest id: %w", err)
	}
	last = max(last, highest)
	for i := range a.Rows {
		r := &a.Rows[i]
		if a.isNew(r) && taken[r.Record.ID] {
			record := *r.Record
			last++
			record.ID, r.Record = last, &record
		}
	}
	return nil
}

// isNew tells whether a row adds a record that is not here.
func (a *application) isNew(r *schema.ShippedRow) bool {
	if r.Record == nil || a.told.skips(r.Chain, r.Seq) {
		return false
	}
	c := a.chains[r.Chain]
	return c == nil || c.blocks[string(r.Key)] == nil
}
