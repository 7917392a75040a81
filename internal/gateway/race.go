package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"
)

// revisit is the pause before nodes that have failed are asked again within one request; it doubles with each round.
const revisit = 10 * time.Millisecond

// forward gets a call answered by one of the nodes.
func (g *Gateway) forward(ctx context.Context, c *call, order []candidate, mem *allowance) answer {
	ctx, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	if c.class == once {
		return g.askOnce(ctx, c, order, mem)
	}
	r := &race{g: g, call: c, body: c.encode([]byte(ourID)), order: order, mem: mem, results: make(chan outcome, 2)}
	return r.run(ctx)
}

// askOnce asks one node. Only where no connection to it could be had, so that it cannot have seen the request, is
// another one asked.
func (g *Gateway) askOnce(ctx context.Context, c *call, order []candidate, mem *allowance) answer {
	body := c.encode([]byte(ourID))
	for _, at := range order {
		ctx, sent := sentinel(ctx)
		a, err := g.attempt(ctx, c, at, body, mem)
		switch {
		case err == nil:
			return a
		case sent.Load():
			g.log.WithField("node", at.name).WithField("method", c.name).WithError(err).Info("no answer to a write")
			return unanswered(err, "it may have been accepted nevertheless: look before sending it again")
		}
		g.metrics.retries.Inc()
		if ctx.Err() != nil {
			break
		}
	}
	return unanswered(nil, "no node could be reached")
}

func unanswered(err error, hint string) answer {
	if errors.Is(err, errTooLarge) {
		return sorry(codeTooLarge, "the answer is too large")
	}
	return sorry(codeServer, "no node gave an answer; "+hint).withStatus(http.StatusBadGateway)
}

// race asks nodes for the same thing until one has answered: another one when one fails, a second one beside the first
// when that takes long.
type race struct {
	g    *Gateway
	call *call
	body []byte
	mem  *allowance

	order    []candidate // those worth asking, in turn
	turn     int         // next in order
	asked    int
	underWay int
	fallback *answer // an answer, but one that another node may know better
	failed   error   // the last failure

	results chan outcome // at most two attempts are under way, so that none waits to tell its outcome
	wg      sync.WaitGroup
}

type outcome struct {
	answer
	err error
	at  candidate
}

func (r *race) run(ctx context.Context) answer {
	ctx, cancel := context.WithCancel(ctx)
	defer r.wg.Wait() // those that were beaten give up at once
	defer cancel()
	hedge := time.NewTimer(r.g.opts.HedgeAfter)
	defer hedge.Stop()
	r.ask(ctx)
	for {
		var pause <-chan time.Time
		switch {
		case r.underWay == 0 && (r.asked >= r.g.opts.Attempts || len(r.order) == 0 || ctx.Err() != nil):
			return r.giveUp()
		case r.underWay == 0 && r.turn >= len(r.order):
			pause = time.After(revisit << min(r.asked/len(r.order), 5))
		case r.underWay == 0:
			r.g.metrics.retries.Inc()
			r.ask(ctx)
		}
		select {
		case o := <-r.results:
			if r.done(o) {
				return o.answer
			}
		case <-hedge.C:
			if r.underWay == 1 && r.turn < len(r.order) && r.asked < r.g.opts.Attempts {
				r.g.metrics.hedges.Inc()
				r.ask(ctx)
			}
		case <-pause:
			r.turn = 0
		case <-ctx.Done():
			return r.giveUp()
		}
	}
}

// ask begins an attempt at the next node.
func (r *race) ask(ctx context.Context) {
	at := r.order[r.turn]
	r.turn++
	r.asked++
	r.underWay++
	r.wg.Go(func() {
		a, err := r.g.attempt(ctx, r.call, at, r.body, r.mem)
		r.results <- outcome{a, err, at}
	})
}

// done takes an outcome and tells whether it is the answer.
func (r *race) done(o outcome) bool {
	r.underWay--
	switch {
	case o.err != nil:
		r.failed = o.err
		if errors.Is(o.err, errTooLarge) {
			r.drop(o.at.node)
		}
		return false
	case !o.elsewhere() && !r.call.missing(o.result):
		return true
	}
	r.fallback = &o.answer
	r.drop(o.at.node)
	return false
}

// drop leaves a node out from now on: it has answered, and would answer the same again.
func (r *race) drop(n *node) {
	i := slices.IndexFunc(r.order, func(c candidate) bool { return c.node == n })
	if i < 0 {
		return
	}
	r.order = slices.Delete(r.order, i, i+1)
	if r.turn > i {
		r.turn--
	}
}

func (r *race) giveUp() answer {
	if r.fallback != nil {
		return *r.fallback
	}
	return unanswered(r.failed, "try again")
}
