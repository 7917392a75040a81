// Package mock is an Ethereum node of a chain that is made up as it goes, for trying firstseen out without one: blocks
// every two seconds, transactions among a few accounts, now and then a block that another replaces. Its headers hash as
// real ones do, over transactions that are signed and receipts that belong to them; nothing else about it is real, least of
// all the execution of its transactions.
package mock

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
)

// Options configure a Node. The zero value of each field means its default.
type Options struct {
	Addr    string        // host:port to listen on; default 127.0.0.1 and a free port
	Period  time.Duration // between blocks; default 2 s
	History int           // blocks that are there from the start; default 64

	Now func() time.Time   // default time.Now
	Log logrus.FieldLogger // nil discards
}

// Node serves JSON-RPC over HTTP from a made-up chain.
type Node struct {
	opts     Options
	chain    *chain
	rpc      *rpc.Server
	listener net.Listener
	server   *http.Server
}

// New makes the chain's history and binds the address.
func New(ctx context.Context, o Options) (*Node, error) {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	if o.Period == 0 {
		o.Period = 2 * time.Second
	}
	if o.History == 0 {
		o.History = 64
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Period < 0 || o.History < 0 {
		return nil, errors.New("mock: period and history must not be negative")
	}
	at := o.Now().Add(-time.Duration(o.History) * o.Period)
	made, err := newChain(at)
	if err != nil {
		return nil, err
	}
	for range o.History {
		at = at.Add(o.Period)
		if err := made.step(at); err != nil {
			return nil, err
		}
	}
	n := &Node{opts: o, chain: made, rpc: rpc.NewServer()}
	if err := errors.Join(n.rpc.RegisterName("eth", &eth{made}), n.rpc.RegisterName("net", &network{})); err != nil {
		return nil, fmt.Errorf("mock: %w", err)
	}
	var lc net.ListenConfig
	if n.listener, err = lc.Listen(ctx, "tcp", o.Addr); err != nil {
		return nil, fmt.Errorf("mock: listen: %w", err)
	}
	n.server = &http.Server{Handler: n.rpc, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
	quiet.Server(n.server, quiet.Log(o.Log))
	return n, nil
}

// Addr returns the address that is bound.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Run serves, and makes a block each period, until ctx ends.
func (n *Node) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- n.server.Serve(n.listener) }()
	tick := time.NewTicker(n.opts.Period)
	defer tick.Stop()
	err := n.grow(ctx, tick.C)
	n.rpc.Stop()
	_ = n.server.Close()
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, fmt.Errorf("mock: serve: %w", serveErr))
	}
	return err
}

func (n *Node) grow(ctx context.Context, tick <-chan time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
			if err := n.chain.step(n.opts.Now()); err != nil {
				return err
			}
		}
	}
}

// eth is the part of the eth namespace that observers use. Its methods are exported for package rpc.
type eth struct{ chain *chain }

// ChainId is spelled so because package rpc makes eth_chainId of it.
func (e *eth) ChainId() hexutil.Uint64 { return chainID }

func (e *eth) BlockNumber() hexutil.Uint64 { return hexutil.Uint64(e.chain.head().number) }

func (e *eth) Syncing() bool { return false }

func (e *eth) GetBlockByNumber(number rpc.BlockNumber, full bool) map[string]any {
	return shown(e.byNumber(number), full)
}

func (e *eth) GetBlockByHash(hash common.Hash, full bool) map[string]any {
	return shown(e.chain.find(hash), full)
}

func (e *eth) GetBlockReceipts(id rpc.BlockNumberOrHash) []map[string]any {
	var b *block
	if hash, ok := id.Hash(); ok {
		b = e.chain.find(hash)
	} else if number, ok := id.Number(); ok {
		b = e.byNumber(number)
	}
	switch {
	case b == nil:
		return nil
	case b.receipts == nil:
		return []map[string]any{}
	}
	return b.receipts
}

func (e *eth) byNumber(number rpc.BlockNumber) *block {
	switch number {
	case rpc.LatestBlockNumber, rpc.PendingBlockNumber:
		return e.chain.head()
	case rpc.SafeBlockNumber:
		return e.chain.behind(safeLag)
	case rpc.FinalizedBlockNumber:
		return e.chain.behind(finalLag)
	case rpc.EarliestBlockNumber:
		return e.chain.behind(keep)
	}
	return e.chain.at(uint64(number))
}

// shown is a block's JSON, null for none.
func shown(b *block, full bool) map[string]any {
	switch {
	case b == nil:
		return nil
	case full:
		return b.members
	}
	out := maps.Clone(b.members)
	out["transactions"] = append([]common.Hash{}, b.hashes...)
	return out
}

// network is the net namespace.
type network struct{}

func (*network) PeerCount() hexutil.Uint64 { return 1 }

func (*network) Version() string { return fmt.Sprint(chainID) }
