package chain

import (
	"encoding/json"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

// What a raw part costs: the observer packs and verifies it, the server opens and verifies it.
func BenchmarkRaw(b *testing.B) {
	made := draw(b, 200)
	for name, raw := range map[string]schema.RawBlock{
		"mainnet-18000000,no-receipts": {Block: mainnet(b, "block-18000000.json")},
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
					if err := do(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(len(packed)), "packed-bytes")
			})
		}
		run("pack", func() error { _, err := PackRaw(raw); return err })
		run("unpack", func() error { _, err := UnpackRaw(packed); return err })
		run("verify", func() error { return Verify.VerifyRaw(hash, raw) })
		run("decode-block", func() error { _, err := DecodeBlock(1, raw.Block); return err })
	}
}
