package store

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

const (
	// keepEvents is how long transitions of nodes are kept, and the views of observers that no longer report.
	keepEvents = 24 * time.Hour
	// pruneEvery is how often a store looks for what is older.
	pruneEvery = time.Minute
	// pruneBatch is how many rows one transaction deletes: few, because ingest may wait for it.
	pruneBatch = 500
	// pruneBatches bounds one look; what is left waits for the next.
	pruneBatches = 20
	// nodesWithin bounds what a report may spend on its nodes, and then on pruning. Its heads come first.
	nodesWithin = 2 * time.Second
)

// reportNodes writes what an observer says of its nodes. That has a transaction of its own after the one with its heads:
// blocks are what must not be held up.
func (s *Store) reportNodes(ctx context.Context, observer string, r schema.Report, now int64) error {
	if len(r.Nodes) == 0 && len(r.Events) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, nodesWithin)
	defer cancel()
	err := s.retried(ctx, func(tx *gorm.DB) error {
		if err := noteViews(tx, observer, r.Nodes, now); err != nil {
			return err
		}
		return noteEvents(tx, observer, r.Events, now)
	})
	if err != nil {
		return fmt.Errorf("write nodes: %w", err)
	}
	return nil
}

// noteViews makes the views those of the report. A report without any leaves them to grow old.
func noteViews(tx *gorm.DB, observer string, views []schema.NodeView, now int64) error {
	if len(views) == 0 {
		return nil
	}
	if err := addViews(tx, observer, views, now); err != nil {
		return err
	}
	// What this report did not touch, it does not name.
	err := tx.Where("observer = ? AND reported_at <> ?", observer, now).Delete(&nodeRow{}).Error
	if err != nil {
		return fmt.Errorf("delete views of nodes: %w", err)
	}
	return nil
}

// addViews writes views over those of the same nodes.
func addViews(tx *gorm.DB, observer string, views []schema.NodeView, now int64) error {
	rows := make([]nodeRow, len(views))
	for i, v := range views {
		rows[i] = nodeRow{
			Observer: observer, Chain: v.Chain, Node: v.Name, State: string(v.State), Reason: v.Reason,
			Height: v.Height, Lag: v.Lag, Since: schema.Micros(v.Since), Cordoned: v.Cordoned, ReportedAt: now,
		}
		if v.Latency != nil {
			rows[i].LatencyP50, rows[i].LatencyP99 = &v.Latency.P50, &v.Latency.P99
		}
	}
	upsert := clause.OnConflict{
		Columns: []clause.Column{{Name: "observer"}, {Name: "chain"}, {Name: "node"}},
		DoUpdates: clause.AssignmentColumns([]string{
			"state", "reason", "height", "lag", "latency_p50", "latency_p99", "since", "cordoned", "reported_at",
		}),
	}
	if err := tx.Clauses(upsert).Create(&rows).Error; err != nil {
		return fmt.Errorf("upsert views of nodes: %w", err)
	}
	return nil
}

func noteEvents(tx *gorm.DB, observer string, events []schema.NodeEvent, now int64) error {
	if len(events) == 0 {
		return nil
	}
	rows := make([]nodeEventRow, len(events))
	for i, e := range events {
		rows[i] = nodeEventRow{
			Observer: observer, Node: e.Node, Chain: e.Chain, FromState: string(e.From), ToState: string(e.To),
			Reason: e.Reason, At: schema.Micros(e.At), ReceivedAt: now,
		}
	}
	if err := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&rows).Error; err != nil {
		return fmt.Errorf("insert transitions of nodes: %w", err)
	}
	return nil
}

// prune deletes what is too old, at most once a minute. Whichever server takes a report does it; several at once find
// less to do each. A failure is logged here and is nobody else's: the next look finds the same rows.
func (s *Store) prune(ctx context.Context, now int64) {
	last := s.pruned.Load()
	if last != 0 && now >= last && now-last < pruneEvery.Microseconds() || !s.pruned.CompareAndSwap(last, now) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, nodesWithin)
	defer cancel()
	before := now - keepEvents.Microseconds()
	err := errors.Join(s.pruneEvents(ctx, before), s.pruneViews(ctx, before))
	if err != nil {
		s.log.WithError(err).Warn("old transitions of nodes are not deleted, will try again")
	}
}

// pruneEvents finds rows before it deletes them, so that it locks those and no others.
func (s *Store) pruneEvents(ctx context.Context, before int64) error {
	for range pruneBatches {
		var ids []uint64
		err := s.db.WithContext(ctx).Model(&nodeEventRow{}).Where("received_at < ?", before).
			Order("received_at").Limit(pruneBatch).Pluck("id", &ids).Error
		if err != nil {
			return fmt.Errorf("find old transitions of nodes: %w", err)
		}
		if len(ids) == 0 {
			return nil
		}
		err = s.transaction(ctx, func(tx *gorm.DB) error {
			return tx.Where("id IN ?", ids).Delete(&nodeEventRow{}).Error
		})
		if err != nil {
			return fmt.Errorf("delete old transitions of nodes: %w", err)
		}
		if len(ids) < pruneBatch {
			return nil
		}
	}
	return nil
}

// pruneViews forgets observers that are gone. It reads the whole table for them, which is a row for each node of each
// observer.
func (s *Store) pruneViews(ctx context.Context, before int64) error {
	var gone []string
	err := s.db.WithContext(ctx).Model(&nodeRow{}).Where("reported_at < ?", before).
		Distinct("observer").Limit(pruneBatch).Pluck("observer", &gone).Error
	if err != nil {
		return fmt.Errorf("find old views of nodes: %w", err)
	}
	if len(gone) == 0 {
		return nil
	}
	err = s.transaction(ctx, func(tx *gorm.DB) error {
		return tx.Where("observer IN ? AND reported_at < ?", gone, before).Delete(&nodeRow{}).Error
	})
	if err != nil {
		return fmt.Errorf("delete old views of nodes: %w", err)
	}
	return nil
}

func screenNodes(r schema.Report) error {
	for _, v := range r.Nodes {
		err := screenNode(v.Chain, v.Name, v.Reason, v.Since, v.State)
		switch {
		case err != nil:
			return err
		case v.Height != nil && *v.Height > math.MaxInt64 || v.Lag != nil && *v.Lag > math.MaxInt64:
			return &badOffer{"height or lag of node out of range"}
		case v.Latency != nil && !(finite(v.Latency.P50) && finite(v.Latency.P99)):
			return &badOffer{"latency of node is not a number"}
		}
	}
	for _, e := range r.Events {
		if err := screenNode(e.Chain, e.Node, e.Reason, e.At, e.From, e.To); err != nil {
			return err
		}
	}
	return nil
}

func screenNode(chain uint64, name, reason string, at time.Time, states ...schema.NodeState) error {
	switch {
	case chain == schema.BareChain || chain > math.MaxInt64:
		return &badOffer{"chain id out of range"}
	case !schema.ValidName(name):
		return &badOffer{"node is not a name"}
	case utf8.RuneCountInString(reason) > maxReason || !utf8.ValidString(reason):
		return &badOffer{fmt.Sprintf("reason of node is not UTF-8 of at most %d characters", maxReason)}
	case at.Year() < 1970 || at.Year() > 9999: // beyond, microseconds may overflow
		return &badOffer{"time of node out of range"}
	}
	for _, state := range states {
		if !schema.ValidName(string(state)) {
			return &badOffer{"state of node is not a name"}
		}
	}
	return nil
}

func finite(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }
