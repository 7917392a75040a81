package devnet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ethereum/go-ethereum/beacon/engine"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/schema"
)

const (
	genesisFile = "genesis.json"
	secretFile  = "jwt.hex"

	// deliveryTimeout bounds one block's way to one node.
	deliveryTimeout = 20 * time.Second
)

// GethOptions describe a network of geth processes. Zero values mean what they mean in Options.
type GethOptions struct {
	Path      string // the geth binary; required
	Nodes     int    // default 2
	ChainID   uint64
	Seed      uint64
	Transfers int
	Safe      uint64
	Finalized uint64
	Now       func() time.Time
	Log       logrus.FieldLogger
}

// Geths is a network of peered geth processes whose chain is made here: blocks are built by a node in this process and
// handed to every geth through the Engine API, as a beacon client would (execution-apis, Prague: engine_newPayloadV4,
// engine_forkchoiceUpdatedV3). Its methods may be called from any goroutine.
type Geths struct {
	chain *chain
	dir   string
	nodes []*Geth
}

// StartGeths starts the processes, at the genesis block and peered with each other; ctx limits the start only. Close
// ends them and removes their files.
func StartGeths(ctx context.Context, opts GethOptions) (*Geths, error) {
	opts.Nodes = cmp.Or(opts.Nodes, 2)
	o := Options{
		ChainID: opts.ChainID, Seed: opts.Seed, Transfers: opts.Transfers,
		Safe: opts.Safe, Finalized: opts.Finalized, Now: opts.Now, Log: opts.Log,
	}.withDefaults()
	c, err := newChain(o.chain())
	if err != nil {
		return nil, err
	}
	g := &Geths{chain: c}
	if err := g.start(ctx, opts.Path, opts.Nodes, o.Log); err != nil {
		return nil, errors.Join(err, g.Close())
	}
	return g, nil
}

func (g *Geths) start(ctx context.Context, path string, nodes int, log logrus.FieldLogger) (err error) {
	if g.dir, err = os.MkdirTemp("", "firstseen-geth"); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	secret, err := g.writeFiles()
	if err != nil {
		return err
	}
	for i := range nodes {
		one, err := launch(ctx, path, filepath.Join(g.dir, fmt.Sprintf("geth%d", i+1)), secret, g.chain, log)
		if err != nil {
			return err
		}
		g.nodes = append(g.nodes, one)
		for _, other := range g.nodes[:i] {
			if err := one.peer(ctx, other); err != nil {
				return err
			}
		}
	}
	return nil
}

func (g *Geths) writeFiles() (secret [32]byte, err error) {
	genesis, err := json.Marshal(g.chain.genesis)
	if err != nil {
		return secret, fmt.Errorf("write genesis: %w", err)
	}
	rand.Read(secret[:])
	return secret, errors.Join(
		os.WriteFile(filepath.Join(g.dir, genesisFile), genesis, 0o600),
		os.WriteFile(filepath.Join(g.dir, secretFile), []byte(hex.EncodeToString(secret[:])), 0o600),
	)
}

// Nodes are the network's processes.
func (g *Geths) Nodes() []*Geth { return g.nodes }

// Restart kills a node's process, also a paused one, and starts another at its addresses with new files, since a killed
// geth may reject what comes after the last state that it wrote. It fetches the chain from its peers once it is told of
// a new block. Until Restart returns the node must not be used otherwise.
func (g *Geths) Restart(ctx context.Context, node int) error {
	one := g.nodes[node]
	if err := one.Kill(); err != nil {
		return err
	}
	one.disconnect()
	if err := os.RemoveAll(one.dir); err != nil {
		return fmt.Errorf("restart %s: %w", one.name, err)
	}
	if err := one.init(ctx); err != nil {
		return err
	}
	if err := one.spawn(ctx); err != nil {
		return fmt.Errorf("restart %s: %w", one.name, err)
	}
	for i, other := range g.nodes {
		if i != node && other.driven() {
			if err := one.peer(ctx, other); err != nil {
				return err
			}
		}
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.out = false
	return nil
}

// URLs are the nodes' HTTP URLs.
func (g *Geths) URLs() []string {
	urls := make([]string, len(g.nodes))
	for i, one := range g.nodes {
		urls[i] = one.URL()
	}
	return urls
}

// Head is the newest block that the nodes were given.
func (g *Geths) Head() schema.Point { return g.chain.tip() }

// Canonical lists the hashes of the chain by number, the genesis block first.
func (g *Geths) Canonical() []schema.Hash { return g.chain.canonical() }

// Mine makes blocks and hands each to every node that is neither paused nor killed. It returns when those nodes have
// the block as their head, or have begun to fetch what they lack from their peers.
func (g *Geths) Mine(ctx context.Context, blocks int) error {
	return g.chain.mine(ctx, blocks, g.deliver)
}

// Reorg replaces the newest blocks by others, one more than they were, in one fork choice: no node's head dips in
// between. Below the finalized block it fails with ErrDepth.
func (g *Geths) Reorg(ctx context.Context, depth uint64) error {
	return g.chain.reorg(ctx, depth, g.deliver)
}

// Close kills the processes and removes their files.
func (g *Geths) Close() error {
	var errs []error
	for _, one := range g.nodes {
		errs = append(errs, one.close())
	}
	return errors.Join(append(errs, g.chain.close(), os.RemoveAll(g.dir))...)
}

func (g *Geths) deliver(ctx context.Context, grown []sealed) error {
	v := g.chain.joined(grown)
	choice := engine.ForkchoiceStateV1{
		HeadBlockHash:      v.at(v.head()),
		SafeBlockHash:      v.at(v.safe()),
		FinalizedBlockHash: v.at(v.finalized()),
	}
	ctx, cancel := context.WithTimeout(ctx, deliveryTimeout)
	defer cancel()
	var all errgroup.Group
	for _, one := range g.nodes {
		if one.driven() {
			all.Go(func() error { return one.take(ctx, grown, choice) })
		}
	}
	return all.Wait()
}

// take gives the node blocks and then the branch to follow. A node that lacks a parent answers SYNCING and looks for
// it at its peers, which is no error.
func (g *Geth) take(ctx context.Context, grown []sealed, choice engine.ForkchoiceStateV1) error {
	for _, s := range grown {
		var status engine.PayloadStatusV1
		requests := make([]hexutil.Bytes, len(s.payload.Requests))
		for i, request := range s.payload.Requests {
			requests[i] = request
		}
		err := g.engine.CallContext(ctx, &status, "engine_newPayloadV4",
			s.payload.ExecutionPayload, []common.Hash{}, s.block.BeaconRoot(), requests)
		if err := g.accepted("block", status, err); err != nil {
			return err
		}
	}
	var answer engine.ForkChoiceResponse
	err := g.engine.CallContext(ctx, &answer, "engine_forkchoiceUpdatedV3", choice, nil)
	return g.accepted("fork choice", answer.PayloadStatus, err)
}

func (g *Geth) accepted(what string, status engine.PayloadStatusV1, err error) error {
	if !g.driven() {
		return nil // paused or killed meanwhile
	}
	if err == nil && status.Status == engine.INVALID {
		err = errors.New("invalid")
		if status.ValidationError != nil {
			err = errors.New(*status.ValidationError)
		}
	}
	if err != nil {
		return fmt.Errorf("give %s a %s: %w", g.name, what, err)
	}
	return nil
}
