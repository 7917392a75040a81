package invariants

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// Rule names something that must hold.
type Rule string

// What must hold, whatever happened.
const (
	Once      Rule = "every block of the chain is stored exactly once"
	Shown     Rule = "nothing is stored that no node showed, and payloads are as rendered anew"
	Durable   Rule = "what was acked is stored, with the observation"
	Order     Rule = "an ack comes after the commit"
	Immutable Rule = "who was first never changes"
	Counts    Rule = "duplicates are offers less rows"
	Protocol  Rule = "acks and refusals follow the rules of the protocol"
	Statuses  Rule = "the status of each block is the chain's"
	FeedWhole Rule = "the feed has no gaps, adds each block once and ends at the statuses of the rows"
)

// Violation is a rule that was broken, and how.
type Violation struct {
	Rule Rule
	How  string
}

// Violations are those that one check found.
type Violations []Violation

// Err returns nil if nothing was broken, else an error that tells at most the first ten violations.
func (v Violations) Err() error {
	if len(v) == 0 {
		return nil
	}
	var lines []string
	for _, one := range v[:min(len(v), 10)] {
		lines = append(lines, string(one.Rule)+": "+one.How)
	}
	return fmt.Errorf("%d violations:\n%s", len(v), strings.Join(lines, "\n"))
}

// Truth is the chain itself; see Chronicle.Truth.
type Truth struct {
	Chain           uint64
	First           uint64
	Branch          []schema.Hash
	Bodies          map[schema.Key][]byte
	Safe, Finalized uint64
}

// Evidence is all that is known of a run.
type Evidence struct {
	Earlier   []Tables // of moments before, if any
	Tables    Tables   // of now
	Exchanges []Exchange
	Truth     Truth
}

// Check returns every violation that the evidence shows. What is on its way to the database still, such as the newest
// block, is one: whoever knows that the run has not come to rest asks again.
func Check(e Evidence) Violations {
	c := checker{Evidence: e, rows: map[schema.Key]*Row{}, numbers: map[schema.Key]uint64{}}
	for number, hash := range e.Truth.Branch {
		c.numbers[hash.Key()] = uint64(number)
	}
	for i := range e.Tables.Rows {
		r := &e.Tables.Rows[i]
		if c.rows[r.Key] != nil {
			c.breaks(Once, "block %d %s is there twice, as %d and %d", r.Number, r.Key, c.rows[r.Key].ID, r.ID)
		}
		c.rows[r.Key] = r
	}
	c.complete()
	c.shown()
	c.durable()
	c.counts()
	c.immutable()
	c.statuses()
	c.feed()
	return c.found
}

type checker struct {
	Evidence
	rows    map[schema.Key]*Row
	numbers map[schema.Key]uint64 // of the blocks on the chain's branch
	found   Violations
}

func (c *checker) breaks(rule Rule, format string, args ...any) {
	c.found = append(c.found, Violation{rule, fmt.Sprintf(format, args...)})
}

func (c *checker) complete() {
	for number, hash := range c.Truth.Branch {
		if uint64(number) >= c.Truth.First && c.rows[hash.Key()] == nil {
			c.breaks(Once, "block %d %s is missing", number, hash)
		}
	}
}

func (c *checker) shown() {
	for key, r := range c.rows {
		body, ok := c.Truth.Bodies[key]
		number, onBranch := c.numbers[key]
		switch {
		case !ok || r.Chain != c.Truth.Chain:
			c.breaks(Shown, "block %d %s of chain %d was never shown", r.Number, key, r.Chain)
		case onBranch && number != r.Number:
			c.breaks(Shown, "block %s is stored as number %d, not %d", key, r.Number, number)
		case !bytes.Equal(body, r.Payload):
			c.breaks(Shown, "the payload of block %d %s differs from the one rendered anew", r.Number, key)
		}
	}
}

func (c *checker) durable() {
	for i := range c.Exchanges {
		e := &c.Exchanges[i]
		for _, text := range e.Broken {
			c.breaks(Protocol, "%s on %s: %s", e.Observer, e.Server, text)
		}
		for _, key := range e.Early {
			c.breaks(Order, "%s was told by %s that %s is stored when it was not", e.Observer, e.Server, key)
		}
		for n, outcome := range e.Outcomes {
			key := e.Offers[n]
			switch r := c.rows[key]; {
			case outcome == refused:
			case r == nil:
				c.breaks(Durable, "%s was told by %s that %s is stored, and it is not", e.Observer, e.Server, key)
			case !slices.Contains(r.Observers, e.Observer):
				c.breaks(Durable, "the observation of %s by %s was acked, and is not stored", key, e.Observer)
			}
		}
	}
}

// tally is what became of the offers of one block.
type tally struct{ firsts, duplicates, unknown, refused int }

// counts holds the offers against the rows. Each row was some offer's first arrival, whose ack may have been lost.
func (c *checker) counts() {
	if c.Exchanges == nil {
		return
	}
	tallies := map[schema.Key]*tally{}
	of := func(key schema.Key) *tally {
		if tallies[key] == nil {
			tallies[key] = &tally{}
		}
		return tallies[key]
	}
	for i := range c.Exchanges {
		e := &c.Exchanges[i]
		for n, outcome := range e.Outcomes {
			t := of(e.Offers[n])
			switch outcome {
			case wire.FlagFirst:
				t.firsts++
			case wire.FlagDuplicate:
				t.duplicates++
			default:
				t.refused++
			}
		}
		for _, key := range e.unknown() {
			of(key).unknown++
		}
	}
	for key := range c.rows {
		of(key)
	}
	for key, t := range tallies {
		stored := 0
		if c.rows[key] != nil {
			stored = 1
		}
		if t.firsts > stored || stored > t.firsts+t.unknown {
			c.breaks(Counts, "%s is stored %d times, with %d acks as first, %d as duplicate, %d refusals and %d offers unanswered",
				key, stored, t.firsts, t.duplicates, t.refused, t.unknown)
		}
	}
}

func (c *checker) immutable() {
	for _, earlier := range c.Earlier {
		for _, was := range earlier.Rows {
			is := c.rows[was.Key]
			switch {
			case is == nil:
				c.breaks(Immutable, "block %d %s was stored and is not any more", was.Number, was.Key)
			case is.ID != was.ID, is.Token != was.Token, is.Observer != was.Observer, is.ReceivedAt != was.ReceivedAt:
				c.breaks(Immutable, "block %d %s was first seen by %s, and now by %s", was.Number, was.Key, was.Observer, is.Observer)
			case was.Status == schema.StatusFinalized && is.Status != was.Status:
				c.breaks(Immutable, "block %d %s was finalized, and now is %s", was.Number, was.Key, is.Status)
			}
		}
	}
}

func (c *checker) statuses() {
	for key, r := range c.rows {
		if want := c.want(key, r.Number); r.Status != want {
			c.breaks(Statuses, "block %d %s is %s, the chain says %s", r.Number, key, r.Status, want)
		}
	}
}

func (c *checker) want(key schema.Key, number uint64) schema.Status {
	_, onBranch := c.numbers[key]
	final := number <= c.Truth.Finalized
	switch {
	case onBranch && final:
		return schema.StatusFinalized
	case onBranch && number <= c.Truth.Safe:
		return schema.StatusSafe
	case onBranch:
		return schema.StatusCanonical
	case final:
		return schema.StatusOrphaned
	}
	return schema.StatusNonCanonical
}

func (c *checker) feed() {
	replayed := map[schema.Key]schema.Status{}
	for i, e := range c.Tables.Feed {
		if e.Seq != uint64(i)+1 {
			c.breaks(FeedWhole, "row %d has seq %d", i+1, e.Seq)
			break
		}
		was, known := replayed[e.Key]
		switch e.Kind {
		case schema.FeedBlock:
			if known {
				c.breaks(FeedWhole, "seq %d adds %s again", e.Seq, e.Key)
			}
			replayed[e.Key] = e.Status
		case schema.FeedStatus:
			if was != e.Was || was == schema.StatusFinalized {
				c.breaks(FeedWhole, "seq %d makes %s %s from %s, when it was %s", e.Seq, e.Key, e.Status, e.Was, was)
			}
			replayed[e.Key] = e.Status
		case schema.FeedAlarm:
			c.breaks(FeedWhole, "seq %d is an alarm", e.Seq)
		}
	}
	for key, r := range c.rows {
		if status, ok := replayed[key]; !ok || status != r.Status {
			c.breaks(FeedWhole, "block %d %s is %s, the feed ends at %q", r.Number, key, r.Status, status)
		}
	}
	for key := range replayed {
		if c.rows[key] == nil {
			c.breaks(FeedWhole, "the feed has block %s, the records do not", key)
		}
	}
}
