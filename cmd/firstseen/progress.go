package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/client"
)

const (
	longBackfill = 500              // blocks behind the head from which on progress is shown
	lineEvery    = 10 * time.Second // where there is no terminal
)

// progress shows how something long gets on: as a bar on a terminal, else as a line of the log now and then.
type progress struct {
	what, unit string // as in "backfill" of "blocks"
	log        *logrus.Logger
	out        io.Writer // the terminal; nil: there is none

	mu    sync.Mutex // guards the rest: log lines come from everywhere
	bar   *progressbar.ProgressBar
	began time.Time // zero: nothing is under way
	last  time.Time // line
}

// newProgress puts itself between the logger and the terminal, so that lines and bar do not mix.
func newProgress(what, unit string, log *logrus.Logger) *progress {
	p := &progress{what: what, unit: unit, log: log}
	if terminal(log.Out) {
		p.out = log.Out
		log.SetOutput(p)
	}
	return p
}

// Write writes log lines above the bar.
func (p *progress) Write(line []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear() // of use to the eye only
	}
	return p.out.Write(line)
}

// run looks each second until ctx ends.
func (p *progress) run(ctx context.Context, look func(now time.Time)) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.clear()
			return nil
		case now := <-tick.C:
			look(now)
		}
	}
}

func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}

func (p *progress) begin(now time.Time, what logrus.Fields) {
	p.began, p.last = now, now
	p.log.WithFields(what).Info(p.what + " begins")
}

func (p *progress) end(now time.Time, done uint64) {
	took := now.Sub(p.began)
	p.began = time.Time{}
	p.clear()
	p.log.WithFields(logrus.Fields{p.unit: done, "took": took.Round(time.Second).String()}).Info(p.what + " is done")
}

func (p *progress) show(now time.Time, done, left uint64) {
	if p.out == nil {
		if now.Sub(p.last) >= lineEvery {
			p.last = now
			p.log.WithFields(p.rate(now.Sub(p.began), done, left)).Info(p.what + " goes on")
		}
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(int64(done+left), progressbar.OptionSetWriter(p.out), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionSetItsString(p.unit), progressbar.OptionSetDescription(p.what),
			progressbar.OptionSetWidth(30))
	}
	p.bar.ChangeMax64(int64(done + left))
	_ = p.bar.Set64(int64(done))
}

// rate is what a line says.
func (p *progress) rate(took time.Duration, done, left uint64) logrus.Fields {
	f := logrus.Fields{"done": done, "left": left}
	if done > 0 && took > 0 {
		perSecond := float64(done) / took.Seconds()
		f[p.unit+"_per_second"] = fmt.Sprintf("%.0f", perSecond)
		f["remaining"] = time.Duration(float64(left) / perSecond * float64(time.Second)).Round(time.Second).String()
	}
	return f
}

// backfill shows how a long backfill gets on.
type backfill struct {
	*progress
	stats func() client.Stats
	from  uint64 // the first height of it
}

func newBackfill(stats func() client.Stats, log *logrus.Logger) *backfill {
	return &backfill{progress: newProgress("backfill", "blocks", log), stats: stats}
}

// Run looks each second until ctx ends.
func (b *backfill) Run(ctx context.Context) error { return b.run(ctx, b.look) }

func (b *backfill) look(now time.Time) {
	s := b.stats()
	if s.Head == nil || s.From == 0 && s.Observed == 0 {
		return
	}
	next := max(s.From, s.Last+1)
	var left uint64
	if s.Head.Latest.Number >= next {
		left = s.Head.Latest.Number - next + 1
	}
	switch {
	case b.began.IsZero() && left < longBackfill:
		return
	case b.began.IsZero():
		b.from = next
		b.begin(now, logrus.Fields{"from": next, "to": s.Head.Latest.Number})
	case left < 32:
		b.end(now, next-b.from)
		return
	}
	b.show(now, next-b.from, left)
}
