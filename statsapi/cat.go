package statsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/go-chi/chi/v5"

	"github.com/firstseen/firstseen/schema"
)

// The text pages of the original demo: what they show and how is kept for those who read them with scripts. A hash is
// a record's key, a bare payload's SHA-256 and a block's own hash alike, without 0x.

const (
	catHashes  = 100    // as many as the original shows
	catClients = 10_000 // far more than anybody reads
)

func (a *API) routeCat(r chi.Router) {
	r.Get("/_cat", catIndex)
	r.Get("/_cat/hashes", a.catPage(a.catHashes))
	r.Get("/_cat/hashes/{hash}", a.catHash)
	r.Get("/_cat/clients", a.catPage(a.catClients))
}

func catIndex(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", textType)
	fmt.Fprint(w, "=^.^=\n/_cat/hashes\n/_cat/hashes/{hash}\n/_cat/clients\n")
}

// catPage serves the text that page makes.
func (a *API) catPage(page func(ctx context.Context) (string, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		text, err := page(r.Context())
		if err != nil {
			writeError(w, a.fail(r.Context(), err))
			return
		}
		w.Header().Set("Content-Type", textType)
		fmt.Fprint(w, text)
	}
}

func (a *API) catHashes(ctx context.Context) (string, error) {
	keys, err := a.opts.Store.NewestKeys(ctx, catHashes)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-64s timestamp\n", "hash")
	for _, k := range keys {
		us := k.ReceivedAt.UnixMicro()
		fmt.Fprintf(&b, "%s %d.%04d\n", k.Key, us/1e6, us%1e6/100)
	}
	return b.String(), nil
}

func (a *API) catClients(ctx context.Context) (string, error) {
	clients, err := a.opts.Store.Clients(ctx, catClients)
	if err != nil {
		return "", err
	}
	width := len("client")
	for _, c := range clients {
		width = max(width, len(c.IP))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s count\n", width, "client")
	for _, c := range clients {
		fmt.Fprintf(&b, "%-*s %d\n", width, c.IP, c.Count)
	}
	return b.String(), nil
}

func (a *API) catHash(w http.ResponseWriter, r *http.Request) {
	payload, err := a.catPayload(r.Context(), chi.URLParam(r, "hash"))
	if errors.Is(err, schema.ErrPayloadPruned) {
		w.Header().Set("Content-Type", textType)
		w.WriteHeader(http.StatusGone)
		_, _ = io.WriteString(w, schema.ErrPayloadPruned.Error()+"\n")
		return
	}
	if err != nil {
		writeError(w, a.fail(r.Context(), err))
		return
	}
	w.Header().Set("Content-Type", textType)
	if payload == nil {
		w.WriteHeader(http.StatusNotFound)
		payload = []byte("Hash not found\n")
	}
	_, _ = w.Write(payload)
}

// catPayload returns nil if there is no such record. Of a hash on several chains, which original clients cannot tell
// apart, it takes the lowest chain.
func (a *API) catPayload(ctx context.Context, text string) ([]byte, error) {
	hash, err := schema.ParseHash(text)
	if err != nil {
		return nil, nil //nolint:nilerr // what is not a hash is not found either
	}
	states, err := a.opts.Store.Chains(ctx)
	if err != nil {
		return nil, err
	}
	found, err := a.opts.Store.RecordsByKey(ctx, hash.Key(), append([]uint64{schema.BareChain}, chainIDs(states)...))
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return a.opts.Store.Payload(ctx, found[0].ID)
}

func chainIDs(states []schema.ChainState) []uint64 {
	ids := make([]uint64, len(states))
	for i, s := range states {
		ids[i] = s.Chain
	}
	return ids
}
