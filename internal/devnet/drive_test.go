package devnet_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func startGeths(t *testing.T, opts devnet.GethOptions) *devnet.Geths {
	t.Helper()
	opts.Path = testenv.Geth(t)
	g, err := devnet.StartGeths(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g
}

// waitFor polls until the node's block at a tag is the wanted one.
func waitFor(t *testing.T, url string, tag int64, want schema.Hash) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := ethclient.DialContext(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for schema.Hash(block(t, c, tag).Hash()) != want {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: tag %d is never %s", url, tag, want)
		}
	}
}

func TestGethsFollowTheChainThroughAReorg(t *testing.T) {
	t.Parallel()
	g := startGeths(t, devnet.GethOptions{Seed: 3})
	if err := g.Mine(t.Context(), 20); err != nil {
		t.Fatal(err)
	}
	before := g.Canonical()
	if err := g.Reorg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	after := g.Canonical()
	if after[17] != before[17] || after[18] == before[18] || len(after) != 22 {
		t.Errorf("fork not at 17: %d blocks", len(after))
	}
	for _, url := range g.URLs() {
		waitFor(t, url, latest, after[21])
		waitFor(t, url, safe, after[13])
		waitFor(t, url, finalized, after[5])
		c, err := ethclient.DialContext(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		for number := range after {
			if got := block(t, c, int64(number)); schema.Hash(got.Hash()) != after[number] {
				t.Errorf("%s: block %d is %s, want %s", url, number, got.Hash(), after[number])
			}
		}
		if old, err := c.BlockByHash(t.Context(), [32]byte(before[20])); err != nil || old.NumberU64() != 20 {
			t.Errorf("%s: orphaned block by hash: %v", url, err)
		}
		c.Close()
	}
	if err := g.Reorg(t.Context(), 17); !errors.Is(err, devnet.ErrDepth) {
		t.Errorf("reorg below finalized: %v", err)
	}
}

func TestPausedGethCatchesUpFromItsPeer(t *testing.T) {
	t.Parallel()
	g := startGeths(t, devnet.GethOptions{})
	if err := g.Mine(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	late := g.Nodes()[1]
	if err := late.Pause(); err != nil {
		t.Fatal(err)
	}
	if err := g.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	waitFor(t, g.Nodes()[0].URL(), latest, g.Head().Hash)
	if err := late.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := g.Mine(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	waitFor(t, late.URL(), latest, g.Head().Hash)
}

func TestKilledGethIsLeftBehind(t *testing.T) {
	t.Parallel()
	g := startGeths(t, devnet.GethOptions{})
	if err := g.Nodes()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	if err := g.Mine(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	waitFor(t, g.Nodes()[1].URL(), latest, g.Head().Hash)
}

func TestStartFailsWithGethsOwnWords(t *testing.T) {
	t.Parallel()
	if _, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: "/nonexistent/geth"}); err == nil {
		t.Error("started without a binary")
	}
}

func TestAPausedGethIsRestartedAtItsAddresses(t *testing.T) {
	t.Parallel()
	g := startGeths(t, devnet.GethOptions{Seed: 5})
	if err := g.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	url := g.URLs()[0]
	if err := g.Nodes()[0].Pause(); err != nil {
		t.Fatal(err)
	}
	if err := g.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if err := g.Restart(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if got := g.URLs()[0]; got != url {
		t.Errorf("answers at %s, before at %s", got, url)
	}
	// It looks for what it lacks when it is told of a new block.
	c, err := ethclient.DialContext(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	deadline := time.After(time.Minute)
	for schema.Hash(block(t, c, latest).Hash()) != g.Head().Hash {
		if err := g.Mine(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		select {
		case <-time.After(500 * time.Millisecond):
		case <-deadline:
			t.Fatalf("stays at %d, the others are at %d", block(t, c, latest).NumberU64(), g.Head().Number)
		}
	}
}
