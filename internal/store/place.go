package store

import (
	"cmp"
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// place decides the status of new blocks as they come in and writes their feed rows, lower blocks first, so that a
// batch of consecutive blocks chains up whatever the order in which it arrived.
func place(l *ledger, firsts []*entry) error {
	slices.SortStableFunc(firsts, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(a.chain(), b.chain()), cmp.Compare(a.height(), b.height()))
	})
	for len(firsts) > 0 {
		id, n := firsts[0].chain(), 1
		for n < len(firsts) && firsts[n].chain() == id {
			n++
		}
		err := l.placeOn(id, firsts[:n])
		if err != nil {
			return err
		}
		firsts = firsts[n:]
	}
	return nil
}

// placeOn places the new records of one chain; bare payloads have none and only go into the feed.
func (l *ledger) placeOn(id uint64, firsts []*entry) error {
	if id == schema.BareChain {
		for _, e := range firsts {
			key := string(e.lead.offer.Key)
			l.add(feedRow{Kind: string(schema.FeedBare), Key: &key})
		}
		return nil
	}
	chain, err := l.chain(id)
	if err != nil {
		return err
	}
	before := chainRow{}
	if chain != nil {
		before = *chain
	}
	marked := map[schema.Status][]uint64{}
	for _, e := range firsts {
		var status schema.Status
		chain, status = chain.ingest(e.lead.offer)
		if status != schema.StatusNonCanonical { // that is what the insert wrote
			marked[status] = append(marked[status], e.id)
		}
		key := string(e.lead.offer.Key)
		l.add(feedRow{
			Kind: string(schema.FeedBlock), Chain: id, Key: &key, Number: &e.lead.offer.Header.Number,
			Status: text(status),
		})
	}
	for _, status := range []schema.Status{schema.StatusCanonical, schema.StatusOrphaned} {
		if err := updateStatus(l.tx, marked[status], status); err != nil {
			return err
		}
	}
	if chain.same(&before) {
		return nil
	}
	return l.saveChain(chain)
}

// ingest tells the status of a block that nobody has judged yet, and where the chain stands after it. The chain's
// first block begins it; a child of the head extends it; everything else waits for the judge.
func (c *chainRow) ingest(o *schema.Offer) (*chainRow, schema.Status) {
	h, key := o.Header, string(o.Key)
	switch {
	case c == nil:
		return &chainRow{
			Chain: o.Chain, RootKey: key, RootNumber: h.Number, RootParent: string(h.Parent.Key()),
			HeadKey: key, HeadNumber: h.Number,
		}, schema.StatusCanonical
	case c.Halted != nil:
		return c, schema.StatusNonCanonical
	case string(h.Parent.Key()) == c.HeadKey && h.Number == c.HeadNumber+1:
		c.HeadKey, c.HeadNumber = key, h.Number
		return c, schema.StatusCanonical
	case c.FinalizedNumber != nil && h.Number <= *c.FinalizedNumber && h.Number >= c.RootNumber:
		return c, schema.StatusOrphaned
	default:
		return c, schema.StatusNonCanonical
	}
}

// same tells whether neither root nor head moved.
func (c *chainRow) same(before *chainRow) bool {
	return c.HeadKey == before.HeadKey && c.RootKey == before.RootKey
}
