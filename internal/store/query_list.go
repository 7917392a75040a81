package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// ListBlocks returns up to limit blocks of the given chains in the order that schema.BlockPlace describes, or turned
// round where only the chain is still from the lowest, after the given place or from the start when that is nil. Next is
// where to go on; nil at the end. With conditions beyond chain and height there may be fewer than limit, even none, with
// more to come: see walkRows.
//
// Each chain is read along its own index and the results are merged, because no index orders the blocks of all chains.
func (s *Store) ListBlocks(
	ctx context.Context, chains []uint64, f schema.RecordFilter, ascending bool, after *schema.BlockPlace, limit int,
) ([]schema.Record, *schema.BlockPlace, error) {
	parts := make([]part[recordRow], len(chains))
	for i, chain := range chains {
		w := walk{
			table: "records", index: "records_chain_number", order: []string{"number", "id"}, ascending: ascending,
			fixed: condition{"chain = ?", []any{chain}}, bounds: heights(f), filter: recordFacts(f),
		}
		received(&w.filter, f)
		var err error
		parts[i], err = walked(ctx, s, w, startOnChain(chain, after, ascending), limit, metadataOf, numberPlace)
		if err != nil {
			return nil, nil, fmt.Errorf("list blocks: %w", err)
		}
	}
	rows, next := merge(parts, limit,
		func(r *recordRow) schema.BlockPlace {
			return schema.BlockPlace{Number: *r.Number, Chain: r.Chain, ID: r.ID}
		},
		func(i int, next []uint64) schema.BlockPlace {
			return schema.BlockPlace{Number: next[0], Chain: chains[i], ID: next[1]}
		},
		func(a, b schema.BlockPlace) int {
			return cmp.Or(
				directed(cmp.Compare(a.Number, b.Number), ascending), cmp.Compare(a.Chain, b.Chain),
				directed(cmp.Compare(a.ID, b.ID), ascending),
			)
		})
	out, err := records(rows)
	return out, next, err
}

// ListRecords returns up to limit records, bare payloads among them, in the order that schema.RecordPlace describes,
// after a place or from the start. Next and short answers are as with ListBlocks.
func (s *Store) ListRecords(
	ctx context.Context, f schema.RecordFilter, ascending bool, after *schema.RecordPlace, limit int,
) ([]schema.Record, *schema.RecordPlace, error) {
	w := walk{
		table: "records", index: "records_received", order: []string{"received_at", "id"}, ascending: ascending,
		filter: recordFacts(f),
	}
	received(&w.bounds, f)
	if f.Chain != nil {
		w.filter.and("chain = ?", *f.Chain)
	}
	if f.Blocks {
		w.filter.and("chain <> ?", schema.BareChain)
	}
	if h := heights(f); f.From != nil || f.To != nil {
		w.filter.and(h.sql, h.args...)
	}
	var start []uint64
	if after != nil {
		start = []uint64{after.ReceivedAt, after.ID}
	}
	found, err := walked(ctx, s, w, start, limit, metadataOf, func(r *recordRow) []uint64 {
		return []uint64{uint64(r.ReceivedAt), r.ID}
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list records: %w", err)
	}
	var next *schema.RecordPlace
	if found.next != nil {
		next = &schema.RecordPlace{ReceivedAt: found.next[0], ID: found.next[1]}
	}
	out, err := records(found.rows)
	return out, next, err
}

func metadataOf(db *gorm.DB) *gorm.DB { return db.Model(&recordRow{}).Omit("payload", "token") }

func numberPlace(r *recordRow) []uint64 { return []uint64{*r.Number, r.ID} }

func directed(comparison int, ascending bool) int {
	if ascending {
		return comparison
	}
	return -comparison
}

// startOnChain is where a place among the blocks of all chains lies among those of one.
func startOnChain(chain uint64, after *schema.BlockPlace, ascending bool) []uint64 {
	if after == nil {
		return nil
	}
	first, last := uint64(math.MaxInt64), uint64(0) // ids before and after all others in the walk's direction
	if ascending {
		first, last = last, first
	}
	switch {
	case chain == after.Chain:
		return []uint64{after.Number, after.ID}
	case chain < after.Chain: // at the same height the lower chain comes first, so it has been
		return []uint64{after.Number, last}
	}
	return []uint64{after.Number, first}
}

// heights bounds a block's number; without a bound it still leaves out what has none.
func heights(f schema.RecordFilter) condition {
	var c condition
	if f.From != nil {
		c.and("number >= ?", *f.From)
	}
	if f.To != nil {
		c.and("number <= ?", *f.To)
	}
	if c.sql == "" {
		c.and("number IS NOT NULL")
	}
	return c
}

func received(c *condition, f schema.RecordFilter) {
	if f.Since != nil {
		c.and("received_at >= ?", schema.Micros(*f.Since))
	}
	if f.Until != nil {
		c.and("received_at < ?", schema.Micros(*f.Until))
	}
}

// recordFacts are the conditions that no index serves.
func recordFacts(f schema.RecordFilter) condition {
	var c condition
	if len(f.Statuses) > 0 {
		c.and("status IN ?", f.Statuses)
	}
	if f.Observer != "" {
		c.and("observer = ?", f.Observer)
	}
	if f.Node != "" {
		c.and("node = ?", f.Node)
	}
	if f.Server != "" {
		c.and("server = ?", f.Server)
	}
	return c
}

// PageBlocks returns up to limit blocks of one chain, newest first, after skipping some. Skipping walks the index:
// it costs more the farther it goes, where ListBlocks costs the same everywhere.
func (s *Store) PageBlocks(ctx context.Context, chain uint64, skip, limit int) ([]schema.Record, error) {
	out, err := s.pageRecords(ctx, skip, limit, "number DESC, id DESC", "chain = ? AND number IS NOT NULL", chain)
	slices.SortFunc(out, func(a, b schema.Record) int {
		return cmp.Or(cmp.Compare(b.Header.Number, a.Header.Number), cmp.Compare(b.ID, a.ID))
	})
	return out, err
}

// PageRecords returns up to limit records, those received last first, after skipping some, as PageBlocks does.
func (s *Store) PageRecords(ctx context.Context, skip, limit int) ([]schema.Record, error) {
	out, err := s.pageRecords(ctx, skip, limit, "received_at DESC, id DESC", "1 = 1")
	slices.SortFunc(out, func(a, b schema.Record) int {
		return cmp.Or(b.ReceivedAt.Compare(a.ReceivedAt), cmp.Compare(b.ID, a.ID))
	})
	return out, err
}

// pageRecords skips in the index alone and then reads the rows, in no order.
func (s *Store) pageRecords(
	ctx context.Context, skip, limit int, order, where string, args ...any,
) ([]schema.Record, error) {
	var ids []uint64
	err := s.db.WithContext(ctx).Model(&recordRow{}).Where(where, args...).Order(order).Offset(skip).Limit(limit).
		Pluck("id", &ids).Error
	if err != nil {
		return nil, fmt.Errorf("page records: %w", err)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	var rows []recordRow
	if err := s.metadata(ctx).Where("id IN ?", ids).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read page of records: %w", err)
	}
	return records(rows)
}
