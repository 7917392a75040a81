package store

import (
	"context"
	"fmt"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// Recent counts the records received since a time. If there are more than most, it counts those received last and says
// since when.
func (s *Store) Recent(ctx context.Context, since time.Time, most int) (schema.Recent, error) {
	w := walk{table: "records", index: "records_received", order: []string{"received_at", "id"}}
	start := schema.Micros(since)
	w.bounds.and("received_at >= ?", start)
	end, err := s.stride(ctx, w, nil, most+1)
	if err != nil {
		return schema.Recent{}, fmt.Errorf("find recent records: %w", err)
	}
	if end != nil {
		start = int64(end[0]) + 1
		w.bounds = condition{}
		w.bounds.and("received_at >= ?", start)
	}
	out := schema.Recent{Since: schema.FromMicros(start)}
	var groups []struct {
		Chain    uint64
		Server   string
		Observer *string
		N        uint64
	}
	err = s.along(ctx, w, nil).Select("chain, server, observer, COUNT(*) AS n").Group("chain, server, observer").
		Find(&groups).Error
	if err != nil {
		return out, fmt.Errorf("count recent records: %w", err)
	}
	for _, g := range groups {
		out.Groups = append(out.Groups, schema.RecentGroup{
			Chain: g.Chain, Server: g.Server, Observer: deref(g.Observer), Records: g.N,
		})
	}
	out.Transactions, err = s.recentTransactions(ctx, start)
	return out, err
}

func (s *Store) recentTransactions(ctx context.Context, since int64) (map[uint64]uint64, error) {
	var rows []struct{ Chain, N uint64 }
	w := walk{table: "records", index: "records_received"}
	err := s.db.WithContext(ctx).Table(w.from(s.dialect)).
		Joins("JOIN transactions t ON t.block = records.`key` AND t.chain = records.chain").
		Where("records.received_at >= ?", since).Select("records.chain, COUNT(*) AS n").Group("records.chain").
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("count recent transactions: %w", err)
	}
	out := make(map[uint64]uint64, len(rows))
	for _, r := range rows {
		out[r.Chain] = r.N
	}
	return out, nil
}

// Sightings returns what was observed of the newest blocks, at most so many: of one chain those that are highest, of all
// chains those received last. They come by record, in no other order.
func (s *Store) Sightings(ctx context.Context, chain *uint64, blocks int) ([]schema.Sighting, error) {
	w := walk{table: "records", index: "records_received", order: []string{"received_at", "id"}}
	if chain != nil {
		w = walk{
			table: "records", index: "records_chain_number", order: []string{"number", "id"},
			fixed: condition{"chain = ?", []any{*chain}}, bounds: heights(schema.RecordFilter{}),
		}
	}
	var rows []struct {
		Record                 uint64
		Observer, Node, Origin string
		ReceivedAt             int64
	}
	newest := s.along(ctx, w, nil).Select("id").Order(w.by()).Limit(blocks)
	err := s.db.WithContext(ctx).Table("(?) AS newest", newest).
		Joins("JOIN observations o ON o.record = newest.id").
		Select("o.record, o.observer, o.node, o.origin, o.received_at").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read sightings: %w", err)
	}
	out := make([]schema.Sighting, len(rows))
	for i, r := range rows {
		out[i] = schema.Sighting{
			Record: r.Record, Observer: r.Observer, Node: r.Node, Origin: schema.Origin(r.Origin),
			ReceivedAt: schema.FromMicros(r.ReceivedAt),
		}
	}
	return out, nil
}
