package store

import (
	"context"
	"time"

	"gorm.io/gorm"
)

// transaction runs do in one transaction and commits it, waiting its turn where the database has one writer only.
func (s *Store) transaction(ctx context.Context, do func(tx *gorm.DB) error) error {
	return s.transactionOn(ctx, s.db, do)
}

func (s *Store) transactionOn(ctx context.Context, db *gorm.DB, do func(tx *gorm.DB) error) error {
	if s.turn != nil {
		select {
		case s.turn <- struct{}{}:
			defer func() { <-s.turn }()
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	tx := db.WithContext(ctx).Begin()
	if tx.Error != nil {
		return tx.Error
	}
	if err := do(tx); err != nil {
		tx.Rollback()
		return err
	}
	if err := tx.Commit().Error; err != nil {
		return &commitError{err}
	}
	return nil
}

// retried is transaction, repeated while its failure is a passing one. For work that is safe to repeat.
func (s *Store) retried(ctx context.Context, do func(tx *gorm.DB) error) error {
	const attempts = 10
	wait := newBackOff()
	for n := 1; ; n++ {
		err := s.transaction(ctx, do)
		if err == nil || n == attempts || !passing(err) {
			return err
		}
		if pause(ctx, wait.NextBackOff()) != nil {
			return err
		}
	}
}

// lateCancel is a context that ends grace after its parent.
func lateCancel(parent context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(parent))
	stop := context.AfterFunc(parent, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}

// stallAfter is how long commits must have failed before Ready says so: a deadlock or two is nobody's business.
const stallAfter = 2 * time.Second

// stall is a failure that lasts: commits have failed since then.
type stall struct {
	since time.Time
	err   error
	told  bool // the log knows
}

// stalled notes a failed transaction; the log hears of the first in a row that is not a passing one, or does not pass.
func (s *Store) stalled(err error) {
	s.metrics.failures.Inc()
	now := &stall{since: time.Now(), err: err}
	if was := s.stall.Load(); was != nil {
		now.since, now.told = was.since, was.told
	}
	if !now.told && (!passing(err) || time.Since(now.since) > stallAfter) {
		now.told = true
		s.log.WithError(err).Error("store cannot commit, will try until it can")
	}
	s.stall.Store(now)
}

// recovered notes a commit.
func (s *Store) recovered() {
	was := s.stall.Swap(nil)
	if was != nil && was.told {
		s.log.WithField("since", was.since.UTC()).Info("store commits again")
	}
}
