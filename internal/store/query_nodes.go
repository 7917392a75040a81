package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// maxHistories is how many histories one statement reads; SQLite joins at most 500 SELECTs.
const maxHistories = 100

// Nodes returns up to limit observers' latest views of nodes in the order that schema.NodePlace describes, from after
// the given place or, when that is nil, from the first. Views stay after their observer has gone: their age tells.
func (s *Store) Nodes(
	ctx context.Context, f schema.NodeFilter, after *schema.NodePlace, limit int,
) ([]schema.ObservedNode, error) {
	now, err := s.clock(ctx)
	if err != nil {
		return nil, err
	}
	// What follows a place is asked for in parts, each a range of the key; joined by OR they would not be one.
	parts := []func(*gorm.DB) *gorm.DB{func(db *gorm.DB) *gorm.DB { return db }}
	if after != nil {
		parts = []func(*gorm.DB) *gorm.DB{
			func(db *gorm.DB) *gorm.DB {
				return db.Where("observer = ? AND chain = ? AND node > ?", after.Observer, after.Chain, after.Node)
			},
			func(db *gorm.DB) *gorm.DB { return db.Where("observer = ? AND chain > ?", after.Observer, after.Chain) },
			func(db *gorm.DB) *gorm.DB { return db.Where("observer > ?", after.Observer) },
		}
	}
	var rows []nodeRow
	for _, part := range parts {
		if len(rows) == limit {
			break
		}
		var found []nodeRow
		query := part(filtered(s.db.WithContext(ctx), f, "state")).Order("observer, chain, node")
		if err := query.Limit(limit - len(rows)).Find(&found).Error; err != nil {
			return nil, fmt.Errorf("read nodes: %w", err)
		}
		rows = append(rows, found...)
	}
	out := make([]schema.ObservedNode, len(rows))
	for i, r := range rows {
		out[i] = r.observed(now)
	}
	return out, nil
}

// filtered selects rows of nodes or of their transitions.
func filtered(db *gorm.DB, f schema.NodeFilter, state string) *gorm.DB {
	if f.Node != "" {
		db = db.Where("node = ?", f.Node)
	}
	if f.Observer != "" {
		db = db.Where("observer = ?", f.Observer)
	}
	if f.Chain != 0 {
		db = db.Where("chain = ?", f.Chain)
	}
	if f.State != "" {
		db = db.Where(state+" = ?", string(f.State))
	}
	return db
}

func (r nodeRow) observed(now int64) schema.ObservedNode {
	out := schema.ObservedNode{
		Observer: r.Observer, ReportedAt: schema.FromMicros(r.ReportedAt),
		Age: max(0, time.Duration(now-r.ReportedAt)*time.Microsecond),
		NodeView: schema.NodeView{
			Name: r.Node, Chain: r.Chain, State: schema.NodeState(r.State), Reason: r.Reason, Height: r.Height,
			Lag: r.Lag, Since: schema.FromMicros(r.Since), Cordoned: r.Cordoned,
		},
	}
	if r.LatencyP50 != nil && r.LatencyP99 != nil {
		out.Latency = &schema.Latency{P50: *r.LatencyP50, P99: *r.LatencyP99}
	}
	return out
}

// NodeHistories returns up to limit transitions of each of the places, newest first by its observer's clock; those of
// one place stand together.
func (s *Store) NodeHistories(
	ctx context.Context, places []schema.NodePlace, limit int,
) ([]schema.ObservedEvent, error) {
	const one = "SELECT * FROM (SELECT id, observer, node, chain, from_state, to_state, reason, at, received_at " +
		"FROM node_events WHERE observer = ? AND node = ? AND chain = ? ORDER BY at DESC LIMIT ?) AS history"
	if limit <= 0 {
		return nil, nil
	}
	var rows []nodeEventRow
	for part := range slices.Chunk(places, maxHistories) {
		statements, values := make([]string, len(part)), make([]any, 0, 4*len(part))
		for i, p := range part {
			statements[i] = one
			values = append(values, p.Observer, p.Node, p.Chain, limit)
		}
		var found []nodeEventRow
		err := s.db.WithContext(ctx).Raw(strings.Join(statements, " UNION ALL "), values...).Scan(&found).Error
		if err != nil {
			return nil, fmt.Errorf("read histories of nodes: %w", err)
		}
		rows = append(rows, found...)
	}
	return nodeEvents(rows), nil
}

// NodeEvents returns up to limit transitions, those received last first: the clocks of several observers do not
// compare. The filter must name a node.
func (s *Store) NodeEvents(ctx context.Context, f schema.NodeFilter, limit int) ([]schema.ObservedEvent, error) {
	var rows []nodeEventRow
	err := filtered(s.db.WithContext(ctx), f, "to_state").Order("id DESC").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read transitions of nodes: %w", err)
	}
	return nodeEvents(rows), nil
}

func nodeEvents(rows []nodeEventRow) []schema.ObservedEvent {
	out := make([]schema.ObservedEvent, len(rows))
	for i, r := range rows {
		out[i] = schema.ObservedEvent{
			Observer: r.Observer, ReceivedAt: schema.FromMicros(r.ReceivedAt),
			NodeEvent: schema.NodeEvent{
				Node: r.Node, Chain: r.Chain, From: schema.NodeState(r.FromState), To: schema.NodeState(r.ToState),
				Reason: r.Reason, At: schema.FromMicros(r.At),
			},
		}
	}
	return out
}
