package chain

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/firstseen/firstseen/schema"
)

// mainnetReceipts makes receipts of a real block's logs: the real ones but for gas and status, so that their root is
// another, which shows last.
func mainnetReceipts(b *testing.B, block json.RawMessage) json.RawMessage {
	b.Helper()
	var listed struct{ Transactions []map[string]any }
	if err := json.Unmarshal(block, &listed); err != nil {
		b.Fatal(err)
	}
	var (
		logs   []map[string]any
		typed  []*types.Log
		all    = mainnetAnswer(b, "logs-18000000.json", 1)
		byHash = map[any][]any{}
		blooms = map[any]*types.Receipt{}
	)
	if err := errors.Join(json.Unmarshal(all, &logs), json.Unmarshal(all, &typed)); err != nil {
		b.Fatal(err)
	}
	for i, l := range logs {
		tx := l["transactionHash"]
		byHash[tx] = append(byHash[tx], l)
		if blooms[tx] == nil {
			blooms[tx] = &types.Receipt{}
		}
		blooms[tx].Logs = append(blooms[tx].Logs, typed[i])
	}
	out := []map[string]any{}
	for i, tx := range listed.Transactions {
		r := map[string]any{"status": "0x1", "gasUsed": "0x5208", "cumulativeGasUsed": hexutil.Uint64(21000 * (i + 1)),
			"transactionHash": tx["hash"], "logs": []any{}, "logsBloom": types.Bloom{}, "effectiveGasPrice": "0x51d8e2c0b",
			"contractAddress": nil}
		for _, same := range []string{"blockHash", "blockNumber", "transactionIndex", "from", "to", "type"} {
			r[same] = tx[same]
		}
		if with := blooms[tx["hash"]]; with != nil {
			r["logs"], r["logsBloom"] = byHash[tx["hash"]], types.CreateBloom(with)
		}
		out = append(out, r)
	}
	text, err := json.Marshal(out)
	if err != nil {
		b.Fatal(err)
	}
	return text
}

// What a raw part costs: the observer packs and verifies it, the server opens and verifies it.
func BenchmarkRaw(b *testing.B) {
	made := draw(b, 200)
	block := mainnet(b, "block-18000000.json")
	for name, raw := range map[string]schema.RawBlock{
		"mainnet-18000000":             {Block: block, Receipts: mainnetReceipts(b, block)},
		"mainnet-18000000,no-receipts": {Block: block},
		"made,200-transactions":        made.raw(b),
	} {
		hash := made.hash
		var head struct{ Hash schema.Hash }
		if err := json.Unmarshal(raw.Block, &head); err == nil {
			hash = head.Hash
		}
		packed, err := PackRaw(raw)
		if err != nil {
			b.Fatal(err)
		}
		size := len(raw.Block) + len(raw.Receipts)
		run := func(what string, do func() error) {
			b.Run(name+"/"+what, func(b *testing.B) {
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := do(); err != nil && !errors.Is(err, ErrRoot) {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(size), "bytes")
				b.ReportMetric(float64(len(packed)), "packed-bytes")
			})
		}
		run("pack", func() error { _, err := PackRaw(raw); return err })
		run("unpack", func() error { _, err := UnpackRaw(packed); return err })
		run("verify", func() error { return Verify.VerifyRaw(hash, raw) })
		run("decode-block", func() error { _, err := DecodeBlock(1, raw.Block); return err })
	}
}
