package gateway

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// revisit is the pause before nodes that have failed are asked again within one request; it doubles with each round.
const revisit = 10 * time.Millisecond

// forward gets a call answered by one of the nodes.
func (g *Gateway) forward(ctx context.Context, c *call, order []candidate, mem *allowance) answer {
	if c.class == once {
		return g.askOnce(ctx, c, order, mem)
	}
	r := &race{g: g, call: c, body: c.Encode([]byte(ourID)), order: order, mem: mem}
	return r.run(ctx)
}

// askOnce asks one node. Only where no connection to it could be had, so that it cannot have seen the request, is
// another one asked.
func (g *Gateway) askOnce(ctx context.Context, c *call, order []candidate, mem *allowance) answer {
	ctx, cancel := context.WithTimeout(ctx, g.opts.Timeout)
	defer cancel()
	body := c.Encode([]byte(ourID))
	for _, at := range order {
		watched, sent := sentinel(ctx)
		watched, cancel := context.WithTimeout(watched, g.opts.AttemptTimeout)
		a, err := g.attempt(watched, c, at, body, mem)
		cancel()
		switch {
		case err == nil:
			return a
		case sent.Load():
			g.log.WithField("node", at.name).WithField("method", c.Method).WithError(err).Info("no answer to a write")
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
		return sorry(jsonrpc.CodeTooLarge, "the answer is too large")
	}
	return sorry(jsonrpc.CodeServer, "no node gave an answer; "+hint).withStatus(http.StatusBadGateway)
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
	fallback answer // an answer, but one that another node may know better
	failed   error  // the last failure

	results chan outcome
	wg      sync.WaitGroup
}

type outcome struct {
	answer
	err error
	at  candidate
}

// run asks the first node itself: nearly always there is no more to it. Only when that takes long, the race goes on
// beside it, in a goroutine of its own, from where the first attempt's outcome is one of several.
func (r *race) run(ctx context.Context) answer {
	began := time.Now()
	first, cancel := context.WithTimeout(ctx, r.g.opts.AttemptTimeout)
	defer cancel()
	r.turn, r.asked = 1, 1
	if len(r.order) == 1 {
		if o := r.attempt(first, r.order[0]); r.done(o) {
			return o.answer
		}
		return r.goOn(ctx, began, r.g.opts.HedgeAfter)
	}
	// One place for each attempt that can be under way, so that none waits to tell its outcome.
	r.results = make(chan outcome, 2)
	beside := make(chan answer, 1)
	at := r.order[0]
	hedge := time.AfterFunc(r.g.opts.HedgeAfter, func() {
		r.underWay = 1
		a := r.goOn(ctx, began, 0)
		cancel()
		beside <- a
	})
	o := r.attempt(first, at)
	if !hedge.Stop() {
		r.results <- o
		return <-beside
	}
	if r.done(o) {
		return o.answer
	}
	return r.goOn(ctx, began, r.g.opts.HedgeAfter)
}

// goOn asks more nodes until one has answered, all have been asked often enough, or the time is up. A second one is asked
// beside the one under way after hedgeAfter.
func (r *race) goOn(ctx context.Context, began time.Time, hedgeAfter time.Duration) answer {
	ctx, cancel := context.WithDeadline(ctx, began.Add(r.g.opts.Timeout))
	defer r.wg.Wait() // those that were beaten give up at once
	defer cancel()
	if r.results == nil {
		r.results = make(chan outcome, 2)
	}
	hedge := time.NewTimer(hedgeAfter)
	defer hedge.Stop()
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
			r.underWay--
			if r.done(o) {
				return o.answer
			}
		case <-hedge.C:
			r.hedge(ctx)
		case <-pause:
			r.turn = 0
		case <-ctx.Done():
			return r.giveUp()
		}
	}
}

// hedge asks a second node beside the one that takes long.
func (r *race) hedge(ctx context.Context) {
	if r.underWay == 1 && r.turn < len(r.order) && r.asked < r.g.opts.Attempts {
		r.g.metrics.hedges.Inc()
		r.ask(ctx)
	}
}

// ask begins an attempt at the next node.
func (r *race) ask(ctx context.Context) {
	at := r.order[r.turn]
	r.turn++
	r.asked++
	r.underWay++
	r.wg.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, r.g.opts.AttemptTimeout)
		defer cancel()
		r.results <- r.attempt(ctx, at)
	})
}

func (r *race) attempt(ctx context.Context, at candidate) outcome {
	a, err := r.g.attempt(ctx, r.call, at, r.body, r.mem)
	return outcome{a, err, at}
}

// done takes an outcome and tells whether it is the answer.
func (r *race) done(o outcome) bool {
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
	r.fallback = o.answer
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
	if r.fallback.node != "" {
		return r.fallback
	}
	return unanswered(r.failed, "try again")
}
