package chain

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/schema"
)

// FuzzDecodeHeader: whatever decodes is named by the hash of exactly these bytes and can be written as JSON.
func FuzzDecodeHeader(f *testing.F) {
	good, err := rlp.EncodeToBytes(shanghai())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte{0xf9, 0x02, 0x00})
	f.Fuzz(func(t *testing.T, raw []byte) {
		before := bytes.Clone(raw)
		h, err := DecodeHeader(raw)
		if !bytes.Equal(before, raw) {
			t.Fatal("input changed")
		}
		if err != nil {
			return
		}
		if h.Hash != schema.Hash(crypto.Keccak256Hash(raw)) || h.Number >= 1<<63 {
			t.Fatalf("accepted %x as %+v", raw, h)
		}
		if _, err := json.Marshal(h.Time); err != nil || h.Time.Location() != time.UTC {
			t.Fatalf("time %v: %v", h.Time, err)
		}
	})
}

// FuzzDecodeBlock: whatever decodes carries an RLP that decodes to the same header.
func FuzzDecodeBlock(f *testing.F) {
	f.Add([]byte(blockJSON(f, shanghai(), nil)))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"hash":"0x00","transactions":[{}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBlock(1, raw)
		if err != nil {
			return
		}
		if h, err := DecodeHeader(b.HeaderRLP); err != nil || h != b.Header {
			t.Fatalf("header %+v decodes to %+v, %v", b.Header, h, err)
		}
	})
}

func BenchmarkDecodeHeader(b *testing.B) {
	raw, err := rlp.EncodeToBytes(shanghai())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeHeader(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeBlock(b *testing.B) {
	raw := mainnet(b, "block-18000000.json")
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeBlock(1, raw); err != nil {
			b.Fatal(err)
		}
	}
}
