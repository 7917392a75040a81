package statsapi

import (
	"context"
	"math"
	"net/url"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

type listInput struct {
	Chain  chainParam `query:"chain" doc:"Only blocks of this chain."`
	Limit  limitParam `query:"limit" doc:"Rows to answer; more than 100 gives 100."`
	Cursor string     `query:"cursor" doc:"Go on after an earlier answer. Costs the same however far it leads."`
	Page   pageParam  `query:"page" doc:"Go to a page of one chain. Costs more the farther it leads."`

	url url.URL
}

// Resolve implements huma.Resolver: links to other pages repeat the request's parameters.
func (in *listInput) Resolve(ctx huma.Context) []error {
	in.url = ctx.URL()
	return nil
}

type listOutput struct{ Body BlockList }

// listQuery is what a listInput asks for.
type listQuery struct {
	chains []uint64 // to list
	limit  int
	after  *schema.BlockPlace // where a cursor points; nil without one
	page   uint64             // counted from 1; 0 where there are no pages
}

func (a *API) listBlocks(ctx context.Context, in *listInput) (*listOutput, error) {
	q, err := a.readList(ctx, in)
	if err != nil {
		return nil, err
	}
	out := &listOutput{Body: BlockList{Data: []Block{}}}
	if q.page > 0 {
		total, err := a.counter.blocks(ctx, q.chains[0])
		if err != nil {
			return nil, err
		}
		out.Body.PageBar = pageBar(in.url, q.page, total, uint64(q.limit))
	}
	found, next, err := a.fetchList(ctx, q)
	if err != nil {
		return nil, err
	}
	if next != nil {
		cursor := encodeCursor(*next)
		out.Body.NextCursor = &cursor
	}
	out.Body.Data, err = a.blocks(ctx, found)
	return out, err
}

// readList decides between cursor and pages. Pages need one chain, because no index orders the blocks of several.
func (a *API) readList(ctx context.Context, in *listInput) (q listQuery, err error) {
	if q.limit, err = in.Limit.read(); err != nil {
		return q, err
	}
	page, err := in.Page.read()
	if err != nil {
		return q, err
	}
	if in.Cursor != "" {
		if in.Page != "" {
			return q, badParameter("page", string(in.Page), "and cursor exclude each other")
		}
		if q.after, err = decodeCursor(in.Cursor); err != nil {
			return q, err
		}
	}
	if q.chains, err = a.listedChains(ctx, in.Chain); err != nil {
		return q, err
	}
	switch {
	case q.after == nil && len(q.chains) == 1:
		q.page = page
	case in.Page != "" && len(q.chains) > 1:
		return q, ambiguous("a page", q.chains)
	}
	return q, nil
}

func (a *API) listedChains(ctx context.Context, named chainParam) ([]uint64, error) {
	chain, err := named.read()
	if err != nil {
		return nil, err
	}
	if chain != nil {
		return []uint64{*chain}, nil
	}
	states, err := a.opts.Store.Chains(ctx)
	return chainIDs(states), err
}

func (a *API) fetchList(ctx context.Context, q listQuery) ([]schema.Record, *schema.BlockPlace, error) {
	if q.page <= 1 {
		return a.opts.Store.ListBlocks(ctx, q.chains, schema.RecordFilter{}, false, q.after, q.limit)
	}
	if q.page-1 > math.MaxInt32/uint64(q.limit) {
		return nil, nil, nil // farther than any list goes
	}
	found, err := a.opts.Store.PageBlocks(ctx, q.chains[0], int(q.page-1)*q.limit, q.limit+1)
	if len(found) <= q.limit { // one more was asked for, to know whether there is more
		return found, nil, err
	}
	found = found[:q.limit]
	last := found[q.limit-1]
	return found, &schema.BlockPlace{Number: last.Header.Number, Chain: last.Chain, ID: last.ID}, err
}

func (a *API) blocks(ctx context.Context, records []schema.Record) ([]Block, error) {
	keys := make([]schema.Key, len(records))
	for i, r := range records {
		keys[i] = r.Key
	}
	counts, err := a.opts.Store.TransactionCounts(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]Block, len(records))
	for i, r := range records {
		out[i] = blockOf(r, counts[r.Key])
	}
	return out, nil
}

// pageBar links to this page and its neighbours, three in all where there are as many.
func pageBar(u url.URL, page, items, limit uint64) *PageBar {
	pages := (items + limit - 1) / limit
	page = min(page, max(pages, 1)) // from past the end, the way back
	last := min(max(page, 2)+1, pages)
	first := max(last, 3) - 2
	bar := &PageBar{PageCount: new(Number(pages)), ItemCount: new(Number(items)), Pages: []PageLink{}}
	for n := first; n <= last; n++ {
		bar.Pages = append(bar.Pages, PageLink{Number: Number(n), URL: pageURL(u, n)})
	}
	return bar
}

// pageURL is the request's URL with another page; the other parameters stay as and where they are.
func pageURL(u url.URL, page uint64) string {
	link := url.URL{Path: u.Path}
	set := "page=" + formatUint(page)
	var parts []string
	found := false
	for part := range strings.SplitSeq(u.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		switch {
		case part == "" || name == "page" && found:
			continue
		case name == "page":
			part, found = set, true
		}
		parts = append(parts, part)
	}
	if !found {
		parts = append(parts, set)
	}
	link.RawQuery = strings.Join(parts, "&")
	return link.String()
}

func formatUint(n uint64) string { return strconv.FormatUint(n, 10) }
