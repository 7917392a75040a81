package client

import (
	"context"
	"sync"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

const (
	readAhead = 4  // portions of a long backfill that are read at once, at most, each with up to fetchers requests under way
	stride    = 16 // portions after which the head is looked at again, and another node may be better
)

// portion is a run of blocks with what is to be delivered of them.
type portion struct {
	blocks []*chain.Block
	made   []prepared
	err    error
}

// catchUp delivers many blocks below a head that is far, oldest first. The next portions are read while one is being
// delivered, so that a node far away costs its latency once, not for each of them. How many is found out: one more after
// each that came well, and one alone after a failure, since a node that is slow because it has much to do is not helped
// by being asked for more.
func (f *follower) catchUp(ctx context.Context, n asker, head schema.Header) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	f.reading = max(f.reading, 1)
	size := f.portion()
	from, last := f.next, min(head.Number, f.next+min(stride*batch, uint64(max(f.box.Free(), 1)))-1)
	var reading []chan portion // oldest first, at most readAhead
	for {
		for ; len(reading) < f.reading && from <= last; from += size {
			c, low, high := make(chan portion, 1), from, min(from+size-1, last)
			all.Go(func() { c <- f.read(ctx, n, head, low, high) })
			reading = append(reading, c)
		}
		if len(reading) == 0 {
			return nil
		}
		p := <-reading[0]
		reading = reading[1:]
		if err := f.attach(ctx, n, head, p); err != nil {
			f.reading = 1
			return err
		}
		f.reading = min(f.reading+1, readAhead)
	}
}

// read fetches a portion.
func (f *follower) read(ctx context.Context, n asker, head schema.Header, from, to uint64) (p portion) {
	p.blocks, p.err = blocksByNumber(ctx, n, f.chain, from, to)
	if p.err == nil && !linked(p.blocks) {
		p.err = errMoved
	}
	if p.err == nil {
		p.made, p.err = f.prepare(ctx, n, head, p.blocks)
	}
	return p
}

// attach delivers a portion, behind the branch that leads to it if that is not the one that was finished.
func (f *follower) attach(ctx context.Context, n asker, head schema.Header, p portion) error {
	if p.err != nil {
		return p.err
	}
	branch, err := f.join(ctx, n, p.blocks[:1], reorgDepth)
	if err != nil {
		return err
	}
	if err := f.finish(ctx, n, head, branch[:len(branch)-1]); err != nil {
		return err
	}
	return f.deliver(p.blocks, p.made)
}
