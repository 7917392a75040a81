package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/schema"
)

// network is what both commands can do with their chain.
type network interface {
	Mine(ctx context.Context, blocks int) error
	Reorg(ctx context.Context, depth uint64) error
	Head() schema.Point
}

// plan is which blocks are made, and when.
type plan struct {
	period time.Duration
	blocks uint64 // the height at which the chain stands still; 0 never
	reorgs []string

	depths map[uint64]uint64 // of the reorgs, by the height at which they come
}

func (p *plan) flags(flags *pflag.FlagSet) {
	flags.DurationVar(&p.period, "period", time.Second, "time between two blocks")
	flags.Uint64Var(&p.blocks, "blocks", 0, "height at which the chain stands still; 0 is never")
	flags.StringArrayVar(&p.reorgs, "reorg", nil, "HEIGHT:DEPTH of a reorg, once the chain is that high (repeatable)")
}

func (p *plan) parse() error {
	if p.period <= 0 {
		return fmt.Errorf("--period %v: must be above zero", p.period)
	}
	p.depths = make(map[uint64]uint64, len(p.reorgs))
	for _, text := range p.reorgs {
		height, depth, err := parsePair(text)
		if err != nil || depth == 0 || depth > height {
			return fmt.Errorf("--reorg %q: want HEIGHT:DEPTH, such as 30:3", text)
		}
		p.depths[height] = depth
	}
	return nil
}

func parsePair(text string) (a, b uint64, err error) {
	left, right, _ := strings.Cut(text, ":")
	if a, err = strconv.ParseUint(left, 10, 32); err == nil {
		b, err = strconv.ParseUint(right, 10, 32)
	}
	return a, b, err
}

// run carries the plan out until ctx ends, which is no error.
func (p *plan) run(ctx context.Context, n network, log logrus.FieldLogger) error {
	ticker := time.NewTicker(p.period)
	defer ticker.Stop()
	for p.blocks == 0 || n.Head().Number < p.blocks {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := p.step(ctx, n, log); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
	log.WithField("head", n.Head()).Info("all blocks made; the chain stands still")
	<-ctx.Done()
	return nil
}

// step makes the next block, or the reorg that is due instead.
func (p *plan) step(ctx context.Context, n network, log logrus.FieldLogger) error {
	height := n.Head().Number
	depth, due := p.depths[height]
	if !due {
		return n.Mine(ctx, 1)
	}
	delete(p.depths, height)
	if err := n.Reorg(ctx, depth); err != nil {
		return err
	}
	log.WithFields(logrus.Fields{"depth": depth, "head": n.Head()}).Info("reorg")
	return nil
}
