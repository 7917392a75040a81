package statsapi

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/internal/feed"
)

// writer turns a subscription's events into bytes.
type writer struct {
	// event returns what an event is on the wire, nil for nothing. It is not changed, so it may be shared by all.
	event func(context.Context, *feed.Event) ([]byte, error)
	// place says where the reader is, when there has been nothing else to say for a while; nil says nothing.
	place func(feed.Cursor) []byte
	// always makes it say so even if the place is the same.
	always bool
}

// pump writes events until reading or writing fails. Those that wait are joined into one write.
func (w writer) pump(
	ctx context.Context, sub *feed.Subscription, write func([]byte) error, delivered prometheus.Counter,
) error {
	told := sub.Cursor()
	for {
		events, err := sub.Next(ctx)
		if err != nil {
			return err
		}
		if len(events) == 0 {
			if at := sub.Cursor(); w.place != nil && (w.always || at != told) {
				if err := write(w.place(at)); err != nil {
					return err
				}
				told = at
			}
			continue
		}
		if err := w.write(ctx, events, write); err != nil {
			return err
		}
		delivered.Add(float64(len(events)))
		told = events[len(events)-1].Cursor()
	}
}

// write sends some events: a single one as it is, several through a buffer.
func (w writer) write(ctx context.Context, events []*feed.Event, write func([]byte) error) error {
	if len(events) == 1 {
		text, err := w.event(ctx, events[0])
		if err != nil || text == nil {
			return err
		}
		return write(text)
	}
	chunk, _ := chunks.Get().(*[]byte)
	defer chunks.Put(chunk)
	buffer := (*chunk)[:0]
	for _, e := range events {
		text, err := w.event(ctx, e)
		if err != nil {
			return err
		}
		if len(buffer) > 0 && len(buffer)+len(text) > chunkBytes {
			if err := write(buffer); err != nil {
				return err
			}
			buffer = buffer[:0]
		}
		if len(text) > chunkBytes {
			if err := write(text); err != nil {
				return err
			}
			continue
		}
		buffer = append(buffer, text...)
	}
	if len(buffer) == 0 {
		return nil
	}
	return write(buffer)
}
