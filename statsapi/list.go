package statsapi

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"

	"github.com/firstseen/firstseen/schema"
)

type listInput struct {
	RecordQuery
	PlaceQuery
	Page pageParam `query:"page" doc:"Go to a page of one chain, without other conditions. Costs more the farther it leads."`
	Sort string    `query:"sort" enum:"number,-number" doc:"By height, with a minus the highest first, which is the default."`
}

type listOutput struct {
	Link string `header:"Link"`
	Body BlockList
}

// listQuery is what a listInput asks for.
type listQuery struct {
	filter    schema.RecordFilter
	chains    []uint64 // to list
	ascending bool
	limit     int
	after     *schema.BlockPlace // where a cursor points; nil without one
	page      uint64             // counted from 1; 0 where there are no pages
}

func (a *API) routeBlocks() {
	get(a, "/v1/blocks", "listBlocks", "Blocks, the highest first", a.listBlocks)
	get(a, "/v1/blocks/{id}", "getBlock", "One block", a.getBlock, http.StatusNotFound)
	get(a, "/v1/blocks/{id}/observations", "getObservations", "Who saw a block, and when", a.getObservations,
		http.StatusNotFound)
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
	out.Link = links(in.url, out.Body.NextCursor, q.page, out.Body.PageBar)
	out.Body.Data, err = a.blocks(ctx, found)
	return out, err
}

// readList decides between cursor and pages. Pages need one chain, because no index orders the blocks of several, and no
// other condition, because what it leaves would have to be counted.
func (a *API) readList(ctx context.Context, in *listInput) (q listQuery, err error) {
	if q.limit, err = in.Limit.read(); err != nil {
		return q, err
	}
	if q.filter, err = in.RecordQuery.read(); err != nil {
		return q, err
	}
	if q.ascending, err = sorted(in.Sort, "number"); err != nil {
		return q, err
	}
	page, err := readPage(in.Page, in.Cursor, in.onlyChain() && !q.ascending)
	if err != nil {
		return q, err
	}
	if in.Cursor != "" {
		if q.after, err = decodeCursor(in.Cursor); err != nil {
			return q, err
		}
	}
	if q.chains, err = a.listedChains(ctx, q.filter.Chain); err != nil {
		return q, err
	}
	switch {
	case page > 0 && len(q.chains) == 1:
		q.page = page
	case in.Page != "" && len(q.chains) > 1:
		return q, ambiguous("a page", q.chains)
	}
	return q, nil
}

// readPage returns 0 where there are no pages.
func readPage(p pageParam, cursor string, plain bool) (uint64, error) {
	page, err := p.read()
	switch {
	case err != nil:
		return 0, err
	case p == "" && (cursor != "" || !plain):
		return 0, nil
	case cursor != "":
		return 0, badParameter("page", string(p), "and cursor exclude each other")
	case !plain:
		return 0, badParameter("page", string(p), "goes with no condition but chain and with no other order; follow cursor")
	}
	return page, nil
}

// listedChains are the chain that is named, or all. A chain that is stored for the first time is listed a moment later:
// to ask which there are is a good part of what a short list costs.
func (a *API) listedChains(ctx context.Context, chain *uint64) ([]uint64, error) {
	if chain != nil {
		return []uint64{*chain}, nil
	}
	states, err := a.heights.read(ctx)
	return chainIDs(states), err
}

func (a *API) fetchList(ctx context.Context, q listQuery) ([]schema.Record, *schema.BlockPlace, error) {
	if q.page <= 1 {
		return a.opts.Store.ListBlocks(ctx, q.chains, q.filter, q.ascending, q.after, q.limit)
	}
	skip, ok := skipped(q.page, q.limit)
	if !ok {
		return nil, nil, nil
	}
	found, err := a.opts.Store.PageBlocks(ctx, q.chains[0], skip, q.limit+1)
	if len(found) <= q.limit { // one more was asked for, to know whether there is more
		return found, nil, err
	}
	found = found[:q.limit]
	last := found[q.limit-1]
	return found, &schema.BlockPlace{Number: last.Header.Number, Chain: last.Chain, ID: last.ID}, err
}

// skipped is how many rows lie before a page, and false if that is farther than any list goes.
func skipped(page uint64, limit int) (int, bool) {
	if page-1 > math.MaxInt32/uint64(limit) {
		return 0, false
	}
	return int(page-1) * limit, true
}

func (a *API) blocks(ctx context.Context, records []schema.Record) ([]Block, error) {
	keys := make([]schema.Key, len(records))
	for i, r := range records {
		keys[i] = r.Key
	}
	slices.Sort(keys)
	counts, err := a.opts.Store.TransactionCounts(ctx, slices.Compact(keys))
	if err != nil {
		return nil, err
	}
	out := make([]Block, len(records))
	for i, r := range records {
		out[i] = blockOf(r, counts[r.Key])
	}
	return out, nil
}

func formatUint(n uint64) string { return strconv.FormatUint(n, 10) }
