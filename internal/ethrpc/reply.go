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

// budget is how many bytes of answers a request may still hold.
type budget struct{ left atomic.Int64 }

func (b *budget) spend(n int) bool { return b.left.Add(-int64(n)) >= 0 }

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
