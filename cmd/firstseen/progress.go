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

// backfill shows how a long backfill gets on: as a bar on a terminal, else as a line of the log now and then.
type backfill struct {
	stats func() client.Stats
	log   *logrus.Logger
	out   io.Writer // the terminal; nil: there is none

	mu    sync.Mutex // guards the rest: log lines come from everywhere
	bar   *progressbar.ProgressBar
	began time.Time // zero: no backfill is under way
	from  uint64    // the first height of it
	last  time.Time // line
}

// newBackfill puts itself between the logger and the terminal, so that lines and bar do not mix.
func newBackfill(stats func() client.Stats, log *logrus.Logger) *backfill {
	b := &backfill{stats: stats, log: log}
	if terminal(log.Out) {
		b.out = log.Out
		log.SetOutput(b)
	}
	return b
}

// Run looks each second until ctx ends.
func (b *backfill) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			b.clear()
			return nil
		case now := <-tick.C:
			b.look(now)
		}
	}
}

// Write writes log lines above the bar.
func (b *backfill) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear() // of use to the eye only
	}
	return b.out.Write(p)
}

func (b *backfill) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar != nil {
		_ = b.bar.Clear()
		b.bar = nil
	}
}

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
		b.began, b.last, b.from = now, now, next
		b.log.WithFields(logrus.Fields{"from": next, "to": s.Head.Latest.Number}).Info("backfill begins")
	case left < 32:
		took := now.Sub(b.began)
		b.began = time.Time{}
		b.clear()
		b.log.WithFields(logrus.Fields{"blocks": next - b.from, "took": took.Round(time.Second).String()}).Info("backfill is done")
		return
	}
	b.show(now, next-b.from, left)
}

func (b *backfill) show(now time.Time, done, left uint64) {
	if b.out == nil {
		if now.Sub(b.last) >= lineEvery {
			b.last = now
			b.log.WithFields(rate(now.Sub(b.began), done, left)).Info("backfill goes on")
		}
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bar == nil {
		b.bar = progressbar.NewOptions64(int64(done+left), progressbar.OptionSetWriter(b.out), progressbar.OptionShowCount(),
			progressbar.OptionShowIts(), progressbar.OptionSetItsString("blocks"), progressbar.OptionSetDescription("backfill"),
			progressbar.OptionSetWidth(30))
	}
	b.bar.ChangeMax64(int64(done + left))
	_ = b.bar.Set64(int64(done))
}

// rate is what a line says.
func rate(took time.Duration, done, left uint64) logrus.Fields {
	f := logrus.Fields{"done": done, "left": left}
	if done > 0 && took > 0 {
		perSecond := float64(done) / took.Seconds()
		f["blocks_per_second"] = fmt.Sprintf("%.0f", perSecond)
		f["remaining"] = time.Duration(float64(left) / perSecond * float64(time.Second)).Round(time.Second).String()
	}
	return f
}
