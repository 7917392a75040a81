package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// Rows that one statement of a shipment reads. The first reads few: how large their records are is not known yet.
const (
	shipFirst = 32
	shipMost  = 256
)

// Shipment returns up to limit rows of the feed after a seq, in order and without a gap, with everything that belongs to
// the records that they added. It stops early, though not before the first row, once it has read so many bytes of
// records. A feed that ends before limit is reached gives what there is.
func (s *Store) Shipment(ctx context.Context, after uint64, limit, bytes int) ([]schema.ShippedRow, error) {
	var out []schema.ShippedRow
	size, want := 0, shipFirst
	for len(out) < limit && size < bytes {
		part, err := s.shipRows(ctx, after+uint64(len(out)), min(want, limit-len(out)), bytes-size)
		if err != nil {
			return nil, fmt.Errorf("read shipment after %d: %w", after, err)
		}
		if len(part) == 0 {
			break
		}
		n, err := s.shipDetails(ctx, part)
		if err != nil {
			return nil, fmt.Errorf("read shipment after %d: %w", after, err)
		}
		size += n
		out = append(out, part...)
		want = min(shipMost, 1+(bytes-size)*len(out)/(size+1))
	}
	return out, nil
}

// shipRow is a row of the feed beside the record that it added, as the database has them.
type shipRow struct {
	event feedRow

	id                     sql.NullInt64
	number, time, observed *int64
	received               sql.NullInt64
	pruned                 *int64
	parent, recipient      *string
	content, observer      *string
	node, origin           *string
	server, remote         *string
	header, payload, raw   []byte
}

// shipQuery has its columns in the order in which shipRow is read. Only rows that added a record carry it.
const shipQuery = "SELECT f.seq, f.kind, f.chain, f.`key`, f.number, f.to_number, f.status, f.was, f.note, f.at, " +
	"r.id, r.number, r.parent, r.block_time, r.fee_recipient, r.header, r.content_type, r.payload, r.payload_pruned_at, " +
	"r.observer, r.node, r.origin, r.server, r.remote, r.observed_at, r.received_at, w.body FROM feed f " +
	"LEFT JOIN records r ON r.chain = f.chain AND r.`key` = f.`key` AND f.kind IN ('block', 'bare') " +
	"LEFT JOIN raws w ON w.record = r.id " +
	"WHERE f.seq > ? ORDER BY f.seq LIMIT ?"

func (r *shipRow) scan(rows *sql.Rows) error {
	e := &r.event
	return rows.Scan(&e.Seq, &e.Kind, &e.Chain, &e.Key, &e.Number, &e.ToNumber, &e.Status, &e.Was, &e.Note, &e.At,
		&r.id, &r.number, &r.parent, &r.time, &r.recipient, &r.header, &r.content, &r.payload, &r.pruned,
		&r.observer, &r.node, &r.origin, &r.server, &r.remote, &r.observed, &r.received, &r.raw)
}

// shipRows reads rows without transactions, at least one, until their payloads and raw JSON add up to so many bytes.
func (s *Store) shipRows(ctx context.Context, after uint64, limit, bytes int) (out []schema.ShippedRow, err error) {
	rows, err := s.pool.QueryContext(ctx, shipQuery, after, limit)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for size := 0; (size < bytes || len(out) == 0) && rows.Next(); {
		var r shipRow
		if err := r.scan(rows); err != nil {
			return nil, err
		}
		row, err := r.shipped()
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", r.event.Seq, err)
		}
		size += len(r.payload) + len(r.header) + len(r.raw)
		out = append(out, row)
	}
	return out, rows.Err()
}

func (r *shipRow) shipped() (schema.ShippedRow, error) {
	row := schema.ShippedRow{FeedEvent: r.event.event()}
	if row.Kind != schema.FeedBlock && row.Kind != schema.FeedBare {
		return row, nil
	}
	if !r.id.Valid {
		return row, fmt.Errorf("record %s of chain %d is not stored", row.Key, row.Chain)
	}
	record := &schema.ShippedRecord{
		ID: uint64(r.id.Int64), Chain: row.Chain, Key: row.Key, Time: optionalTime(r.time), Header: r.header,
		ContentType: deref(r.content), Payload: r.payload, PrunedAt: optionalTime(r.pruned), Observer: deref(r.observer),
		Node: deref(r.node), Origin: schema.Origin(deref(r.origin)), Server: deref(r.server), Remote: deref(r.remote),
		ObservedAt: optionalTime(r.observed), ReceivedAt: schema.FromMicros(r.received.Int64), Raw: r.raw,
	}
	if r.number != nil {
		n := uint64(*r.number)
		record.Number = &n
	}
	if r.parent != nil {
		parent, err := schema.ParseHash(*r.parent)
		if err != nil {
			return row, fmt.Errorf("stored parent: %w", err)
		}
		record.Parent = &parent
	}
	if r.recipient != nil {
		recipient, err := schema.ParseAddress(*r.recipient)
		if err != nil {
			return row, fmt.Errorf("stored fee recipient: %w", err)
		}
		record.FeeRecipient = &recipient
	}
	row.Record = record
	return row, nil
}

func optionalTime(us *int64) *time.Time {
	if us == nil {
		return nil
	}
	t := schema.FromMicros(*us)
	return &t
}

// shipDetails adds transactions to records, and tells how many bytes the records are, roughly.
func (s *Store) shipDetails(ctx context.Context, rows []schema.ShippedRow) (size int, err error) {
	blocks := map[blockName]*schema.ShippedRecord{}
	for _, row := range rows {
		if row.Record == nil {
			continue
		}
		size += len(row.Record.Payload) + len(row.Record.Header) + len(row.Record.Raw)
		if row.Kind == schema.FeedBlock {
			blocks[blockName{row.Chain, row.Key}] = row.Record
		}
	}
	if len(blocks) == 0 {
		return size, nil
	}
	if err := s.shipTransactions(ctx, blocks); err != nil {
		return 0, err
	}
	const transaction = 300 // bytes of one in JSON, with three hashes and a value
	for _, r := range blocks {
		size += transaction * len(r.Transactions)
	}
	return size, nil
}

type blockName struct {
	chain uint64
	key   schema.Key
}

// shipTransactions leaves out what another chain that shares the block has stored under it.
func (s *Store) shipTransactions(ctx context.Context, blocks map[blockName]*schema.ShippedRecord) error {
	keys := make([]schema.Key, 0, len(blocks))
	for b := range blocks {
		keys = append(keys, b.key)
	}
	var rows []struct {
		Transaction storedTransaction `gorm:"embedded"`
		Chain       uint64
		Block       string
	}
	err := s.db.WithContext(ctx).Table("transactions").
		Select("chain, block, hash, tx_index, sender, recipient, value, gas_used, tx_status, contract").
		Where("block IN ?", keys).Find(&rows).Error
	if err != nil {
		return fmt.Errorf("transactions: %w", err)
	}
	for _, r := range rows {
		record := blocks[blockName{r.Chain, schema.Key(r.Block)}]
		if record == nil {
			continue
		}
		transaction, err := r.Transaction.transaction()
		if err != nil {
			return err
		}
		record.Transactions = append(record.Transactions, transaction)
	}
	for _, record := range blocks {
		slices.SortFunc(record.Transactions, func(a, b schema.Transaction) int { return int(a.Index) - int(b.Index) })
	}
	return nil
}

const sightingColumns = "r.chain, r.`key`, o.observer, o.node, o.server, o.origin, o.observed_at, o.received_at"

// SightingsOf returns who else saw records: every observation of theirs but that of who was first, which the record
// tells.
func (s *Store) SightingsOf(ctx context.Context, records []uint64) ([]schema.ShippedSighting, error) {
	var found []schema.ShippedSighting
	for part := range slices.Chunk(records, shipMost) {
		var rows []sightingRow
		err := s.db.WithContext(ctx).Table("observations o").Select(sightingColumns).
			Joins("JOIN records r ON r.id = o.record AND r.observer <> o.observer").
			Where("o.record IN ?", part).Order("o.record, o.observer").Find(&rows).Error
		if err != nil {
			return nil, fmt.Errorf("read sightings: %w", err)
		}
		found = append(found, sightings(rows)...)
	}
	return found, nil
}

// eachObserver finds the observers without reading all of their observations.
const eachObserver = "(WITH RECURSIVE each_one (observer) AS (SELECT MIN(observer) FROM observations UNION ALL " +
	"SELECT (SELECT MIN(observer) FROM observations WHERE observer > each_one.observer) FROM each_one " +
	"WHERE each_one.observer IS NOT NULL) SELECT observer FROM each_one WHERE observer IS NOT NULL) x"

// SightingsSince is SightingsOf for all that servers received since a time, by their clocks: up to limit, those received
// first. Now is the store's clock before it looked.
func (s *Store) SightingsSince(
	ctx context.Context, since time.Time, limit int,
) (found []schema.ShippedSighting, now time.Time, err error) {
	clock, err := s.clock(ctx)
	if err != nil {
		return nil, now, err
	}
	var rows []sightingRow
	err = s.db.WithContext(ctx).Table(eachObserver).Select(sightingColumns).
		Joins("JOIN observations o ON o.observer = x.observer AND o.received_at >= ?", schema.Micros(since)).
		Joins("JOIN records r ON r.id = o.record AND r.observer <> o.observer").
		Order("o.received_at, o.record").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, now, fmt.Errorf("read sightings: %w", err)
	}
	return sightings(rows), schema.FromMicros(clock), nil
}

// sightingRow is an observation of a record that it names by chain and key.
type sightingRow struct {
	Chain                               uint64
	Key, Observer, Node, Server, Origin string
	ObservedAt, ReceivedAt              int64
}

func sightings(rows []sightingRow) []schema.ShippedSighting {
	out := make([]schema.ShippedSighting, len(rows))
	for i, r := range rows {
		out[i] = schema.ShippedSighting{
			Chain: r.Chain, Key: schema.Key(r.Key), Observer: r.Observer, Node: r.Node, Server: r.Server,
			Origin: schema.Origin(r.Origin), ObservedAt: schema.FromMicros(r.ObservedAt),
			ReceivedAt: schema.FromMicros(r.ReceivedAt),
		}
	}
	return out
}

// Most of what Side returns: it is written every few seconds.
const (
	sideNodes   = 4096
	sideEvents  = 4096
	sideClients = 4096
)

// Side returns what no row of the feed tells: views of nodes and how many bare payloads each address sent, the first few
// thousand of each, and as many of the transitions of nodes, those received last, the oldest of them first.
func (s *Store) Side(ctx context.Context) (*schema.Side, error) {
	clock, err := s.clock(ctx)
	if err != nil {
		return nil, err
	}
	side := &schema.Side{At: schema.FromMicros(clock)}
	if side.Nodes, err = s.Nodes(ctx, schema.NodeFilter{}, nil, sideNodes); err != nil {
		return nil, err
	}
	if side.Events, err = s.NodeEvents(ctx, schema.NodeFilter{}, sideEvents); err != nil {
		return nil, err
	}
	slices.Reverse(side.Events)
	if side.Clients, err = s.Clients(ctx, sideClients); err != nil {
		return nil, err
	}
	return side, nil
}
