package store

import (
	"fmt"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// retold is what a replica knows beforehand of the feed that it follows. Following goes on at one seq for all chains: a
// chain is taken back by itself, so rows of the others come a second time; and after a change of roles the blocks that
// were here before are as the former writer had them.
type retold struct {
	told    map[uint64]uint64 // by chain: rows up to this seq are in already
	foreign map[uint64]uint64 // by chain: blocks up to this height may be as another writer had them
}

// toldRow is what is known of one chain.
type toldRow struct {
	Chain     uint64 `gorm:"primaryKey;autoIncrement:false"`
	Told      uint64
	ForeignTo *uint64
}

func (toldRow) TableName() string { return "replica_chains" }

func readRetold(db *gorm.DB) (retold, error) {
	r := retold{told: map[uint64]uint64{}, foreign: map[uint64]uint64{}}
	var rows []toldRow
	if err := db.Find(&rows).Error; err != nil {
		return r, fmt.Errorf("read what is told already: %w", err)
	}
	for _, row := range rows {
		r.told[row.Chain] = row.Told
		if row.ForeignTo != nil {
			r.foreign[row.Chain] = *row.ForeignTo
		}
	}
	return r, nil
}

// skips tells whether a row of the followed feed is in already: it changes nothing and goes into no feed here, whatever
// it says.
func (r retold) skips(chain, seq uint64) bool { return seq <= r.told[chain] }

// isForeign tells whether a block may be here as another writer had it: its record is left as it is, and its status may
// differ from what the followed feed says it was. The height is 0 for a bare payload.
func (r retold) isForeign(chain, number uint64) bool {
	to, ok := r.foreign[chain]
	return ok && number <= to
}

// compares tells whether a digest of the writer's says anything about what is here: everything that was told up to its
// seq has to be in and nothing that comes after it, and all blocks must be as that writer had them.
func (r retold) compares(d schema.RangeDigest) bool {
	return d.Seq >= r.told[d.Chain] && !r.isForeign(d.Chain, d.From)
}
