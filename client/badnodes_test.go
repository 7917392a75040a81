package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
)

// TestNoHonestBlockIsMissedWhileNodesMisbehave lets two of five nodes go wrong at a time, in every way the devnet knows,
// while the chain grows and reorganises. In the end the server has every block of the chain since the observer's first,
// and none that the chain never had.
func TestNoHonestBlockIsMissedWhileNodesMisbehave(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			net, err := devnet.New(devnet.Options{Endpoints: 5, Seed: seed, Transfers: 1})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = net.Close() })
			if err := net.Mine(t.Context(), 30); err != nil {
				t.Fatal(err)
			}
			s := serveRelay(t, draw(t))
			c := start(t, net.URLs(), []string{s.addr()}, func(o *Options) {
				o.Poll, o.Pool.Pause = 50*time.Millisecond, time.Second
			})
			wait(t, "first block", func() bool { return c.Stats().First > 0 })
			trouble(t, net, rand.New(rand.NewPCG(seed, 2)))
			for _, e := range net.Endpoints() {
				e.Set(devnet.Faults{})
			}
			if err := net.Mine(t.Context(), 3); err != nil {
				t.Fatal(err)
			}
			wait(t, "the chain's head", func() bool {
				h := c.Stats().Head
				return h != nil && h.Latest == net.Head() && c.Stats().Waiting == 0
			})
			holdAgainstTruth(t, net, s)
		})
	}
}

// trouble mines for some seconds, with a reorganisation now and then, and changes what is wrong with which nodes.
func trouble(t *testing.T, net *devnet.Net, r *rand.Rand) {
	t.Helper()
	ways := []string{"ahead:30000000", "lie", "null", "garbage", "truncate", "limit", "error", "dark", "hang", "drip", "huge",
		"slow:200ms", "stall", "lag:12", "lag:3", "syncing", "none"}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for step := range 160 {
		<-tick.C
		if step%16 == 0 {
			first, second := r.IntN(5), r.IntN(5)
			for i, e := range net.Endpoints() {
				var f devnet.Faults
				if i == first || i == second {
					f, _ = devnet.ParseFaults(ways[r.IntN(len(ways))])
				}
				e.Set(f)
			}
		}
		err := net.Mine(t.Context(), 1)
		if step%25 == 24 {
			err = net.Reorg(t.Context(), 1+r.Uint64N(3))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// holdAgainstTruth compares what the server got with the node that no fault touches.
func holdAgainstTruth(t *testing.T, net *devnet.Net, s *fakeServer) {
	t.Helper()
	truth, err := ethclient.DialContext(context.Background(), net.Truth().URL())
	if err != nil {
		t.Fatal(err)
	}
	defer truth.Close()
	got := map[schema.Hash]bool{}
	var first uint64
	for i, name := range s.blocks() { // not drawn, so called by their hashes
		hash, err := schema.ParseHash(name)
		if err != nil {
			t.Fatal(err)
		}
		got[hash] = true
		h, err := truth.HeaderByHash(t.Context(), common.Hash(hash))
		if err != nil {
			t.Fatalf("block %s was relayed, but the chain never had it: %v", name, err)
		}
		if i == 0 {
			first = h.Number.Uint64()
		}
	}
	canonical := net.Canonical()
	for number := first; number < uint64(len(canonical)); number++ {
		if !got[canonical[number]] {
			t.Errorf("block %d %s is missing", number, canonical[number])
		}
	}
	t.Logf("%d blocks of the chain from %d on, %d relayed", uint64(len(canonical))-first, first, len(got))
}
