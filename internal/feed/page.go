package feed

import (
	"context"
	"errors"
)

// ErrOtherFeed reports a cursor of a feed that is no longer there: the database was replaced or set back.
var ErrOtherFeed = errors.New("the cursor is of a feed that is no longer there")

const (
	// pageRows is how many rows one page may look at for those that its filter lets through.
	pageRows = 2000
	// pageBatch is how many rows are read at once.
	pageBatch = 250
)

// Page is for readers that come and go: it returns up to limit events after a cursor, where to go on, which is never
// before the cursor, and where the feed ends. A cursor without an epoch is of whatever feed there is. There may be fewer
// than limit, even none, with more to come: the end is where next is at the end.
func Page(ctx context.Context, source Source, filter Filter, after Cursor, limit int) (
	events []*Event, next, end Cursor, err error,
) {
	last, err := source.FeedEnd(ctx)
	if err != nil {
		return nil, next, end, err
	}
	end = Cursor{Epoch: last.Epoch, Seq: last.Seq}
	if after.Epoch == "" {
		after.Epoch = end.Epoch
	}
	if last.Was != "" && after.Epoch == last.Was && after.Seq <= last.Since {
		after.Epoch = end.Epoch // nothing that this reader has seen was undone
	}
	if after.Epoch != end.Epoch || after.Seq > end.Seq {
		return nil, next, end, ErrOtherFeed
	}
	next = after
	f := &Feed{opts: Options{Source: source}}
	for examined := 0; examined < pageRows; examined += pageBatch {
		found, err := f.read(ctx, next, pageBatch, len(filter.Addresses) > 0)
		if err != nil {
			return nil, next, end, err
		}
		for _, e := range found {
			next = e.Cursor()
			if filter.match(e) {
				events = append(events, e)
			}
			if len(events) == limit {
				return events, next, end, nil
			}
		}
		if len(found) < pageBatch {
			break
		}
	}
	if next.Seq > end.Seq { // the feed has grown since its end was read
		end = next
	}
	return events, next, end, nil
}
