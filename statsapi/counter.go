package statsapi

import (
	"context"
	"maps"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// tallyRows is how many feed rows are counted by one statement.
const tallyRows = 20_000

// counter keeps totals of the feed and, each time it is asked, adds only the rows that are new. The first question
// after a start counts everything; if that takes longer than one request may, the next goes on from there.
type counter struct {
	store Tallier
	turn  chan struct{} // one slot: whoever holds it may touch the fields below; waiting for it can be given up

	tally        schema.Tally
	observations uint64
	stale        time.Time // when observations must be counted again
}

// totals is what a counter knows at one moment.
type totals struct {
	schema.Tally
	Observations uint64
}

func newCounter(s Tallier) *counter {
	c := &counter{store: s, turn: make(chan struct{}, 1)}
	c.reset()
	return c
}

func (c *counter) reset() {
	c.tally = schema.Tally{Blocks: map[uint64]uint64{}, First: map[string]uint64{}, Servers: map[string]uint64{}}
	c.stale = time.Time{}
}

// blocks returns how many blocks of a chain are stored.
func (c *counter) blocks(ctx context.Context, chain uint64) (uint64, error) {
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.unlock()
	err := c.catchUp(ctx)
	return c.tally.Blocks[chain], err
}

// records returns how many records are stored, bare payloads too.
func (c *counter) records(ctx context.Context) (uint64, error) {
	if err := c.lock(ctx); err != nil {
		return 0, err
	}
	defer c.unlock()
	err := c.catchUp(ctx)
	n := c.tally.Bare
	for _, blocks := range c.tally.Blocks {
		n += blocks
	}
	return n, err
}

// totals returns everything counted. Counting observations reads a whole index, so its result is used again for ten
// times as long as it took: at most a tenth of one database connection goes into it.
func (c *counter) totals(ctx context.Context) (totals, error) {
	if err := c.lock(ctx); err != nil {
		return totals{}, err
	}
	defer c.unlock()
	if err := c.catchUp(ctx); err != nil {
		return totals{}, err
	}
	if start := time.Now(); !start.Before(c.stale) {
		n, err := c.store.CountObservations(ctx)
		if err != nil {
			return totals{}, err
		}
		c.observations = n
		c.stale = time.Now().Add(10 * time.Since(start))
	}
	out := totals{Tally: c.tally, Observations: c.observations}
	out.Blocks, out.First = maps.Clone(c.tally.Blocks), maps.Clone(c.tally.First)
	out.Servers = maps.Clone(c.tally.Servers)
	return out, nil
}

func (c *counter) lock(ctx context.Context) error {
	select {
	case c.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *counter) unlock() { <-c.turn }

// catchUp counts to the end of the feed. A feed shorter than what was counted, or of another epoch, belongs to another
// database, or to a replica that was taken back: what was counted may not be there any more.
func (c *counter) catchUp(ctx context.Context) error {
	for {
		t, err := c.store.Tally(ctx, c.tally.Seq, tallyRows)
		if err != nil {
			return err
		}
		if t.Seq < c.tally.Seq || c.tally.Epoch != "" && t.Epoch != c.tally.Epoch {
			c.reset()
			continue
		}
		more := t.Seq-c.tally.Seq == tallyRows
		c.add(t)
		if !more {
			return nil
		}
	}
}

func (c *counter) add(t schema.Tally) {
	c.tally.Epoch, c.tally.Seq = t.Epoch, t.Seq
	c.tally.Bare += t.Bare
	c.tally.Transactions += t.Transactions
	for chain, n := range t.Blocks {
		c.tally.Blocks[chain] += n
	}
	for observer, n := range t.First {
		c.tally.First[observer] += n
	}
	for server, n := range t.Servers {
		c.tally.Servers[server] += n
	}
}
