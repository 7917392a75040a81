package statsapi

import (
	"context"
	"math"
	"net/http"
	"net/url"
	"strings"

	"github.com/firstseen/firstseen/schema"
)

// eventList is which page of a list to answer.
type eventList struct {
	page  uint64 // counted from 1
	limit uint64
	chain string  // as named; empty: the lowest
	url   url.URL // with page and limit as they are in force, for links to other pages
}

// readEventList reads parameters as the event store does: what is no number, or too small, counts as not there.
func readEventList(r *http.Request) eventList {
	query := r.URL.Query()
	l := eventList{page: 1, limit: eventLimit, chain: query.Get("chain"), url: *r.URL}
	if n, ok := decimal(query.Get("page")); ok && n > 0 {
		l.page = n
	}
	if n, ok := decimal(query.Get("limit")); ok && n > 0 {
		l.limit = min(n, eventMaxLimit)
	}
	l.url.RawQuery = replaceParameter(r.URL.RawQuery, "page", l.page)
	l.url.RawQuery = replaceParameter(l.url.RawQuery, "limit", l.limit)
	return l
}

// replaceParameter sets one parameter of a query where it stands first, or at the end. The others stay as they are.
func replaceParameter(query, name string, value uint64) string {
	set := name + "=" + formatUint(value)
	var parts []string
	found := false
	for part := range strings.SplitSeq(query, "&") {
		key, _, _ := strings.Cut(part, "=")
		switch {
		case part == "" || key == name && found:
			continue
		case key == name:
			part, found = set, true
		}
		parts = append(parts, part)
	}
	if !found {
		parts = append(parts, set)
	}
	return strings.Join(parts, "&")
}

// pageOf lays a page's bar around its rows. There may be more items than can be paged to.
func (l eventList) pageOf(rows any, items uint64) *eventPage {
	bar := pageBar(l.url, l.page, items, l.limit)
	return &eventPage{Data: rows, PageCount: uint64(*bar.PageCount), ItemCount: items, Pages: bar.Pages}
}

// skip is how many rows come before the page, or false when it is farther than any list goes.
func (l eventList) skip() (int, bool) {
	if l.page-1 > math.MaxInt32/l.limit {
		return 0, false
	}
	return int((l.page - 1) * l.limit), true
}

// eventListChain is the chain to list, or false if none is stored or what was named is none.
func (a *API) eventListChain(ctx context.Context, named string) (uint64, bool, error) {
	chains, err := a.eventChains(ctx, named)
	if err != nil || len(chains) == 0 {
		return 0, false, err
	}
	return chains[0], true, nil
}

// eventBlockPage lists blocks from the highest, siblings included.
func (a *API) eventBlockPage(ctx context.Context, l eventList) (*eventPage, error) {
	chain, ok, err := a.eventListChain(ctx, l.chain)
	if err != nil || !ok {
		return l.pageOf([]eventBlock{}, 0), err
	}
	total, err := a.counter.blocks(ctx, chain)
	if err != nil {
		return nil, err
	}
	var records []schema.Record
	if skip, ok := l.skip(); ok {
		if records, err = a.opts.Store.PageBlocks(ctx, chain, skip, int(l.limit)); err != nil {
			return nil, err
		}
	}
	blocks, err := a.eventBlocksOf(ctx, records)
	return l.pageOf(blocks, total), err
}

// eventDeployPage lists what an account sent, newest first. What is not an address has sent nothing.
func (a *API) eventDeployPage(ctx context.Context, account string, l eventList) (*eventPage, error) {
	none := l.pageOf([]eventDeploy{}, 0)
	sender, err := schema.ParseAddress(account)
	if err != nil {
		return none, nil //nolint:nilerr // so it was there
	}
	chain, ok, err := a.eventListChain(ctx, l.chain)
	if err != nil || !ok {
		return none, err
	}
	total, err := a.opts.Store.CountSentBy(ctx, chain, sender, eventMaxItems)
	if err != nil {
		return nil, err
	}
	var found []schema.PlacedTransaction
	if skip, ok := l.skip(); ok && uint64(skip) < total {
		if found, err = a.opts.Store.SentBy(ctx, chain, sender, skip, int(l.limit)); err != nil {
			return nil, err
		}
	}
	deploys := make([]eventDeploy, len(found))
	for i, t := range found {
		deploys[i] = eventDeployOf(t)
	}
	return l.pageOf(deploys, total), nil
}
