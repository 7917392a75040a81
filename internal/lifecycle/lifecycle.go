// Package lifecycle runs the parts of one process: started in order, stopped in reverse, each stop bounded and named.
//
// The order matters to what the process promises: a store that is started before the server and stopped after it can
// settle everything the server accepted.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Group is an ordered list of parts. The zero Group is empty and ready to use; it is not for concurrent use.
type Group struct {
	parts []*part
}

type part struct {
	name   string
	stop   time.Duration
	run    func(context.Context) error
	cancel context.CancelFunc
	done   chan struct{} // closed by the goroutine that ran the part, after err is set
	err    error
}

// Add appends a part. run serves until its context ends and then drains; it is given stop to do so, after which Run
// gives up on it with an error that carries its name.
func (g *Group) Add(name string, stop time.Duration, run func(context.Context) error) {
	g.parts = append(g.parts, newPart(name, stop, run))
}

// AddFirst puts a part before all those added so far: started before them and stopped after them. It is for what watches
// the others to their end, and can only be made once they are known.
func (g *Group) AddFirst(name string, stop time.Duration, run func(context.Context) error) {
	g.parts = slices.Insert(g.parts, 0, newPart(name, stop, run))
}

func newPart(name string, stop time.Duration, run func(context.Context) error) *part {
	return &part{name: name, stop: stop, run: run, done: make(chan struct{})}
}

// Run starts every part in order and serves until ctx ends or any part returns. It then stops the rest, the last one
// first, waiting for each before it stops the next. The errors of all parts are joined; a part that ends because it was
// told to has none.
func (g *Group) Run(ctx context.Context) error {
	ended := make(chan struct{}, len(g.parts))
	for _, p := range g.parts {
		p.start(ctx, ended)
	}
	select {
	case <-ctx.Done():
	case <-ended:
	}
	var errs []error
	for i := len(g.parts) - 1; i >= 0; i-- {
		errs = append(errs, g.parts[i].end())
	}
	return errors.Join(errs...)
}

// start runs the part under a context of its own: the process's end reaches it only when its turn has come.
func (p *part) start(ctx context.Context, ended chan<- struct{}) {
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer func() { ended <- struct{}{} }()
		defer close(p.done)
		p.err = p.run(ctx)
	}()
}

func (p *part) end() error {
	p.cancel()
	timer := time.NewTimer(p.stop)
	defer timer.Stop()
	select {
	case <-p.done:
	case <-timer.C:
		return fmt.Errorf("%s: did not stop within %s", p.name, p.stop)
	}
	if p.err == nil || errors.Is(p.err, context.Canceled) {
		return nil
	}
	return fmt.Errorf("%s: %w", p.name, p.err)
}
