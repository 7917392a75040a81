package store

import (
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// placing decides the statuses of new blocks, under the feed's lock.
type placing struct {
	*ledger
	after  map[uint64]*chainRow // where the chains stand after it
	misled bool                 // a status was not as guessed
}

// place decides the status of new blocks as they come in and notes their feed rows, lower blocks first, so that a batch
// of consecutive blocks chains up whatever the order in which it arrived.
func (p *placing) place(firsts []*entry) error {
	slices.SortStableFunc(firsts, func(a, b *entry) int { return compareHeights(a.lead, b.lead) })
	for len(firsts) > 0 {
		id, n := firsts[0].chain(), 1
		for n < len(firsts) && firsts[n].chain() == id {
			n++
		}
		err := p.placeOn(id, firsts[:n])
		if err != nil {
			return err
		}
		firsts = firsts[n:]
	}
	return nil
}

// placeOn places the new records of one chain; bare payloads have none and only go into the feed.
func (p *placing) placeOn(id uint64, firsts []*entry) error {
	if id == schema.BareChain {
		for _, e := range firsts {
			key := string(e.lead.offer.Key)
			p.add(feedRow{Kind: string(schema.FeedBare), Key: &key})
		}
		return nil
	}
	chain, err := p.chain(id)
	if err != nil {
		return err
	}
	before := chainRow{}
	if chain != nil {
		before = *chain
	}
	wrong := map[schema.Status][]uint64{}
	for _, e := range firsts {
		var status schema.Status
		chain, status = chain.ingest(e.lead.offer)
		if status != e.wrote() {
			wrong[status] = append(wrong[status], e.id)
		}
		key := string(e.lead.offer.Key)
		p.add(feedRow{
			Kind: string(schema.FeedBlock), Chain: id, Key: &key, Number: &e.lead.offer.Header.Number,
			Status: text(status),
		})
	}
	p.after[id], p.misled = chain, p.misled || len(wrong) > 0
	for _, status := range []schema.Status{schema.StatusCanonical, schema.StatusNonCanonical, schema.StatusOrphaned} {
		if err := updateStatus(p.tx, wrong[status], status); err != nil {
			return err
		}
	}
	if chain.same(&before) {
		return nil
	}
	return p.saveChain(chain)
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
