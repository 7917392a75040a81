package statsapi

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// loud is a feed's table of alarms that are so large that what a connection's kernel takes in holds few of them.
type loud struct {
	feed.Source
	note string
	end  atomic.Uint64
	told atomic.Uint64 // the last seq after which nothing was found
}

func (l *loud) FeedEnd(context.Context) (schema.FeedEnd, error) {
	return schema.FeedEnd{Epoch: "e0", Seq: l.end.Load()}, nil
}

func (l *loud) Feed(_ context.Context, after uint64, _ int) ([]schema.FeedEntry, error) {
	const step = 8 // so that a reader's batches stay small, too
	end := l.end.Load()
	if after >= end {
		l.told.Store(end)
		return nil, nil
	}
	var rows []schema.FeedEntry
	for seq := after + 1; seq <= min(after+step, end); seq++ {
		rows = append(rows, schema.FeedEntry{FeedEvent: schema.FeedEvent{
			Seq: seq, Kind: schema.FeedAlarm, Chain: 5, Note: l.note, At: epoch,
		}})
	}
	return rows, nil
}

func TestASlowReaderHearsWhyItIsClosedAndWhereToComeBack(t *testing.T) {
	t.Parallel()
	const total = 1000 // of 16 KiB each, four times what Linux keeps for a connection unless told otherwise
	source := &loud{note: strings.Repeat("x", 16<<10)}
	source.end.Store(1)
	tail, err := feed.New(feed.Options{Source: source, Poll: 10 * time.Millisecond, Recent: 16, Buffer: 16})
	if err != nil {
		t.Fatal(err)
	}
	background(t, tail.Run)
	// The ping's time is also a write's, which must not run out before the reader begins to read.
	s := serve(t, Options{Store: newWorld(t).store, Live: LiveOptions{Feed: tail, Ping: time.Minute}})
	slow := s.listen("/v1/ws?from=earliest")
	slow.want("subscribed", "1 alarm")
	source.end.Store(total)
	eventually(t, "all is published", func() bool { return source.told.Load() == total })
	heard, end := uint64(1), error(nil)
	for end == nil {
		var m message
		if m, end = slow.next(); end == nil && m.Type == "event" {
			if m.Seq != heard+1 {
				t.Fatalf("%d after %d", m.Seq, heard)
			}
			heard = m.Seq
		}
	}
	var closed websocket.CloseError
	at := feed.Cursor{Epoch: "e0", Seq: heard}.String()
	if !asClose(end, &closed) || closed.Code != closeSlow || closed.Reason != "too slow, come back with "+at {
		t.Fatalf("after %d events closed with %v", heard, end)
	}
	again := s.listen("/v1/ws?from=" + at)
	again.want("subscribed", fmt.Sprint(heard+1, " alarm"))
}
