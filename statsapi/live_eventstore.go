package statsapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"

	"github.com/go-chi/chi/v5"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// The event store's WebSocket paths are those of its pages. They speak only: what the page of the same path would show
// of a block or deploy, each time that changes. Blocks and an account's deploys come once each, when their block joins the
// chain's branch, and again if it does so again.

// orSocket serves the live form of a page to who asks for WebSocket there.
func (a *API) orSocket(pattern string, page http.HandlerFunc) http.HandlerFunc {
	if a.live == nil {
		return page
	}
	socket := a.live.guard("eventstore", func(w http.ResponseWriter, r *http.Request, s *slot) {
		a.live.serveEventStore(w, r, s, pattern)
	})
	return func(w http.ResponseWriter, r *http.Request) {
		if upgrades(r) {
			socket(w, r)
			return
		}
		page(w, r)
	}
}

func (l *live) serveEventStore(w http.ResponseWriter, r *http.Request, s *slot, pattern string) {
	named := r.URL.Query().Get("chain")
	chain, _, err := l.api.eventListChain(r.Context(), named)
	if err != nil {
		s.release()
		writeError(w, l.api.fail(r.Context(), err))
		return
	}
	filter := feed.Filter{Kinds: []schema.FeedKind{schema.FeedBlock, schema.FeedStatus}}
	if chain != 0 {
		filter.Chains = []uint64{chain}
	}
	var event func(context.Context, *feed.Event) ([]byte, error)
	hash, hashErr := schema.ParseHash(chi.URLParam(r, "hash"))
	account, accountErr := schema.ParseAddress(chi.URLParam(r, "account"))
	switch {
	case named != "" && chain == 0: // no chain can be called so, and without a filter all would be told
		s.release()
		writeEventError(w, http.StatusBadRequest, badEventRoute)
		return
	case pattern == "/blocks":
		event = l.storedApplied
	case pattern == "/block/{hash}" && hashErr == nil:
		event = l.storedOf(hash.Key())
	case pattern == "/deploy/{hash}" && hashErr == nil:
		event = l.storedDeploy(hash)
	case pattern == "/accountDeploys/{account}" && accountErr == nil:
		filter.Addresses = []schema.Address{account}
		event = l.storedDeploys(account)
	default:
		s.release()
		writeEventError(w, http.StatusBadRequest, badEventRoute)
		return
	}
	c := l.open(w, r, s)
	if c == nil {
		return
	}
	c.start(func() {
		nothing := func(*feed.Subscription) error { return nil }
		if err := c.follow("", filter, feed.Place{Latest: true}, nothing, writer{event: event}); err != nil {
			c.tear()
		}
	}, func([]byte) {})
}

// formHashes is what a block's transactions are called, one after the other.
const formHashes = formStored + 1

// stored is a block as the event store shows it, made once for all.
func (l *live) stored(ctx context.Context, e *feed.Event) ([]byte, error) {
	if e.Record == nil || e.Record.Header == nil {
		return nil, nil
	}
	return e.Form(formStored, func(e *feed.Event) ([]byte, error) {
		ctx, cancel := forAll(ctx)
		defer cancel()
		record := *e.Record
		record.Status = e.Status
		blocks, err := l.api.eventBlocksOf(ctx, []schema.Record{record})
		if err != nil {
			return nil, err
		}
		return messageOf(blocks[0])
	})
}

// messageOf is a value as a WebSocket message.
func messageOf(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return append(appendTextHeader(make([]byte, 0, len(text)+10), len(text)), text...), nil
}

func (l *live) storedApplied(ctx context.Context, e *feed.Event) ([]byte, error) {
	if e.Effect != feed.Apply {
		return nil, nil
	}
	return l.stored(ctx, e)
}

func (l *live) storedOf(key schema.Key) func(context.Context, *feed.Event) ([]byte, error) {
	return func(ctx context.Context, e *feed.Event) ([]byte, error) {
		if e.Key != key {
			return nil, nil
		}
		return l.stored(ctx, e)
	}
}

// storedDeploy tells of a transaction whenever a block that holds it is new or changes its status.
func (l *live) storedDeploy(hash schema.Hash) func(context.Context, *feed.Event) ([]byte, error) {
	return func(ctx context.Context, e *feed.Event) ([]byte, error) {
		if e.Key == "" {
			return nil, nil
		}
		all, err := e.Form(formHashes, func(e *feed.Event) ([]byte, error) {
			ctx, cancel := forAll(ctx)
			defer cancel()
			found, err := l.api.opts.Store.TransactionHashes(ctx, []schema.Key{e.Key})
			out := make([]byte, 0, 32*len(found[e.Key]))
			for _, h := range found[e.Key] {
				out = append(out, h[:]...)
			}
			return out, err
		})
		if err != nil {
			return nil, err
		}
		for h := range slices.Chunk(all, len(hash)) {
			if schema.Hash(h) == hash {
				return l.deploys(ctx, e, func(t schema.Transaction) bool { return t.Hash == hash })
			}
		}
		return nil, nil
	}
}

func (l *live) storedDeploys(account schema.Address) func(context.Context, *feed.Event) ([]byte, error) {
	return func(ctx context.Context, e *feed.Event) ([]byte, error) {
		if e.Effect != feed.Apply {
			return nil, nil
		}
		return l.deploys(ctx, e, func(t schema.Transaction) bool { return t.From == account })
	}
}

// deploys returns those transactions of a block that are wanted, each as a message.
func (l *live) deploys(ctx context.Context, e *feed.Event, wanted func(schema.Transaction) bool) ([]byte, error) {
	if e.Record == nil || e.Record.Header == nil {
		return nil, nil
	}
	transactions, err := l.api.opts.Store.TransactionsOf(ctx, e.Key)
	if err != nil {
		return nil, err
	}
	var out []byte
	for _, t := range transactions {
		if !wanted(t) {
			continue
		}
		message, err := messageOf(eventDeployOf(schema.PlacedTransaction{
			Transaction: t, Chain: e.Chain, BlockStatus: e.Status,
			Block: schema.Point{Number: e.Record.Header.Number, Hash: e.Record.Header.Hash},
		}))
		if err != nil {
			return nil, err
		}
		out = append(out, message...)
	}
	return out, nil
}
