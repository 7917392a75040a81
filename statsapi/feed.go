package statsapi

import (
	"context"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/internal/feed"
)

// FeedPage is a part of the feed, the log of all changes of state.
type FeedPage struct {
	Data       []Event `json:"data" nullable:"false" doc:"In the order of seq. May be short, or empty, with more to come."`
	Gaps       []Gap   `json:"gaps" nullable:"false" doc:"Parts between the events that can no longer be had."`
	NextCursor string  `json:"next_cursor" doc:"Pass it as cursor to go on, also at the end: later events follow on it."`
	End        string  `json:"end_cursor" doc:"Where the feed ends: there next_cursor is the same."`
}

type feedInput struct {
	Cursor  string      `query:"cursor" doc:"Go on after an earlier answer, or after an event's cursor or seq. Default: from the beginning."`
	Limit   limitParam  `query:"limit" doc:"Events to answer; more than 100 gives 100."`
	Chain   chainParam  `query:"chain" doc:"Only of these chains; several with commas."`
	Kind    string      `query:"kind" doc:"Only of these kinds, of block, status, bare, gap and alarm; several with commas."`
	Status  statusParam `query:"status" doc:"Only of blocks that got this status; several with commas."`
	Address string      `query:"address" doc:"Only of blocks whose transactions name this account; several with commas."`

	wanted wanted
	err    error
	link   func(next string) string
}

// Resolve implements huma.Resolver: conditions are read as the live routes read them.
func (in *feedInput) Resolve(ctx huma.Context) []error {
	u := ctx.URL()
	in.wanted, in.err = wantedOf(u.Query())
	in.link = func(next string) string { return links(u, &next, 0, nil) }
	return nil
}

type feedOutput struct {
	Link string `header:"Link"`
	Body FeedPage
}

func (a *API) routeFeed() {
	get(a, "/v1/feed", "getFeed", "Every change of state, in order", a.getFeed, http.StatusGone)
}

func (a *API) getFeed(ctx context.Context, in *feedInput) (*feedOutput, error) {
	if in.err != nil {
		return nil, in.err
	}
	in.wanted.Delivery = ""
	filter, err := in.wanted.filter()
	if err != nil {
		return nil, err
	}
	limit, err := in.Limit.read()
	if err != nil {
		return nil, err
	}
	after, err := feedCursor(in.Cursor)
	if err != nil {
		return nil, err
	}
	events, next, end, err := feed.Page(ctx, a.opts.Store, filter, after, limit)
	if errors.Is(err, feed.ErrOtherFeed) {
		return nil, huma.Error410Gone("the cursor is of a feed that is no longer there, or not there yet: begin without one")
	}
	if err != nil {
		return nil, err
	}
	out := &feedOutput{Link: in.link(next.String()), Body: FeedPage{
		Data: []Event{}, Gaps: []Gap{}, NextCursor: next.String(), End: end.String(),
	}}
	for _, e := range events {
		if e.Missing != nil {
			out.Body.Gaps = append(out.Body.Gaps, gapOf(e))
			continue
		}
		out.Body.Data = append(out.Body.Data, eventOf(e))
	}
	return out, nil
}

// feedCursor reads a cursor, or the bare seq of an event.
func feedCursor(s string) (feed.Cursor, error) {
	if s == "" {
		return feed.Cursor{}, nil
	}
	if seq, ok := decimal(s); ok {
		return feed.Cursor{Seq: min(seq, 1<<63-1)}, nil
	}
	at, err := feed.ParseCursor(s)
	if err != nil {
		return at, badParameter("cursor", s, "must be one that the feed gave, or a seq")
	}
	return at, nil
}
