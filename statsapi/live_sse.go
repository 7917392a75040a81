package statsapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/firstseen/firstseen/internal/feed"
)

// serveStream answers /v1/stream with server-sent events (HTML Living Standard, section 9.2). An id comes with each, and
// a comment with the cursor while there is nothing to tell: a client that comes back says it as Last-Event-ID, which is
// stronger than the from of its URL.
func (l *live) serveStream(w http.ResponseWriter, r *http.Request, s *slot) {
	defer s.release()
	asked, err := wantedOf(r.URL.Query())
	if last := r.Header.Get("Last-Event-ID"); last != "" {
		asked.From = last
	}
	var (
		filter feed.Filter
		from   feed.Place
	)
	if err == nil {
		filter, err = asked.filter()
	}
	if err == nil {
		from, err = asked.place()
	}
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	if r.Method == http.MethodHead { // of a body without an end
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(l.ctx, cancel)
	defer stop()
	sub, err := l.opts.Feed.Subscribe(ctx, filter, from)
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "cannot subscribe now")
		return
	}
	defer sub.Close()
	l.stream(ctx, w, sub)
}

func (l *live) stream(ctx context.Context, w http.ResponseWriter, sub *feed.Subscription) {
	out := http.NewResponseController(w)
	_ = out.SetReadDeadline(time.Time{}) // the server's own would end the request after its time
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // or nginx would keep events to itself for a while
	alive := liveness{conn: out, ping: l.opts.Ping}
	write := func(text []byte) error {
		alive.renew(time.Now())
		if _, err := w.Write(text); err != nil { //nolint:gosec // no browser takes an event stream for a page
			return err
		}
		return out.Flush()
	}
	ctx, cancel := context.WithCancel(ctx)
	var pulse sync.WaitGroup
	pulse.Go(func() { beat(ctx, l.opts.Ping, sub.Poke) })
	defer pulse.Wait()
	defer cancel()
	if write(fmt.Appendf(nil, "retry: 1000\nid: %s\n: welcome\n\n", sub.Cursor())) != nil {
		return
	}
	err := streamWriter().pump(ctx, sub, write, l.delivered.WithLabelValues("stream"))
	var slow *feed.SlowError
	if errors.As(err, &slow) {
		_ = write(fmt.Appendf(nil, "id: %s\nevent: close\ndata: too slow\n\n", slow.Cursor))
	}
}

// streamWriter writes server-sent events, and a comment now and then that keeps proxies from closing the connection.
func streamWriter() writer {
	return writer{
		event:  func(_ context.Context, e *feed.Event) ([]byte, error) { return eventStream(e) },
		place:  func(at feed.Cursor) []byte { return fmt.Appendf(nil, "id: %s\n: still here\n\n", at) },
		always: true,
	}
}

// beat calls f until ctx ends.
func beat(ctx context.Context, every time.Duration, f func()) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f()
		}
	}
}
