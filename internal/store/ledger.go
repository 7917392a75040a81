package store

import (
	"fmt"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// ledger is the right to change chains, statuses and the feed: whoever holds the feed's counter row. Holding it until
// COMMIT makes seq gap-free, and makes its order the order of commits, so that a reader who has seen seq n never
// finds anything below n later.
type ledger struct {
	tx   *gorm.DB
	at   int64 // microseconds, the time that the new rows carry
	last uint64
	rows []feedRow
}

// openLedger waits for the counter's lock. On SQLite the transaction itself is that lock.
func openLedger(tx *gorm.DB, at int64) (*ledger, error) {
	var counter counterRow
	err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Take(&counter, "id = 1").Error
	if err != nil {
		return nil, fmt.Errorf("lock feed: %w", err)
	}
	return &ledger{tx: tx, at: at, last: counter.LastSeq}, nil
}

// add appends an event; close writes it.
func (l *ledger) add(row feedRow) {
	l.last++
	row.Seq, row.At = l.last, l.at
	l.rows = append(l.rows, row)
}

// close writes what was added. The caller commits.
func (l *ledger) close() error {
	if len(l.rows) == 0 {
		return nil
	}
	if err := l.tx.CreateInBatches(l.rows, chunkRows).Error; err != nil {
		return fmt.Errorf("insert feed: %w", err)
	}
	err := l.tx.Model(&counterRow{}).Where("id = 1").UpdateColumn("last_seq", l.last).Error
	if err != nil {
		return fmt.Errorf("move feed counter: %w", err)
	}
	return nil
}

// chain reads where a chain stands; nil if it has no block yet.
func (l *ledger) chain(id uint64) (*chainRow, error) { return readChain(l.tx, id) }

func readChain(db *gorm.DB, id uint64) (*chainRow, error) {
	var rows []chainRow
	if err := db.Where("chain = ?", id).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read chain %d: %w", id, err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	return &rows[0], nil
}

// saveChain writes where a chain stands.
func (l *ledger) saveChain(c *chainRow) error {
	err := l.tx.Clauses(clause.OnConflict{UpdateAll: true}).Create(c).Error
	if err != nil {
		return fmt.Errorf("save chain %d: %w", c.Chain, err)
	}
	return nil
}

// setStatus gives records a status and tells the feed, in the given order. Records that have it already are left out.
func (l *ledger) setStatus(chain uint64, blocks []blockRow, status schema.Status) error {
	ids := make([]uint64, 0, len(blocks))
	for _, b := range blocks {
		if b.Status == status {
			continue
		}
		ids = append(ids, b.ID)
		l.add(feedRow{
			Kind: string(schema.FeedStatus), Chain: chain, Key: &b.Key, Number: &b.Number,
			Status: text(status), Was: text(b.Status),
		})
	}
	return updateStatus(l.tx, ids, status)
}

// updateStatus writes a status by id, under the ledger's lock.
func updateStatus(tx *gorm.DB, ids []uint64, status schema.Status) error {
	for len(ids) > 0 {
		n := min(len(ids), chunkRows)
		err := tx.Model(&recordRow{}).Where("id IN ?", ids[:n]).UpdateColumn("status", string(status)).Error
		if err != nil {
			return fmt.Errorf("mark records %s: %w", status, err)
		}
		ids = ids[n:]
	}
	return nil
}

// text is a status as the tables hold it.
func text(s schema.Status) *string {
	if s == schema.StatusNone {
		return nil
	}
	word := string(s)
	return &word
}
