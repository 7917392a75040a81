package store

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"
	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

const (
	// liveFor is how long an observer's report counts.
	liveFor = 25 * time.Second
	// aloneAfter is how long all others must have been silent before one observer decides at once. Shorter, and after
	// an outage whoever reports first would decide for all.
	aloneAfter = 10 * liveFor
	// maxReorg is how many blocks of a branch may be replaced. Deeper halts the chain.
	maxReorg = 128
	// maxWalk bounds a walk to parents. It is below MySQL's default limit for recursion, 1000.
	maxWalk = 512
	// maxChange bounds how many heights one transaction changes; the judge goes on in the next.
	maxChange = 256
	// maxRounds bounds the transactions of one report; the judge goes on with the next.
	maxRounds = 16
)

// ruling is one decision of the judge: what it does under the ledger's lock, and what the log says of it.
type ruling struct {
	apply func(l *ledger, c *chainRow) error
	log   string
	halt  bool
	note  logrus.Fields
}

// judge decides the chain's statuses from the live observers' reports. Whichever server takes a report does it; no
// election is needed, because the ledger's lock orders them. Most reports change nothing: that is found without the
// lock, and what was found is found again under it.
func (s *Store) judge(ctx context.Context, chain uint64, now int64) error {
	for range maxRounds {
		found, err := deliberate(s.db.WithContext(ctx), chain, now)
		if err != nil || found == nil {
			return err
		}
		found = nil
		end := uint64(0)
		err = s.retried(ctx, func(tx *gorm.DB) error {
			l, err := openLedger(tx, now)
			if err != nil {
				return err
			}
			if found, err = deliberate(tx, chain, now); err != nil || found == nil {
				return err
			}
			err = found.enact(l, chain)
			end = l.last
			return err
		})
		if err != nil {
			return err
		}
		if found != nil {
			s.tell(end)
		}
		s.announce(chain, found)
	}
	return nil
}

func (r *ruling) enact(l *ledger, chain uint64) error {
	c, err := l.chain(chain)
	if err != nil {
		return err
	}
	if err := r.apply(l, c); err != nil {
		return err
	}
	if err := l.saveChain(c); err != nil {
		return err
	}
	return l.close()
}

// announce logs what has been committed.
func (s *Store) announce(chain uint64, r *ruling) {
	if r == nil || r.log == "" {
		return
	}
	log := s.log.WithField("chain", chain).WithFields(r.note)
	if r.halt {
		s.metrics.halts.Inc()
		log.Error(r.log)
		return
	}
	s.metrics.switches.Inc()
	log.Info(r.log)
}

// bench is what one deliberation looks at.
type bench struct {
	db     *gorm.DB
	chain  *chainRow
	voters []headRow // of live observers
	alone  bool      // the only voter has been the only one for long
}

// deliberate finds the next thing to do, nil if there is none.
func deliberate(db *gorm.DB, chain uint64, now int64) (*ruling, error) {
	c, err := readChain(db, chain)
	if err != nil || c == nil || c.Halted != nil {
		return nil, err
	}
	b := &bench{db: db, chain: c}
	if err := b.seat(now); err != nil {
		return nil, err
	}
	for _, step := range []func() (*ruling, error){b.extend, b.contest, b.lower, b.finalize, b.secure} {
		if r, err := step(); err != nil || r != nil {
			return r, err
		}
	}
	return nil, nil
}

// seat reads who is live.
func (b *bench) seat(now int64) error {
	var recent []headRow
	err := b.db.Where("chain = ? AND reported_at >= ?", b.chain.Chain, now-aloneAfter.Microseconds()).
		Order("observer").Find(&recent).Error
	if err != nil {
		return fmt.Errorf("read heads: %w", err)
	}
	for _, h := range recent {
		if h.ReportedAt >= now-liveFor.Microseconds() {
			b.voters = append(b.voters, h)
		}
	}
	b.alone = len(recent) == 1
	return nil
}

// majority tells whether n voters are more than half of the live ones.
func (b *bench) majority(n int) bool { return 2*n > len(b.voters) }

// extend moves the head over blocks that were stored before their parents: as long as it has exactly one child, that
// child would have extended it on arrival.
func (b *bench) extend() (*ruling, error) {
	child, err := onlyChild(b.db, b.chain)
	if err != nil || child == nil {
		return nil, err
	}
	return &ruling{apply: func(l *ledger, c *chainRow) error {
		var up []blockRow
		for len(up) < maxChange {
			child, err := onlyChild(l.tx, c)
			if err != nil {
				return err
			}
			if child == nil {
				break
			}
			up = append(up, *child)
			c.HeadKey, c.HeadNumber = child.Key, child.Number
		}
		return l.setStatus(c.Chain, up, schema.StatusCanonical)
	}}, nil
}

// onlyChild is the one block that is stored on the head, nil if there are none or several.
func onlyChild(db *gorm.DB, c *chainRow) (*blockRow, error) {
	var children []blockRow
	err := db.Where("chain = ? AND parent = ? AND number = ?", c.Chain, c.HeadKey, c.HeadNumber+1).
		Limit(2).Find(&children).Error
	if err != nil {
		return nil, fmt.Errorf("read children of head: %w", err)
	}
	if len(children) != 1 {
		return nil, nil
	}
	return &children[0], nil
}
