package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// Writers that know how to store but not how to judge, such as servers in other languages, leave the rest here: blocks
// without a decided status in the table unplaced, what observers report in the table reports. See docs/adr/0012.

const (
	// judgeEvery is between looks for what was left. A look that finds nothing reads two empty tables.
	judgeEvery = 250 * time.Millisecond
	// leftBlocks bounds what one transaction places.
	leftBlocks = 256
	// leftReports bounds what one look takes in, so that blocks get their turn.
	leftReports = 64
)

// RunJudge settles what other writers leave, until ctx ends, and then returns nil. Any number may run at once, beside
// any number of stores.
func (s *Store) RunJudge(ctx context.Context) error {
	tick := time.NewTicker(judgeEvery)
	defer tick.Stop()
	failing := false
	for {
		err := s.JudgeLeft(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !failing:
			s.log.WithError(err).Warn("what other writers left is not judged, will try again")
		case err == nil && failing:
			s.log.Info("what other writers left is judged again")
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// JudgeLeft settles once what is there: it places the blocks, takes in the reports and judges the chains of both.
func (s *Store) JudgeLeft(ctx context.Context) error {
	touched := map[uint64]bool{}
	err := errors.Join(s.placeLeft(ctx, touched), s.reportLeft(ctx, touched))
	if len(touched) == 0 {
		return err
	}
	now, clockErr := s.clock(ctx)
	if clockErr != nil {
		return errors.Join(err, clockErr)
	}
	for chain := range touched {
		if e := s.judge(ctx, chain, now); e != nil {
			err = errors.Join(err, fmt.Errorf("judge chain %d: %w", chain, e))
		}
	}
	s.prune(ctx, now)
	return err
}

// placeLeft gives left blocks the status that they would have had on arrival.
func (s *Store) placeLeft(ctx context.Context, touched map[uint64]bool) error {
	for {
		var some []unplacedRow
		if err := s.db.WithContext(ctx).Limit(1).Find(&some).Error; err != nil {
			return fmt.Errorf("find unplaced blocks: %w", err)
		}
		if len(some) == 0 {
			return nil
		}
		var blocks []leftBlock
		end := uint64(0)
		err := s.retried(ctx, func(tx *gorm.DB) error {
			l, err := openLedger(tx, schema.Micros(s.now()))
			if err != nil {
				return err
			}
			if blocks, err = l.takeLeft(); err != nil {
				return err
			}
			if err := l.placeLeft(blocks); err != nil {
				return err
			}
			end = l.last
			return l.close()
		})
		if err != nil {
			return fmt.Errorf("place blocks: %w", err)
		}
		s.tell(end)
		for _, b := range blocks {
			touched[b.Chain] = true
		}
	}
}

// leftBlock is a block that waits to be placed.
type leftBlock struct {
	Chain uint64
	Block blockRow `gorm:"embedded"`
}

// takeLeft takes blocks out of the table, in the order of chains and heights. One whose record is gone has nothing to
// place.
func (l *ledger) takeLeft() ([]leftBlock, error) {
	var ids []uint64
	err := l.tx.Model(&unplacedRow{}).Order("record").Limit(leftBlocks).Pluck("record", &ids).Error
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	var blocks []leftBlock
	err = l.tx.Model(&recordRow{}).Select("id", "chain", "`key`", "number", "parent", "status").
		Where("id IN ? AND status = ?", ids, schema.StatusNonCanonical).Find(&blocks).Error
	if err != nil {
		return nil, err
	}
	slices.SortFunc(blocks, func(a, b leftBlock) int {
		return cmp.Or(cmp.Compare(a.Chain, b.Chain), cmp.Compare(a.Block.Number, b.Block.Number), cmp.Compare(a.Block.ID, b.Block.ID))
	})
	return blocks, l.tx.Where("record IN ?", ids).Delete(&unplacedRow{}).Error
}

// placeLeft decides by the same rule as the ingest.
func (l *ledger) placeLeft(blocks []leftBlock) error {
	for len(blocks) > 0 {
		id, n := blocks[0].Chain, 1
		for n < len(blocks) && blocks[n].Chain == id {
			n++
		}
		if err := l.placeLeftOn(id, blocks[:n]); err != nil {
			return err
		}
		blocks = blocks[n:]
	}
	return nil
}

func (l *ledger) placeLeftOn(id uint64, blocks []leftBlock) error {
	chain, err := l.chain(id)
	if err != nil {
		return err
	}
	before := chainRow{}
	if chain != nil {
		before = *chain
	}
	var alike []blockRow // in a row, of one status
	var status schema.Status
	for _, b := range blocks {
		var next schema.Status
		if chain, next, err = chain.place(id, b.Block); err != nil {
			return err
		}
		if next != status {
			if err := l.setStatus(id, alike, status); err != nil {
				return err
			}
			alike, status = nil, next
		}
		alike = append(alike, b.Block)
	}
	if err := l.setStatus(id, alike, status); err != nil {
		return err
	}
	if chain.same(&before) {
		return nil
	}
	return l.saveChain(chain)
}

// place is ingest for a block that is stored already.
func (c *chainRow) place(id uint64, b blockRow) (*chainRow, schema.Status, error) {
	parent, err := schema.Key(b.Parent).Hash()
	if err != nil {
		return c, "", fmt.Errorf("record %d: parent: %w", b.ID, err)
	}
	after, status := c.ingest(&schema.Offer{
		Chain: id, Key: schema.Key(b.Key), Header: &schema.Header{Number: b.Number, Parent: parent},
	})
	return after, status, nil
}

// reportLeft takes in what observers said, in the order in which it arrived.
func (s *Store) reportLeft(ctx context.Context, touched map[uint64]bool) error {
	for range leftReports {
		var first []reportRow
		if err := s.db.WithContext(ctx).Select("id").Order("id").Limit(1).Find(&first).Error; err != nil {
			return fmt.Errorf("find reports: %w", err)
		}
		if len(first) == 0 {
			return nil
		}
		var chains []uint64
		err := s.retried(ctx, func(tx *gorm.DB) error {
			var err error
			chains, err = s.takeReport(tx, first[0].ID)
			return err
		})
		if err != nil {
			return fmt.Errorf("take in report: %w", err)
		}
		for _, chain := range chains {
			touched[chain] = true
		}
	}
	return nil
}

// takeReport takes one report out of the table and in, and returns the chains that it speaks of. Another judge may have
// been faster. One that cannot be read is dropped: it would be no better the next time.
func (s *Store) takeReport(tx *gorm.DB, id uint64) ([]uint64, error) {
	var rows []reportRow
	err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).Where("id = ?", id).Find(&rows).Error
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	row := rows[0]
	if err := tx.Delete(&row).Error; err != nil {
		return nil, err
	}
	var r schema.Report
	if err = json.Unmarshal(row.Report, &r); err == nil {
		err = screenReport(row.Observer, r)
	}
	if err != nil {
		s.log.WithError(err).WithField("observer", row.Observer).Warn("report left by another writer is dropped")
		return nil, nil
	}
	if r, err = newer(tx, row, r); err != nil {
		return nil, err
	}
	if err := noteReport(tx, row.Observer, r, row.ReceivedAt); err != nil {
		return nil, err
	}
	if err := noteViews(tx, row.Observer, r.Nodes, row.ReceivedAt); err != nil {
		return nil, err
	}
	return r.Chains(), noteEvents(tx, row.Observer, r.Events, row.ReceivedAt)
}

// newer leaves out what a later report, which another server took in at once, has overtaken. Gaps and events stand.
func newer(tx *gorm.DB, row reportRow, r schema.Report) (schema.Report, error) {
	var heads []headRow
	err := tx.Where("observer = ? AND reported_at > ?", row.Observer, row.ReceivedAt).Find(&heads).Error
	if err != nil {
		return r, fmt.Errorf("read later heads: %w", err)
	}
	r.Heads = slices.DeleteFunc(r.Heads, func(h schema.Head) bool {
		return slices.ContainsFunc(heads, func(l headRow) bool { return l.Chain == h.Chain })
	})
	var later int64
	err = tx.Model(&nodeRow{}).Where("observer = ? AND reported_at > ?", row.Observer, row.ReceivedAt).Count(&later).Error
	if later > 0 {
		r.Nodes = nil
	}
	return r, err
}
