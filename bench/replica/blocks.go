package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/templates"
)

const (
	benchChain = 1337
	observer   = "observer-1"
	accounts   = 1000
	safeLag    = 32 // heights that safe and finalized blocks are below the head, as on Ethereum
	finalLag   = 64
)

// generator makes consecutive blocks of one chain, of what a block of Ethereum has: random roots and blooms, which do not
// compress, transactions between a thousand accounts, and a payload by the default template. The same number of blocks
// is always the same blocks.
type generator struct {
	random       *rand.Rand
	source       *rand.ChaCha8
	template     *templates.Template
	transactions int
	head         schema.Header
	points       []schema.Point // by height
}

func newGenerator(transactions int) (*generator, error) {
	source := rand.NewChaCha8([32]byte{7})
	template, err := templates.Default("block.html")
	g := &generator{random: rand.New(source), source: source, template: template, transactions: transactions}
	return g, err
}

// next makes the next block.
func (g *generator) next(ctx context.Context) (*schema.Offer, error) {
	number := uint64(len(g.points))
	header := &types.Header{
		ParentHash: [32]byte(g.head.Hash), UncleHash: types.EmptyUncleHash, Number: new(big.Int).SetUint64(number),
		Difficulty: new(big.Int), GasLimit: 30_000_000, GasUsed: 15_000_000, Time: 1_700_000_000 + 12*number,
		Extra: []byte("made up"), BaseFee: big.NewInt(g.random.Int64N(1e11)), WithdrawalsHash: &types.EmptyWithdrawalsHash,
	}
	for _, field := range [][]byte{header.Coinbase[:], header.Root[:], header.TxHash[:], header.ReceiptHash[:],
		header.Bloom[:], header.MixDigest[:]} {
		_, _ = g.source.Read(field) // never fails
	}
	raw, err := rlp.EncodeToBytes(header)
	if err != nil {
		return nil, fmt.Errorf("make block up: %w", err)
	}
	if g.head, err = chain.DecodeHeader(raw); err != nil {
		return nil, fmt.Errorf("make block up: %w", err)
	}
	g.points = append(g.points, schema.Point{Number: number, Hash: g.head.Hash})
	return g.offer(ctx, header, raw)
}

func (g *generator) offer(ctx context.Context, header *types.Header, raw []byte) (*schema.Offer, error) {
	block := schema.Block{
		Chain: benchChain, Header: g.head, GasLimit: header.GasLimit, GasUsed: header.GasUsed, BaseFee: header.BaseFee.String(),
		ExtraData: header.Extra, StateRoot: schema.Hash(header.Root),
	}
	if g.transactions > 0 {
		block.Transactions = make([]schema.Transaction, g.random.IntN(2*g.transactions+1))
	}
	for i := range block.Transactions {
		block.Transactions[i] = g.transaction(uint32(i))
	}
	payload, err := g.template.Render(ctx, block)
	if err != nil {
		return nil, fmt.Errorf("make block up: %w", err)
	}
	of := g.head
	return &schema.Offer{
		Chain: benchChain, Key: of.Hash.Key(), Header: &of, HeaderRLP: raw, ContentType: g.template.ContentType(),
		Payload: payload, Observer: observer, Node: "geth-1", Origin: schema.OriginHead, Server: "server-1",
		Remote: "192.0.2.1", ObservedAt: of.Time.Add(300 * time.Millisecond), ReceivedAt: time.Now(),
		Transactions: block.Transactions,
	}, nil
}

func (g *generator) transaction(index uint32) schema.Transaction {
	gas, status, to := uint64(21_000), uint8(1), g.account()
	t := schema.Transaction{
		Index: index, From: g.account(), To: &to, Value: strconv.FormatUint(g.random.Uint64(), 10), GasUsed: &gas, Status: &status,
	}
	_, _ = g.source.Read(t.Hash[:])
	return t
}

func (g *generator) account() (a schema.Address) {
	binary.BigEndian.PutUint64(a[:], 1+uint64(g.random.IntN(accounts)))
	return a
}

// report is what an observer tells of the chain once these blocks are there.
func (g *generator) report() schema.Report {
	head := schema.Head{Chain: benchChain, Node: "geth-1", Latest: g.points[len(g.points)-1]}
	if n := len(g.points) - 1 - safeLag; n >= 0 {
		head.Safe = &g.points[n]
	}
	if n := len(g.points) - 1 - finalLag; n >= 0 {
		head.Finalized = &g.points[n]
	}
	return schema.Report{Heads: []schema.Head{head}}
}
