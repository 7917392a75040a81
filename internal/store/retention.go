package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// Retention says what a store forgets; its zero value forgets nothing. Records, their statuses, transactions and the
// feed are kept for good whatever it says: only who else saw a record, and the payload with the raw JSON, can go.
// Age counts from the server's reception, and the newest are those received last.
type Retention struct {
	ObservationsFor time.Duration // how long observations are kept; 0 means for good
	ObservationsOf  int           // of how many of the newest records observations are kept; 0 means of all
	PayloadsFor     time.Duration // how long payloads are kept; 0 means for good
	PayloadsOf      int           // of how many of the newest records payloads are kept; 0 means of all
}

// Validate tells what no store can do.
func (r Retention) Validate() error {
	if r.ObservationsFor < 0 || r.ObservationsOf < 0 || r.PayloadsFor < 0 || r.PayloadsOf < 0 {
		return errors.New("retention is negative: 0 keeps everything")
	}
	return nil
}

const (
	retainEvery = 5 * time.Minute
	sweepRows   = 500                   // of one transaction: short enough not to be felt by the ingest
	sweepRaws   = 64                    // of these, with raw JSON: of SQLite's pages each may have hundreds
	sweepRest   = 20 * time.Millisecond // between transactions
)

// retain prunes until ctx ends. Several servers may do it at once: what one has removed the others do not find.
func (s *Store) retain(ctx context.Context) {
	if s.keep == (Retention{}) {
		return
	}
	tick := time.NewTicker(retainEvery)
	defer tick.Stop()
	for {
		if err := s.forget(ctx); err != nil && ctx.Err() == nil {
			s.log.WithError(err).Warn("cannot forget what is past retention, will try again")
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forget removes what is past retention now.
func (s *Store) forget(ctx context.Context) error {
	for _, what := range []struct {
		name   string
		age    time.Duration
		newest int
		remove removal
	}{
		{"observations", s.keep.ObservationsFor, s.keep.ObservationsOf, s.removeObservations},
		{"payloads", s.keep.PayloadsFor, s.keep.PayloadsOf, s.removePayloads},
	} {
		bounds, err := s.bounds(ctx, what.age, what.newest)
		if err != nil {
			return fmt.Errorf("forget %s: %w", what.name, err)
		}
		for _, b := range bounds {
			removed, err := s.sweep(ctx, b, what.remove)
			s.metrics.pruned.WithLabelValues(what.name).Add(float64(removed))
			if err != nil {
				return fmt.Errorf("forget %s: %w", what.name, err)
			}
		}
	}
	return nil
}

// bound is how far to go: all records up to an id that were received before a time. Ids follow the order of reception
// but for the order within a batch and for clocks that differ: among the rows from low to high there may be younger ones.
type bound struct {
	name      string // of its mark
	low, high uint64
	before    int64 // microseconds
}

// shuffled is among how many neighbours ids may not follow the order of reception: more than one batch has.
const shuffled = 4 * batchRows

// bounds finds the rows received last of those that are too old or beyond the newest.
func (s *Store) bounds(ctx context.Context, age time.Duration, newest int) ([]bound, error) {
	query := func() *gorm.DB {
		return s.db.WithContext(ctx).Select("id", "received_at").Order("received_at DESC, id DESC").Limit(shuffled)
	}
	var out []bound
	add := func(name string, query *gorm.DB) error {
		var rows []recordRow
		if err := query.Find(&rows).Error; err != nil {
			return fmt.Errorf("find the last records: %w", err)
		}
		if len(rows) == 0 {
			return nil
		}
		b := bound{name: name, low: rows[0].ID, high: rows[0].ID, before: rows[0].ReceivedAt + 1}
		for _, r := range rows {
			b.low, b.high = min(b.low, r.ID), max(b.high, r.ID)
		}
		out = append(out, b)
		return nil
	}
	if age > 0 {
		if err := add("payloads by age", query().Where("received_at < ?", schema.Micros(s.now().Add(-age)))); err != nil {
			return nil, err
		}
	}
	if newest > 0 {
		if err := add("payloads by count", query().Offset(newest)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// removal removes one batch of what a bound allows, beyond the record from; next is where to go on, 0 if nothing is left.
type removal func(tx *gorm.DB, b bound, from uint64) (removed int64, next uint64, err error)

// sweep removes batch after batch, each in a transaction of its own.
func (s *Store) sweep(ctx context.Context, b bound, remove removal) (int64, error) {
	total, from := int64(0), uint64(0)
	for {
		var (
			n    int64
			next uint64
		)
		err := s.retried(ctx, func(tx *gorm.DB) (err error) {
			n, next, err = remove(tx, b, from)
			return err
		})
		if err != nil {
			return total, err
		}
		total += n
		if next == 0 {
			return total, nil
		}
		from = next
		if err := pause(ctx, sweepRest); err != nil {
			return total, err
		}
	}
}

// removeObservations deletes rows, those of the oldest records first.
func (s *Store) removeObservations(tx *gorm.DB, b bound, _ uint64) (int64, uint64, error) {
	query := "DELETE FROM observations WHERE record <= ? AND received_at < ? ORDER BY record LIMIT ?"
	if s.dialect == dialectSQLite {
		query = "DELETE FROM observations WHERE (record, observer) IN (SELECT record, observer FROM observations " +
			"WHERE record <= ? AND received_at < ? ORDER BY record LIMIT ?)"
	}
	done := tx.Exec(query, b.high, b.before, sweepRows)
	if done.RowsAffected < sweepRows {
		return done.RowsAffected, 0, done.Error
	}
	return done.RowsAffected, b.high, done.Error
}

// removePayloads empties payloads, deletes raw JSON, and notes with each when. To find those that are left would be to read
// them all, so a mark tells how far it has been done.
func (s *Store) removePayloads(tx *gorm.DB, b bound, from uint64) (int64, uint64, error) {
	if from == 0 {
		var mark retentionRow
		if err := tx.Where("name = ?", b.name).Limit(1).Find(&mark).Error; err != nil {
			return 0, 0, fmt.Errorf("read mark: %w", err)
		}
		from = mark.UpTo
	}
	var ids []uint64
	err := tx.Model(&recordRow{}).Where("id > ? AND id <= ?", from, b.high).Order("id").Limit(sweepRows).
		Pluck("id", &ids).Error
	if err != nil || len(ids) == 0 {
		return 0, 0, err
	}
	if ids, err = upToRaws(tx, from, ids); err != nil {
		return 0, 0, err
	}
	done := tx.Model(&recordRow{}).Where("id IN ? AND received_at < ? AND payload <> ?", ids, b.before, []byte{}).
		UpdateColumns(map[string]any{"payload": []byte{}, "payload_pruned_at": schema.Micros(s.now())})
	if done.Error != nil {
		return 0, 0, done.Error
	}
	old := tx.Model(&recordRow{}).Select("id").Where("id IN ? AND received_at < ?", ids, b.before)
	if err := tx.Where("record IN (?)", old).Delete(&rawRow{}).Error; err != nil {
		return 0, 0, fmt.Errorf("delete raw JSON: %w", err)
	}
	next := ids[len(ids)-1]
	mark := retentionRow{Name: b.name, UpTo: min(next, b.low-1)}
	if err := tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(&mark).Error; err != nil {
		return 0, 0, fmt.Errorf("move mark: %w", err)
	}
	return done.RowsAffected, next, nil
}

// upToRaws cuts a list of records beyond from so that at most sweepRaws of them have raw JSON.
func upToRaws(tx *gorm.DB, from uint64, ids []uint64) ([]uint64, error) {
	var with []uint64
	err := tx.Model(&rawRow{}).Where("record > ? AND record <= ?", from, ids[len(ids)-1]).Order("record").Limit(sweepRaws).
		Pluck("record", &with).Error
	if err != nil {
		return nil, fmt.Errorf("find raw JSON: %w", err)
	}
	if len(with) < sweepRaws {
		return ids, nil
	}
	end, _ := slices.BinarySearch(ids, with[len(with)-1]+1)
	return ids[:end], nil
}
