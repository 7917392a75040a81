package devnet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// Options describe a Net. The zero value is a network of three healthy endpoints on free ports of 127.0.0.1.
type Options struct {
	Endpoints int      // default 3
	Listen    []string // addresses, one for each endpoint; default 127.0.0.1:0 for those not given
	Truth     string   // address of the endpoint without faults; default 127.0.0.1:0
	ChainID   uint64   // default 1337
	Seed      uint64   // same seed and clock, same blocks
	Transfers int      // plain transfers in each block, beside the contract's calls; default 3
	Safe      uint64   // how many blocks the safe block trails the head; default 8
	Finalized uint64   // and the finalized one; default 16. A reorg cannot reach below it

	Period time.Duration      // between two blocks of Run; default 1 s
	Now    func() time.Time   // default time.Now; block times follow it, at least a second apart
	Log    logrus.FieldLogger // nil discards
}

// Net is a chain in this process behind several JSON-RPC endpoints that misbehave on command. Its methods may be called
// from any goroutine.
type Net struct {
	opts      Options
	log       logrus.FieldLogger
	chain     *chain
	truth     *Endpoint
	endpoints []*Endpoint
	serving   sync.WaitGroup
}

// New starts the chain and its endpoints, which answer from now until Close. The chain holds its genesis block only;
// Mine or Run make more.
func New(opts Options) (*Net, error) {
	opts = opts.withDefaults()
	if len(opts.Listen) > opts.Endpoints {
		return nil, fmt.Errorf("devnet: %d addresses for %d endpoints", len(opts.Listen), opts.Endpoints)
	}
	c, err := newChain(opts.chain())
	if err != nil {
		return nil, err
	}
	n := &Net{opts: opts, log: opts.Log, chain: c}
	if err := n.listen(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

func (o Options) withDefaults() Options {
	o.Endpoints = cmp.Or(o.Endpoints, 3)
	o.Truth = cmp.Or(o.Truth, "127.0.0.1:0")
	o.ChainID = cmp.Or(o.ChainID, defaultChainID)
	o.Transfers = cmp.Or(o.Transfers, 3)
	o.Safe = cmp.Or(o.Safe, 8)
	o.Finalized = cmp.Or(o.Finalized, 16)
	o.Period = cmp.Or(o.Period, time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = quiet.Log(o.Log)
	return o
}

func (o Options) chain() chainOptions {
	return chainOptions{
		chainID: o.ChainID, seed: o.Seed, transfers: o.Transfers, safe: o.Safe, finalized: o.Finalized, now: o.Now,
	}
}

func (n *Net) listen() (err error) {
	if n.truth, err = n.serve(n.opts.Truth); err != nil {
		return err
	}
	for i := range n.opts.Endpoints {
		address := "127.0.0.1:0"
		if i < len(n.opts.Listen) {
			address = n.opts.Listen[i]
		}
		e, err := n.serve(address)
		if err != nil {
			return err
		}
		n.endpoints = append(n.endpoints, e)
	}
	return nil
}

func (n *Net) serve(address string) (*Endpoint, error) {
	e, err := newEndpoint(n.chain, address)
	if err != nil {
		return nil, err
	}
	n.serving.Go(func() {
		if err := e.server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
			n.log.WithError(err).Error("endpoint stopped")
		}
	})
	return e, nil
}

// Endpoints are the network's nodes, in the order of Options.Listen.
func (n *Net) Endpoints() []*Endpoint { return n.endpoints }

// URLs are the endpoints' URLs.
func (n *Net) URLs() []string {
	urls := make([]string, len(n.endpoints))
	for i, e := range n.endpoints {
		urls[i] = e.URL()
	}
	return urls
}

// Truth is an endpoint that no fault touches and that Endpoints does not list: the chain as it really is.
func (n *Net) Truth() *Endpoint { return n.truth }

// ChainID is the network's chain id.
func (n *Net) ChainID() uint64 { return n.chain.chainID }

// Head is the newest block of the chain.
func (n *Net) Head() schema.Point { return n.chain.tip() }

// Canonical lists the hashes of the chain by number, the genesis block first.
func (n *Net) Canonical() []schema.Hash { return n.chain.canonical() }

// Mine makes blocks, each seen by every healthy endpoint before the next one is begun. Blocks that come faster than
// one a second carry times ahead of the clock.
func (n *Net) Mine(ctx context.Context, blocks int) error { return n.chain.mine(ctx, blocks, nil) }

// Reorg replaces the newest blocks by others, one more than they were. Endpoints switch in one step: none shows a head
// in between. Below the finalized block it fails with ErrDepth.
func (n *Net) Reorg(ctx context.Context, depth uint64) error { return n.chain.reorg(ctx, depth, nil) }

// Split puts one endpoint on a branch of its own, as long as the chain's, that replaces the newest depth blocks. It
// stays there, its head frozen, until the next Set without a stall.
func (n *Net) Split(ctx context.Context, e *Endpoint, depth uint64) error {
	v, err := n.chain.split(ctx, depth)
	if err != nil {
		return err
	}
	e.freeze(v)
	return nil
}

// Run mines a block every Options.Period until ctx ends, which is no error.
func (n *Net) Run(ctx context.Context) error {
	ticker := time.NewTicker(n.opts.Period)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := n.Mine(ctx, 1); err != nil && ctx.Err() == nil {
				return err
			}
		}
	}
}

// Close stops the endpoints, cutting requests under way, and the chain.
func (n *Net) Close() error {
	var errs []error
	for _, e := range slices.Concat(n.endpoints, []*Endpoint{n.truth}) {
		if e != nil {
			errs = append(errs, e.server.Close())
		}
	}
	n.serving.Wait()
	return errors.Join(append(errs, n.chain.close())...)
}
