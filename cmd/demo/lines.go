package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/server"
)

// watched tells lines of every offer that its store has settled.
type watched struct {
	server.Store
	lines *lines
	drop  uint64 // the number of a block to acknowledge and throw away; 0 for none
}

// Offer implements server.Store.
func (w *watched) Offer(ctx context.Context, o *schema.Offer, done func(schema.Settlement)) error {
	if w.drop > 0 && o.Header.Number == w.drop {
		done(schema.Settlement{Outcome: schema.First})
		return nil
	}
	seen := sighting{key: o.Key, number: o.Header.Number, observer: o.Observer, server: o.Server}
	return w.Store.Offer(ctx, o, func(s schema.Settlement) {
		seen.at = time.Now()
		w.lines.settled(seen, s.Outcome)
		done(s)
	})
}

// sighting is one observer's delivery of one block.
type sighting struct {
	key              schema.Key
	number           uint64
	observer, server string
	at               time.Time // of the commit
}

// lines prints a line for each block once its second observer is known.
type lines struct {
	out   io.Writer
	queue chan string   // to the one goroutine that prints; lines are left out while it is full
	first chan struct{} // closed when the first block is stored

	mu         sync.Mutex // guards what follows
	begun      bool
	waiting    map[schema.Key]sighting // seen by one observer so far
	order      []schema.Key            // of waiting, the oldest first
	duplicates int
}

// maxWaiting is how many blocks may wait for their second observer; the oldest is printed without.
const maxWaiting = 4

func newLines(out io.Writer) *lines {
	return &lines{out: out, queue: make(chan string, 256), first: make(chan struct{}), waiting: map[schema.Key]sighting{}}
}

// run prints until ctx ends, then what is left.
func (l *lines) run(ctx context.Context) error {
	for {
		select {
		case line := <-l.queue:
			fmt.Fprintln(l.out, line)
		case <-ctx.Done():
			for {
				select {
				case line := <-l.queue:
					fmt.Fprintln(l.out, line)
				default:
					return nil
				}
			}
		}
	}
}

func (l *lines) say(line string) {
	select {
	case l.queue <- line:
	default:
	}
}

// settled takes one delivery. It is called by the stores' committers and does not block.
func (l *lines) settled(s sighting, outcome schema.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch outcome {
	case schema.First:
		if !l.begun {
			l.begun = true
			close(l.first)
		}
		l.wait(s)
	case schema.Duplicate:
		l.duplicates++
		if before, ok := l.waiting[s.key]; ok && before.observer != s.observer {
			delete(l.waiting, s.key)
			by := float64(s.at.Sub(before.at).Microseconds()) / 1000
			l.say(fmt.Sprintf("%s, %.1f ms before %s", before, by, s.observer))
		}
	case schema.Unsettled, schema.Refused:
		l.say(fmt.Sprintf("block %6d  %s from %s", s.number, outcome, s.observer))
	}
}

func (l *lines) wait(s sighting) {
	l.waiting[s.key] = s
	l.order = append(l.order, s.key)
	if len(l.order) <= maxWaiting {
		return
	}
	oldest := l.order[0]
	l.order = l.order[1:]
	if alone, ok := l.waiting[oldest]; ok {
		delete(l.waiting, oldest)
		l.say(alone.String())
	}
}

// String tells which block it was and who was first.
func (s sighting) String() string {
	return fmt.Sprintf("block %6d  %.10s…  first: %s through %s", s.number, s.key, s.observer, s.server)
}
