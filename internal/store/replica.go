package store

import (
	"context"
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// ReplicaPlace is which feed a replica follows, and up to where it has applied it. The zero value is a database that has
// applied nothing yet.
type ReplicaPlace struct {
	Env    string
	Role   string
	Source string      // the epoch of the writer's feed; empty while none of it is applied
	Seq    uint64      // the last row of the writer's feed that is applied
	Link   schema.Hash // of the writer's rows up to there; zero before the first
	Epoch  string      // of the feed that is served from here where it is not the writer's row by row, else empty
}

// replicaRow is the one row of a replica.
type replicaRow struct {
	ID        uint8 `gorm:"primaryKey;autoIncrement:false"`
	Env       string
	Role      string
	Source    string
	Seq       uint64
	Link      string // empty before the first row
	Epoch     *string
	UpdatedAt int64
}

func (replicaRow) TableName() string { return "replica" }

// ReplicaPlace returns the database's place in the feed that it follows, nil if it is no replica.
func (s *Store) ReplicaPlace(ctx context.Context) (*ReplicaPlace, error) {
	return readReplicaPlace(s.db.WithContext(ctx))
}

func readReplicaPlace(db *gorm.DB) (*ReplicaPlace, error) {
	var rows []replicaRow
	if err := db.Where("id = 1").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read replica: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	r := rows[0]
	p := &ReplicaPlace{Env: r.Env, Role: r.Role, Source: r.Source, Seq: r.Seq, Epoch: deref(r.Epoch)}
	if r.Link != "" {
		link, err := schema.Key(r.Link).Hash()
		if err != nil {
			return nil, fmt.Errorf("read replica: link: %w", err)
		}
		p.Link = link
	}
	return p, nil
}

// save writes the place, under the lock of a transaction.
func (p *ReplicaPlace) save(tx *gorm.DB, at int64) error {
	row := replicaRow{ID: 1, Env: p.Env, Role: p.Role, Source: p.Source, Seq: p.Seq, UpdatedAt: at}
	if !p.Link.IsZero() {
		row.Link = string(p.Link.Key())
	}
	if p.Epoch != "" {
		row.Epoch = &p.Epoch
	}
	if err := tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&row).Error; err != nil {
		return fmt.Errorf("save replica's place: %w", err)
	}
	return nil
}
