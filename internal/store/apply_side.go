package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// ApplySide makes the views and transitions of nodes, and the counts of bare payloads by address, those that another store
// has. Views keep the time at which that store took them: their age tells how old they are.
func (s *Store) ApplySide(ctx context.Context, side *schema.Side) error {
	if s.dialect != dialectSQLite {
		return fmt.Errorf("%s: %w", s.source, ErrReplicaDialect)
	}
	err := s.retried(ctx, func(tx *gorm.DB) error {
		place, err := readReplicaPlace(tx)
		if err != nil {
			return err
		}
		if place == nil {
			return ErrNoReplica
		}
		return writeSide(tx, side)
	})
	if err != nil {
		return fmt.Errorf("apply side: %w", err)
	}
	s.prune(ctx, schema.Micros(s.now()))
	return nil
}

func writeSide(tx *gorm.DB, side *schema.Side) error {
	if err := tx.Where("1 = 1").Delete(&nodeRow{}).Error; err != nil {
		return fmt.Errorf("delete views of nodes: %w", err)
	}
	byView := slices.SortedFunc(slices.Values(side.Nodes), func(a, b schema.ObservedNode) int {
		return cmp.Or(cmp.Compare(a.Observer, b.Observer), a.ReportedAt.Compare(b.ReportedAt))
	})
	for len(byView) > 0 {
		first, n := byView[0], 1
		for n < len(byView) && byView[n].Observer == first.Observer && byView[n].ReportedAt.Equal(first.ReportedAt) {
			n++
		}
		views := make([]schema.NodeView, n)
		for i := range views {
			views[i] = byView[i].NodeView
		}
		if err := addViews(tx, first.Observer, views, schema.Micros(first.ReportedAt)); err != nil {
			return err
		}
		byView = byView[n:]
	}
	for _, e := range side.Events {
		if err := noteEvents(tx, e.Observer, []schema.NodeEvent{e.NodeEvent}, schema.Micros(e.ReceivedAt)); err != nil {
			return err
		}
	}
	counts := make([]clientRow, len(side.Clients))
	for i, c := range side.Clients {
		counts[i] = clientRow{IP: c.IP, Count: c.Count}
	}
	if len(counts) == 0 {
		return nil
	}
	err := tx.Clauses(clause.OnConflict{UpdateAll: true}).CreateInBatches(&counts, chunkRows).Error
	if err != nil {
		return fmt.Errorf("write counts of clients: %w", err)
	}
	return nil
}
