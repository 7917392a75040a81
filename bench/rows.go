package main

import (
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

const (
	benchChain  = 1337
	payloadSize = 450
)

// block is one row to be: its header and payload, and the frame that an observer sends of it.
type block struct {
	header    schema.Header
	headerRLP []byte
	payload   []byte
	frame     []byte // netstring and all
}

// chainOf makes consecutive blocks of one chain, with payloads of 450 bytes that differ. It makes them once: every
// contender gets the same ones.
type chainOf struct {
	mu     sync.Mutex // guards blocks
	blocks []block
}

func (c *chainOf) first(n int) ([]block, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.blocks) < n {
		parent := schema.Hash{}
		if last := len(c.blocks); last > 0 {
			parent = c.blocks[last-1].header.Hash
		}
		b, err := mine(len(c.blocks), parent)
		if err != nil {
			return nil, fmt.Errorf("make blocks: %w", err)
		}
		c.blocks = append(c.blocks, b)
	}
	return c.blocks[:n], nil
}

func mine(i int, parent schema.Hash) (block, error) {
	raw, err := rlp.EncodeToBytes(&types.Header{
		ParentHash: [32]byte(parent), Number: big.NewInt(int64(i + 1)), Difficulty: new(big.Int), GasLimit: 30_000_000,
		Time: 1_700_000_000 + uint64(i), BaseFee: big.NewInt(7), Coinbase: [20]byte{1, 2, 3},
	})
	if err != nil {
		return block{}, err
	}
	header, err := chain.DecodeHeader(raw)
	if err != nil {
		return block{}, err
	}
	b := block{
		header: header, headerRLP: raw,
		payload: []byte((fmt.Sprintf("<p>%d</p>", i) + strings.Repeat("x", payloadSize))[:payloadSize]),
	}
	content, err := wire.AppendData(nil, schema.Observation{
		Chain: benchChain, Header: raw, Hash: header.Hash, Node: "geth-1", ObservedAt: header.Time, ContentType: "text/html",
		Origin: schema.OriginHead,
	}, b.payload)
	b.frame = netstring.Append(nil, content)
	return b, err
}

// offer is what a server makes of the frame.
func (b *block) offer(observer string) *schema.Offer {
	return &schema.Offer{
		Chain: benchChain, Key: b.header.Hash.Key(), Header: &b.header, HeaderRLP: b.headerRLP, ContentType: "text/html",
		Payload: b.payload, Observer: observer, Node: "geth-1", Origin: schema.OriginHead, Server: "server-1",
		Remote: "127.0.0.1", ObservedAt: b.header.Time, ReceivedAt: time.Now(),
	}
}

func offersOf(blocks []block, observer string) []*schema.Offer {
	out := make([]*schema.Offer, len(blocks))
	for i := range blocks {
		out[i] = blocks[i].offer(observer)
	}
	return out
}

// deal shares blocks out in turn, so that together the shares come about in the chain's order.
func deal[T any](all []T, shares int) [][]T {
	lists := make([][]T, shares)
	for i, one := range all {
		lists[i%shares] = append(lists[i%shares], one)
	}
	return lists
}
