package statsapi

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"

	"github.com/go-chi/chi/v5"

	"github.com/firstseen/firstseen/schema"
)

// The routes of the event store that firstseen replaces, for clients that were written for it: its paths, its names and
// its errors, which are text. A deploy is a transaction, its account the sender, its cost the gas used, the proposer who
// is paid the fees, the era an epoch. They know nothing of chains, so where several are stored they tell of the one with
// the lowest id, unless ?chain= names another.

const (
	eventLimit    = 10     // rows of a page unless the request says otherwise
	eventMaxLimit = 20     // rows of a page at most
	eventMaxItems = 10_000 // of an account's transactions; counting more would cost more than anybody pages through
)

// What the event store answers where it has nothing.
const (
	noEventBlock  = "Block not found."
	noEventDeploy = "Deploy not found."
	badEventRoute = "Bad Request"
)

// eventBlock is a block as the event store shows it. The order of its members is the event store's.
type eventBlock struct {
	BlockHash  string   `json:"blockHash"`
	ParentHash string   `json:"parentHash"`
	Timestamp  string   `json:"timestamp"`
	EraID      uint64   `json:"eraId"`
	Proposer   *string  `json:"proposer"` // null when the header names nobody, or is not known to
	State      string   `json:"state"`
	Height     uint64   `json:"height"`
	Deploys    []string `json:"deploys"`
}

// eventDeploy is a transaction as the event store shows it. State is that of its block.
type eventDeploy struct {
	DeployHash   string  `json:"deployHash"`
	Account      string  `json:"account"`
	State        string  `json:"state"`
	Cost         *uint64 `json:"cost"` // null while no receipt tells
	ErrorMessage *string `json:"errorMessage"`
	BlockHash    string  `json:"blockHash"`
}

// eventPage is one page of either. Its members are those of PageBar, none of which is ever left out here.
type eventPage struct {
	Data      any        `json:"data"`
	PageCount uint64     `json:"pageCount"`
	ItemCount uint64     `json:"itemCount"`
	Pages     []PageLink `json:"pages"`
}

// routeEventStore mounts the routes. What is below them and not served is a bad request, as it always was there.
func (a *API) routeEventStore(r chi.Router) {
	r = r.With(openToAll)
	for pattern, answer := range map[string]http.HandlerFunc{
		"/blocks": a.eventBlocks, "/block/{hash}": a.eventBlock,
		"/deploy/{hash}": a.eventDeploy, "/accountDeploys/{account}": a.eventAccountDeploys,
	} {
		r.Get(pattern, a.orSocket(pattern, a.limit(answer).ServeHTTP))
		r.Options(pattern, preflight)
	}
	bad := func(w http.ResponseWriter, _ *http.Request) { writeEventError(w, http.StatusBadRequest, badEventRoute) }
	for _, root := range []string{"/block", "/deploy", "/accountDeploys"} {
		r.Get(root, bad)
		r.Get(root+"/*", bad)
	}
	r.Get("/blocks/*", bad)
}

// openToAll lets pages of any origin read what these routes answer, as the event store did: nothing of it depends on who
// asks through a browser.
func openToAll(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		next.ServeHTTP(w, r)
	})
}

func preflight(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization")
	w.WriteHeader(http.StatusNoContent)
}

func (a *API) eventBlock(w http.ResponseWriter, r *http.Request) {
	block, err := a.findEventBlock(r.Context(), chi.URLParam(r, "hash"), r.URL.Query().Get("chain"))
	a.writeEvent(w, r, block, block == nil, noEventBlock, err)
}

func (a *API) eventDeploy(w http.ResponseWriter, r *http.Request) {
	deploy, err := a.findEventDeploy(r.Context(), chi.URLParam(r, "hash"), r.URL.Query().Get("chain"))
	a.writeEvent(w, r, deploy, deploy == nil, noEventDeploy, err)
}

func (a *API) eventBlocks(w http.ResponseWriter, r *http.Request) {
	page, err := a.eventBlockPage(r.Context(), readEventList(r))
	a.writeEvent(w, r, page, false, "", err)
}

func (a *API) eventAccountDeploys(w http.ResponseWriter, r *http.Request) {
	page, err := a.eventDeployPage(r.Context(), chi.URLParam(r, "account"), readEventList(r))
	a.writeEvent(w, r, page, false, "", err)
}

func (a *API) writeEvent(w http.ResponseWriter, r *http.Request, body any, missing bool, text string, err error) {
	switch {
	case err != nil:
		writeError(w, a.fail(r.Context(), err))
	case missing:
		writeEventError(w, http.StatusNotFound, text)
	default:
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		out := json.NewEncoder(w)
		out.SetEscapeHTML(false) // links to other pages have an & in them
		_ = out.Encode(body)     // the client is gone if this fails
	}
}

func writeEventError(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", textType)
	w.WriteHeader(status)
	fmt.Fprint(w, text)
}

// findEventBlock returns nil if there is no such block.
func (a *API) findEventBlock(ctx context.Context, text, named string) (*eventBlock, error) {
	hash, err := schema.ParseHash(text)
	if err != nil {
		return nil, nil //nolint:nilerr // what is not a hash is not found either
	}
	chains, err := a.eventChains(ctx, named)
	if err != nil {
		return nil, err
	}
	found, err := a.opts.Store.RecordsByKey(ctx, hash.Key(), chains)
	if err != nil || len(found) == 0 {
		return nil, err
	}
	blocks, err := a.eventBlocksOf(ctx, found[:1])
	if err != nil {
		return nil, err
	}
	return &blocks[0], nil
}

// findEventDeploy returns nil if there is no such transaction. Of several blocks that hold it the one on its chain's
// branch counts; while there is none, the one stored first.
func (a *API) findEventDeploy(ctx context.Context, text, named string) (*eventDeploy, error) {
	hash, err := schema.ParseHash(text)
	if err != nil {
		return nil, nil //nolint:nilerr // what is not a hash is not found either
	}
	chain, all := eventChain(named)
	if chain == 0 && !all {
		return nil, nil
	}
	places, err := a.opts.Store.PlacesOf(ctx, hash)
	if err != nil {
		return nil, err
	}
	var best *schema.PlacedTransaction
	for i := range places {
		p := &places[i]
		switch {
		case !all && p.Chain != chain:
		case best == nil, p.Chain < best.Chain, p.Chain == best.Chain && p.BlockStatus.OnBranch() && !best.BlockStatus.OnBranch():
			best = p
		}
	}
	if best == nil {
		return nil, nil
	}
	deploy := eventDeployOf(*best)
	return &deploy, nil
}

// eventChains are those to look on for a hash, the lowest first.
func (a *API) eventChains(ctx context.Context, named string) ([]uint64, error) {
	chain, all := eventChain(named)
	switch {
	case !all && chain == 0:
		return nil, nil
	case !all:
		return []uint64{chain}, nil
	}
	states, err := a.opts.Store.Chains(ctx)
	return chainIDs(states), err
}

// eventChain reads ?chain=. Zero is no chain: what was named cannot be one.
func eventChain(named string) (chain uint64, all bool) {
	if named == "" {
		return 0, true
	}
	n, ok := decimal(named)
	if !ok || n > math.MaxInt64 { // what a signed column can hold
		return 0, false
	}
	return n, false
}

// eventBlocksOf turns records of blocks into the event store's form.
func (a *API) eventBlocksOf(ctx context.Context, records []schema.Record) ([]eventBlock, error) {
	keys := make([]schema.Key, len(records))
	for i, r := range records {
		keys[i] = r.Key
	}
	hashes, err := a.opts.Store.TransactionHashes(ctx, keys)
	if err != nil {
		return nil, err
	}
	out := make([]eventBlock, len(records))
	for i, r := range records {
		out[i] = eventBlockOf(r, hashes[r.Key])
	}
	return out, nil
}

// eventBlockOf is the event store's form of a block that is stored with these transactions.
func eventBlockOf(r schema.Record, transactions []schema.Hash) eventBlock {
	h := r.Header
	out := eventBlock{
		BlockHash: h.Hash.String(), ParentHash: h.Parent.String(), Timestamp: h.Time.UTC().Format("2006-01-02T15:04:05.000Z"),
		EraID: epochOf(r.Chain, *h), State: string(r.Status), Height: h.Number, Deploys: make([]string, len(transactions)),
	}
	if h.FeeRecipient != (schema.Address{}) {
		out.Proposer = addressText(&h.FeeRecipient)
	}
	for i, hash := range transactions {
		out.Deploys[i] = hash.String()
	}
	return out
}

// eventDeployOf is the event store's form of a transaction.
func eventDeployOf(t schema.PlacedTransaction) eventDeploy {
	out := eventDeploy{
		DeployHash: t.Hash.String(), Account: t.From.String(), State: string(t.BlockStatus), Cost: t.GasUsed,
		BlockHash: t.Block.Hash.String(),
	}
	if t.Status != nil && *t.Status == 0 {
		failed := "execution failed"
		out.ErrorMessage = &failed
	}
	return out
}

// epochSlots is how many slots an epoch has (Ethereum consensus specifications, SLOTS_PER_EPOCH).
const epochSlots = 32

// epochOf is the epoch of a block. On mainnet since the merge a block's time tells its slot, some of which stay empty;
// elsewhere a slot is not known, and each 32 heights are an epoch.
func epochOf(chain uint64, h schema.Header) uint64 {
	const (
		mainnet, merge = 1, 15_537_394
		beaconGenesis  = 1_606_824_023 // Unix seconds
		slotSeconds    = 12
	)
	if at := h.Time.Unix(); chain == mainnet && h.Number >= merge && at > beaconGenesis {
		return uint64(at-beaconGenesis) / slotSeconds / epochSlots
	}
	return h.Number / epochSlots
}
