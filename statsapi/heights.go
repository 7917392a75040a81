package statsapi

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

const (
	minHeightHeader = "X-Min-Height" // the height that the chain must have reached before the answer: decimal, or hex behind 0x
	heightHeader    = "X-Height"     // the height of the chain's head when it was asked for: decimal

	// heightEvery is how often chains are looked at while anybody waits.
	heightEvery = 50 * time.Millisecond
)

// awaitHeight holds a request back until a chain has the height that the client says it has seen elsewhere, so that a
// client never finds less here than it found before. A chain that does not get there in time is 503 with its height.
func (a *API) awaitHeight(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if text := r.Header.Get(minHeightHeader); text != "" {
			height, err := a.reached(r.Context(), text, chainParam(r.URL.Query().Get("chain")))
			if height != nil {
				w.Header().Set(heightHeader, formatUint(*height))
			}
			if err != nil {
				if height != nil {
					w.Header().Set("Retry-After", "1")
				}
				writeError(w, a.fail(r.Context(), err))
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// reached waits until the chain has the height, and returns what it has at the end.
func (a *API) reached(ctx context.Context, text string, named chainParam) (*uint64, error) {
	least, ok := parseHeight(text)
	if !ok {
		return nil, badHeader(minHeightHeader, text, "must be a height, in decimal or as hex behind 0x")
	}
	deadline := time.NewTimer(a.opts.HeightWait)
	defer deadline.Stop()
	tick := time.NewTicker(heightEvery)
	defer tick.Stop()
	for {
		states, err := a.heights.read(ctx)
		if err != nil {
			return nil, err
		}
		chain, err := pickChain(states, named, "at a height")
		if err != nil {
			return nil, err
		}
		if chain.Head.Number >= least {
			return &chain.Head.Number, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-deadline.C:
			return &chain.Head.Number, huma.Error503ServiceUnavailable(fmt.Sprintf(
				"chain %d is at height %d and not yet at %d", chain.Chain, chain.Head.Number, least))
		}
	}
}

// parseHeight reads what the gateway's header of the same name takes.
func parseHeight(s string) (uint64, bool) {
	if digits, isHex := strings.CutPrefix(s, "0x"); isHex {
		n, err := strconv.ParseUint(digits, 16, 63)
		return n, err == nil
	}
	n, ok := decimal(s)
	return n, ok && n <= math.MaxInt64
}

// heights looks at the chains for everybody who waits, so that many who wait ask the database no more than one.
type heights struct {
	store ChainReader

	mu     sync.Mutex // guards what follows, also while the store is asked
	states []schema.ChainState
	until  time.Time // of what was read; then it is read again
}

func (h *heights) read(ctx context.Context) ([]schema.ChainState, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if time.Now().Before(h.until) {
		return h.states, nil
	}
	states, err := h.store.Chains(ctx)
	if err != nil {
		return nil, err
	}
	h.states, h.until = states, time.Now().Add(heightEvery)
	return states, nil
}
