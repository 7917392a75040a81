package ethrpc

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// atOnce is how many calls of one batch are under way at the same time.
const atOnce = 8

// freeAnswer is how many bytes of answers any request may hold. One that needs more waits for one of the places for large
// answers and keeps it until the answer is written, so that memory is bounded whatever the number of connections.
const freeAnswer = 1 << 20

// budget counts the bytes of answers that one request holds.
type budget struct {
	most   int64
	places chan struct{} // of the service: an element for each request with a large answer
	used   atomic.Int64

	mu    sync.Mutex // guards place
	place bool       // taken
}

// left is how many bytes there still may be.
func (b *budget) left() int64 { return max(b.most-b.used.Load(), 0) }

// spend counts n bytes more, and tells whether they are not too many. The error is that no place was had in time.
func (b *budget) spend(ctx context.Context, n int) (bool, error) {
	used := b.used.Add(int64(n))
	if used > b.most {
		return false, nil
	}
	if used <= freeAnswer {
		return true, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.place {
		return true, nil
	}
	select {
	case b.places <- struct{}{}:
		b.place = true
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// Close gives back what answers took. Call it once they are written; nothing more may be asked then.
func (v *View) Close() {
	if v.budget.place {
		<-v.budget.places
	}
}

type answered struct{ result, failure []byte }

func (a *answered) len() int { return len(a.result) + len(a.failure) }

// Reply answers a whole request, each call by answer, which must be safe to call from several goroutines; View.Answer is
// what to use unless some methods are the caller's own. It is nil where nothing is to be said, to notifications.
func Reply(
	ctx context.Context, req jsonrpc.Request, answer func(context.Context, *jsonrpc.Call) (result, failure []byte),
) []byte {
	all := make([]answered, len(req.Calls))
	each := func(i int) { all[i].result, all[i].failure = answer(ctx, &req.Calls[i]) }
	if len(all) == 1 {
		each(0)
	} else {
		spread(len(all), each)
	}
	size := 2
	for i := range all {
		size += all[i].len() + len(req.Calls[i].ID) + 64
	}
	body := make([]byte, 0, size)
	for i := range all {
		id := req.Calls[i].ID
		if id == nil {
			continue
		}
		if len(body) > 0 {
			body = append(body, ',')
		} else if req.Batch {
			body = append(body, '[')
		}
		body = jsonrpc.AppendAnswer(body, id, all[i].result, all[i].failure)
	}
	switch {
	case len(body) == 0:
		return nil
	case req.Batch:
		body = append(body, ']')
	}
	return body
}

// spread calls each with 0 to n-1, some at once.
func spread(n int, each func(i int)) {
	var (
		wg       sync.WaitGroup
		next     atomic.Int64
		panicked atomic.Pointer[string]
	)
	for range min(atOnce, n) {
		wg.Go(func() {
			defer func() { // whoever calls spread knows what to do about it
				if p := recover(); p != nil {
					text := fmt.Sprintf("%v\n%s", p, debug.Stack())
					panicked.Store(&text)
				}
			}()
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				each(int(i))
			}
		})
	}
	wg.Wait()
	if text := panicked.Load(); text != nil {
		panic(*text)
	}
}
