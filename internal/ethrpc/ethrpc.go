package ethrpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/jsonrpc"
	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// Store is what answers are made from. internal/store has it all.
type Store interface {
	// Chains tells where every stored chain stands.
	Chains(ctx context.Context) ([]schema.ChainState, error)
	// RecordsByKey returns the records of that key on the given chains.
	RecordsByKey(ctx context.Context, key schema.Key, chains []uint64) ([]schema.Record, error)
	// BranchKey returns the block of a height that is on its chain's branch; empty if there is none.
	BranchKey(ctx context.Context, chain, number uint64) (schema.Key, error)
	// PlacesOf returns a transaction in each block that holds it.
	PlacesOf(ctx context.Context, transaction schema.Hash) ([]schema.PlacedTransaction, error)
	// Branch passes on the blocks on a chain's branch between two heights, both included, in order.
	Branch(ctx context.Context, chain, from, to uint64, each func(schema.BranchHeader) error) error
	// Raws returns blocks as their nodes showed them, packed (schema.RawBlock); those of which nobody sent it are left out.
	Raws(ctx context.Context, chain uint64, keys []schema.Key) (map[schema.Key][]byte, error)
}

// Options configure a Service. Store is required.
type Options struct {
	Store   Store
	Version string                     // of the program, for web3_clientVersion; default "dev"
	Replica func() schema.ReplicaState // how the store stands towards what it follows; nil: it follows nothing

	Upstream        string        // URL of a gateway or node that is asked what cannot be answered here; empty: nobody
	UpstreamTimeout time.Duration // for one call to it; default 8 s
	UpstreamCalls   int           // to it at once, more are refused; default 64

	CacheBytes int64 // of opened blocks that are kept for who asks next; default 64 MiB
	MaxBatch   int   // calls in one request; default 100
	MaxAnswer  int64 // bytes of the answers to one request; default 32 MiB
	MaxLarge   int   // requests at once with answers above 1 MiB, further ones wait; default 8
	MaxRange   int   // blocks in the range of eth_getLogs; default 10,000
	MaxLogs    int   // logs in one answer; default 10,000

	Log        logrus.FieldLogger    // nil discards
	Registerer prometheus.Registerer // where to register metrics; nil: none
}

// Service answers JSON-RPC calls.
type Service struct {
	o        Options
	log      logrus.FieldLogger
	methods  map[string]method
	heads    *heads
	blocks   *blocks
	finals   *finals
	large    chan struct{} // an element for each request with a large answer; further ones wait
	scans    chan struct{} // an element for each long search under way; further ones wait
	upstream *upstream     // nil: nobody is asked
	metrics  *metrics
}

// New checks the options.
func New(o Options) (*Service, error) {
	if o.Store == nil {
		return nil, errors.New("ethrpc: no store")
	}
	if min(o.UpstreamTimeout, time.Duration(o.UpstreamCalls), time.Duration(o.CacheBytes), time.Duration(o.MaxBatch),
		time.Duration(o.MaxAnswer), time.Duration(o.MaxLarge), time.Duration(o.MaxRange), time.Duration(o.MaxLogs)) < 0 {
		return nil, errors.New("ethrpc: limits and times must not be negative")
	}
	o.Version = cmp.Or(o.Version, "dev")
	o.UpstreamTimeout = cmp.Or(o.UpstreamTimeout, 8*time.Second)
	o.UpstreamCalls = cmp.Or(o.UpstreamCalls, 64)
	o.CacheBytes = cmp.Or(o.CacheBytes, 64<<20)
	o.MaxBatch = cmp.Or(o.MaxBatch, 100)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 32<<20)
	o.MaxLarge = cmp.Or(o.MaxLarge, 8)
	o.MaxRange = cmp.Or(o.MaxRange, 10_000)
	o.MaxLogs = cmp.Or(o.MaxLogs, 10_000)
	o.Log = quiet.Log(o.Log)
	s := &Service{o: o, log: o.Log, methods: methods(), heads: &heads{store: o.Store}, finals: newFinals(), scans: make(chan struct{}, atOnce/2),
		large: make(chan struct{}, o.MaxLarge)}
	var err error
	if s.metrics, err = newMetrics(o.Registerer); err != nil {
		return nil, fmt.Errorf("ethrpc: register metrics: %w", err)
	}
	s.blocks = newBlocks(o.Store, o.CacheBytes, s.metrics)
	if o.Upstream != "" {
		if s.upstream, err = newUpstream(o); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Parse reads a request as jsonrpc.Parse does, within the service's limit on batches.
func (s *Service) Parse(text []byte) (jsonrpc.Request, *jsonrpc.Error) {
	return jsonrpc.Parse(text, s.o.MaxBatch)
}

// View is the store as one request sees it: every call of a batch means the same block by "latest".
type View struct {
	s       *Service
	chain   *schema.ChainState // nil if problem says why there is none
	problem *jsonrpc.Error
	budget  budget
}

// View looks where the chain stands that is named or, if none is, the only one. What keeps it from that is told to each
// call that needs a chain. The view must be closed.
func (s *Service) View(ctx context.Context, named *uint64) *View {
	v := &View{s: s}
	v.budget.most, v.budget.places = s.o.MaxAnswer, s.large
	states, err := s.heads.read(ctx)
	if err != nil {
		v.problem = s.explain(ctx, "View", err)
		return v
	}
	if v.chain, v.problem = pick(states, named); v.chain != nil {
		s.finals.saw(v.chain)
	}
	return v
}

// pick returns the chain that is named or, if none is, the only one.
func pick(states []schema.ChainState, named *uint64) (*schema.ChainState, *jsonrpc.Error) {
	var ids []uint64
	for i := range states {
		if named != nil && states[i].Chain == *named {
			return &states[i], nil
		}
		ids = append(ids, states[i].Chain)
	}
	switch {
	case named != nil:
		return nil, jsonrpc.Errorf(jsonrpc.CodeServer, "nothing of chain %d is stored", *named)
	case len(ids) == 0:
		return nil, jsonrpc.Errorf(jsonrpc.CodeServer, "no block is stored yet")
	case len(ids) > 1:
		return nil, jsonrpc.Errorf(jsonrpc.CodeServer, "several chains are stored, name one of %v as ?chain= in the URL", ids)
	}
	return &states[0], nil
}

// Chain returns where the view's chain stands, or why there is none.
func (v *View) Chain() (*schema.ChainState, *jsonrpc.Error) { return v.chain, v.problem }

// Answer answers one call with raw JSON: a result or, if that is not nil, the member "error".
func (v *View) Answer(ctx context.Context, c *jsonrpc.Call) (result, failure []byte) {
	defer func() {
		if p := recover(); p != nil { // others of the batch are answered, and the process lives on
			v.s.log.Errorf("panic: %v\n%s", p, debug.Stack())
			result, failure = nil, jsonrpc.Failure(jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error"))
		}
	}()
	if c.Bad != nil {
		return nil, jsonrpc.Failure(c.Bad)
	}
	m, known := v.s.methods[c.Method]
	var err error
	switch {
	case known:
		result, err = v.call(ctx, m, c)
	default:
		err = unknown(c.Method)
	}
	lacking := errors.Is(err, errNotKept) || errors.Is(err, errNoReceipts)
	if v.s.upstream != nil && (lacking || !known && stateful[c.Method]) {
		result, failure, err = v.pass(ctx, c)
	}
	fits := true
	if err == nil {
		fits, err = v.budget.spend(ctx, len(result)+len(failure))
	}
	if !fits && err == nil {
		err = jsonrpc.Errorf(jsonrpc.CodeTooLarge, "the answers to one request may come to %d bytes: ask for less at once",
			v.s.o.MaxAnswer)
	}
	if err != nil {
		failure = jsonrpc.Failure(v.s.explain(ctx, c.Method, err))
	}
	v.s.metrics.answered(c.Method, known, failure != nil)
	return result, failure
}

func (v *View) call(ctx context.Context, m method, c *jsonrpc.Call) ([]byte, error) {
	if m.chain && v.problem != nil {
		return nil, v.problem
	}
	params, err := split(c.Params, m.least, m.most)
	if err != nil {
		return nil, err
	}
	return m.answer(ctx, v, params)
}

// explain turns an error into one that may be shown: others than those made for it are logged here, and their text stays
// inside.
func (s *Service) explain(ctx context.Context, method string, err error) *jsonrpc.Error {
	var shown *jsonrpc.Error
	if errors.As(err, &shown) {
		return shown
	}
	log := s.log.WithError(err).WithField("method", jsonrpc.Clip(method))
	switch {
	case errors.Is(ctx.Err(), context.Canceled): // nobody reads this
		return jsonrpc.Errorf(jsonrpc.CodeServer, "the request was cancelled")
	case errors.Is(err, context.DeadlineExceeded):
		log.Warn("call not answered in time")
		return jsonrpc.Errorf(jsonrpc.CodeUnavailable, "not answered in time")
	}
	log.Error("call failed")
	return jsonrpc.Errorf(jsonrpc.CodeInternal, "internal error")
}
