package store

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// entry is one key of a batch: the offer that inserts it and those folded onto it.
type entry struct {
	lead  *pending
	all   []*pending // the lead and its followers, in order of arrival
	id    uint64     // 0 while nothing needed it
	first bool       // the lead inserted the row
}

func (e *entry) chain() uint64 { return e.lead.key.chain }

func (e *entry) bare() bool { return e.lead.offer.Header == nil }

// wrote is the status that the record is inserted with, before the lock that decides it.
func (e *entry) wrote() schema.Status { return cmp.Or(e.lead.guess, schema.StatusNonCanonical) }

// fold joins offers of the same key and sorts by key: writers that lock rows in one order do not deadlock.
func fold(batch []*pending) []*entry {
	at := make(map[recordKey]*entry, len(batch))
	entries := make([]*entry, 0, len(batch))
	room, leads := make([]entry, len(batch)), make([]*pending, len(batch))
	for i, p := range batch {
		e := at[p.key]
		if e == nil {
			e = &room[i]
			leads[i] = p
			e.lead, e.all, e.id = p, leads[i:i:i+1], p.id
			at[p.key] = e
			entries = append(entries, e)
		}
		e.all = append(e.all, p)
	}
	slices.SortFunc(entries, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.chain(), b.chain()), bytes.Compare(a.lead.key.hash[:], b.lead.key.hash[:]))
	})
	return entries
}

// compareHeights orders by chain and height.
func compareHeights(a, b *pending) int {
	return cmp.Or(cmp.Compare(a.key.chain, b.key.chain), cmp.Compare(a.height(), b.height()))
}

// height is 0 for a bare payload.
func (p *pending) height() uint64 {
	if p.offer.Header == nil {
		return 0
	}
	return p.offer.Header.Number
}

// those returns the entries that match.
func those(entries []*entry, match func(*entry) bool) []*entry {
	out := make([]*entry, 0, len(entries))
	for _, e := range entries {
		if match(e) {
			out = append(out, e)
		}
	}
	return out
}
