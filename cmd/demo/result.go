package main

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/schema"
)

// result is the demo's last line.
type result struct {
	Produced     int   `json:"produced"`       // blocks of the chain as it is at the end
	Stored       int   `json:"stored"`         // of these, the ones that the stats API answers
	Duplicates   int   `json:"duplicates"`     // deliveries of a block that was stored already
	Lost         int   `json:"lost"`           // produced, not stored
	FirstBlockMS int64 `json:"first_block_ms"` // from the observers' start until the first block was committed
}

// settleTime is how long the last blocks may take on their way.
const settleTime = 10 * time.Second

// judge compares the chain, read by RPC from an endpoint that no fault touches, with what the stats API answers.
func (n *network) judge(ctx context.Context, r result) (result, error) {
	produced, err := canonical(ctx, n.chain.Truth().URL())
	if err != nil {
		return r, err
	}
	missing, err := n.await(ctx, produced)
	if err != nil {
		return r, err
	}
	r.Produced, r.Lost = len(produced), len(missing)
	r.Stored = r.Produced - r.Lost
	n.lines.mu.Lock()
	r.Duplicates = n.lines.duplicates
	n.lines.mu.Unlock()
	return r, nil
}

// await asks for each block until all are answered, or the time is up, and returns those that never were.
func (n *network) await(ctx context.Context, hashes []schema.Hash) ([]schema.Hash, error) {
	deadline := time.NewTimer(settleTime)
	defer deadline.Stop()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	missing := hashes
	for {
		var err error
		if missing, err = n.unanswered(ctx, missing); err != nil || len(missing) == 0 {
			return nil, err
		}
		select {
		case <-deadline.C:
			return missing, nil
		case <-again.C:
		}
	}
}

func (n *network) unanswered(ctx context.Context, hashes []schema.Hash) ([]schema.Hash, error) {
	var missing []schema.Hash
	for _, hash := range hashes {
		url := fmt.Sprintf("http://%s/v1/blocks/%s", n.api.Addr(), hash)
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, fmt.Errorf("ask for block: %w", err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, fmt.Errorf("ask for block: %w", err)
		}
		_ = resp.Body.Close()
		switch resp.StatusCode {
		case http.StatusOK:
		case http.StatusNotFound:
			missing = append(missing, hash)
		default:
			return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
		}
	}
	return missing, nil
}

// canonical lists the hashes of the chain at url, the genesis block first.
func canonical(ctx context.Context, url string) ([]schema.Hash, error) {
	node, err := rpc.DialContext(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", url, err)
	}
	defer node.Close()
	var head hexutil.Uint64
	if err := node.CallContext(ctx, &head, "eth_blockNumber"); err != nil {
		return nil, fmt.Errorf("ask for the head: %w", err)
	}
	hashes := make([]schema.Hash, 0, head+1)
	for number := range uint64(head) + 1 {
		var block struct{ Hash schema.Hash }
		if err := node.CallContext(ctx, &block, "eth_getBlockByNumber", hexutil.Uint64(number), false); err != nil {
			return nil, fmt.Errorf("ask for block %d: %w", number, err)
		}
		hashes = append(hashes, block.Hash)
	}
	return hashes, nil
}
