package store

import (
	"fmt"
	"slices"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/schema"
)

// award makes the winning branch the chain's, if it can be: if it reaches the chain's branch or takes the place of all
// of it, or if a reported gap explains why not, and if nothing finalized stands against it.
func (b *bench) award(w *branch) (*ruling, error) {
	switch {
	case w.fork != nil:
		return b.switchAbove(w, w.fork.Number+1, nil), nil
	case w.cut:
		if w.lowest().Number+maxReorg < b.chain.HeadNumber {
			return b.halt(w.blocks[0], fmt.Sprintf("reorg deeper than %d blocks", maxReorg)), nil
		}
		return nil, nil
	case w.lowest().Number <= b.chain.RootNumber:
		// It covers every height that the chain has: nothing is missing between them.
		return b.switchAbove(w, w.lowest().Number, nil), nil
	default:
		return b.leap(w)
	}
}

// leap is award across heights that no observer will deliver.
func (b *bench) leap(w *branch) (*ruling, error) {
	c, low := b.chain, w.lowest().Number
	from, err := b.gapBelow(low)
	if err != nil || from >= low {
		return nil, err
	}
	if low > c.HeadNumber+1 {
		if from > c.HeadNumber+1 {
			return nil, nil // heights between the head and the gap may still come
		}
		return b.switchAbove(w, low, &feedRow{Number: new(max(from, c.HeadNumber+1)), ToNumber: new(low - 1)}), nil
	}
	// The new branch stands beside or right on the old one without being its child: how far down they differ is
	// unknown, up to the whole of the gap.
	from = max(from, c.RootNumber, c.HeadNumber+1-min(maxReorg, c.HeadNumber+1))
	if c.FinalizedNumber != nil {
		from = max(from, *c.FinalizedNumber+1)
	}
	if from >= low {
		return b.halt(w.blocks[0], "a branch contradicts a finalized block"), nil
	}
	return b.switchAbove(w, from, &feedRow{Number: new(from), ToNumber: new(low - 1)}), nil
}

// gapBelow is the lowest height from which reported gaps cover every height up to the one below low; low if none do.
func (b *bench) gapBelow(low uint64) (uint64, error) {
	var gaps []gapRow
	err := b.db.Where("chain = ? AND from_number < ?", b.chain.Chain, low).Order("to_number DESC").Find(&gaps).Error
	if err != nil {
		return 0, fmt.Errorf("read gaps: %w", err)
	}
	from := low
	for _, g := range gaps {
		if g.ToNumber+1 < from {
			break
		}
		from = min(from, g.FromNumber)
	}
	return from, nil
}

// switchAbove replaces everything on the chain's branch from a height upward by the winning branch.
func (b *bench) switchAbove(w *branch, from uint64, gap *feedRow) *ruling {
	c, top := b.chain, w.blocks[0]
	if c.FinalizedNumber != nil && from <= *c.FinalizedNumber {
		return b.halt(top, "a branch contradicts a finalized block")
	}
	if from+maxReorg <= c.HeadNumber {
		return b.halt(top, fmt.Sprintf("reorg deeper than %d blocks", maxReorg))
	}
	depth := c.HeadNumber + 1 - min(from, c.HeadNumber+1)
	r := &ruling{
		log:  "chain switches branch",
		note: logrus.Fields{"head": top.Key, "number": top.Number, "was": c.HeadKey, "depth": depth},
	}
	r.apply = func(l *ledger, c *chainRow) error {
		var down []blockRow
		err := l.tx.Where("chain = ? AND number >= ? AND status IN ?", c.Chain, from, onBranch()).
			Order("number DESC").Find(&down).Error
		if err != nil {
			return fmt.Errorf("read branch: %w", err)
		}
		if err := l.setStatus(c.Chain, down, schema.StatusNonCanonical); err != nil {
			return err
		}
		c.moveTo(w, from)
		if gap != nil {
			gap.Kind, gap.Chain = string(schema.FeedGap), c.Chain
			l.add(*gap)
		}
		up := slices.Clone(w.blocks)
		slices.Reverse(up)
		return l.setStatus(c.Chain, up, schema.StatusCanonical)
	}
	return r
}

// moveTo makes a branch the chain's, which keeps what lies below a height. Without a fork the branch stands alone: it
// becomes the root, which later backfill may lower. So it does where the fork is below the root, on what was the branch
// before a gap: the root has left the branch.
func (c *chainRow) moveTo(w *branch, from uint64) {
	c.HeadKey, c.HeadNumber = w.blocks[0].Key, w.blocks[0].Number
	if w.fork == nil || w.fork.Number < c.RootNumber {
		low := w.lowest()
		c.RootKey, c.RootNumber, c.RootParent = low.Key, low.Number, low.Parent
	}
	if c.SafeNumber != nil && *c.SafeNumber >= from {
		c.SafeNumber = c.FinalizedNumber
		if from > 0 && w.fork != nil {
			c.SafeNumber = new(from - 1)
		}
	}
}

// onBranch is the statuses of blocks on the chain's branch.
func onBranch() []string {
	return []string{string(schema.StatusCanonical), string(schema.StatusSafe), string(schema.StatusFinalized)}
}

// halt freezes the chain: something contradicts what can never change, so an operator must look.
func (b *bench) halt(against blockRow, why string) *ruling {
	return &ruling{
		log: "chain halted: " + why, halt: true,
		note: logrus.Fields{"key": against.Key, "number": against.Number},
		apply: func(l *ledger, c *chainRow) error {
			reason := fmt.Sprintf("%s: %d %s", why, against.Number, against.Key)
			c.Halted = &reason
			l.add(feedRow{
				Kind: string(schema.FeedAlarm), Chain: c.Chain, Key: &against.Key, Number: &against.Number, Note: &reason,
			})
			return nil
		},
	}
}
