package feed

import (
	"context"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// heldUp is a table whose rows come a while after they were read.
type heldUp struct {
	*table
	found, goOn chan struct{} // an element of each for every read that finds rows
}

func (h *heldUp) Feed(ctx context.Context, after uint64, limit int) ([]schema.FeedEntry, error) {
	rows, err := h.table.Feed(ctx, after, limit)
	if len(rows) > 0 {
		h.found <- struct{}{}
		<-h.goOn
	}
	return rows, err
}

func TestACursorFromWhoIsAheadGoesOnWhereTheFeedWasEmpty(t *testing.T) {
	t.Parallel()
	rows := &heldUp{table: newTable(), found: make(chan struct{}), goOn: make(chan struct{})}
	f := running(t, Options{Source: rows, Poll: 5 * time.Millisecond})
	eventually(t, "started", func() bool { return f.Ready(t.Context()) == nil })
	rows.add(blocks(3)...)
	<-rows.found // another process may have handed them out already
	s := subscribe(t, f, Filter{}, Place{Cursor: Cursor{Epoch: "e0", Seq: 2}})
	stranger := subscribe(t, f, Filter{}, Place{Cursor: Cursor{Epoch: "e1", Seq: 2}})
	rows.goOn <- struct{}{}
	if got := take(t, s, 1); got != "3" {
		t.Errorf("got %s", got)
	}
	if got := take(t, stranger, 4); got != "[0-0] 1 2 3" {
		t.Errorf("with a cursor of another feed: %s", got)
	}
}
