package server

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

const rawHello = `<!--firstseen/1 {"observer":"paris-1","chains":[1],"caps":["later","raw"]}-->`

// rawAt is an observation of a block without transactions, and its raw part.
func rawAt(number int64) schema.Observation {
	h := &types.Header{Number: big.NewInt(number), Difficulty: big.NewInt(1), GasLimit: 30_000_000,
		Time: uint64(1_700_000_000 + 12*number), Extra: []byte("raw"), TxHash: types.EmptyTxsHash,
		UncleHash: types.EmptyUncleHash, ReceiptHash: types.EmptyReceiptsHash}
	o := observationAt(number)
	o.Header, _ = rlp.EncodeToBytes(h)
	o.Hash = schema.Hash(h.Hash())
	block, _ := json.Marshal(h)
	block = append(bytes.TrimSuffix(block, []byte("}")), `,"size":"0x200","transactions":[],"uncles":[]}`...)
	o.Raw = packed(string(block), "[]")
	return o
}

func packed(block, receipts string) []byte {
	raw, err := chain.PackRaw(schema.RawBlock{Block: json.RawMessage(block), Receipts: json.RawMessage(receipts)})
	if err != nil {
		panic(err)
	}
	return raw
}

// badRaws are raw parts that any server finds out not to be block 1's, and what ours says of them.
func badRaws() []struct {
	raw []byte
	why string
} {
	var out []struct {
		raw []byte
		why string
	}
	o := rawAt(1)
	for _, raw := range [][]byte{
		[]byte("no gzip"), append(bytes.Clone(o.Raw), 0), o.Raw[:len(o.Raw)-1], append(bytes.Clone(o.Raw), o.Raw...), rawAt(2).Raw,
		packed("{}", "null"), packed("null", "null"), packed(`[]`, "null"),
	} {
		b, err := chain.UnpackRaw(raw)
		if err == nil {
			err = chain.Verify.VerifyRaw(o.Hash, b)
		}
		text := string(wire.AppendRefusal(nil, wire.Refusal{N: 1, Code: wire.CodeRaw, Text: err.Error()}))
		out = append(out, struct {
			raw []byte
			why string
		}{raw, strings.TrimPrefix(text, "N1 raw ")})
	}
	return out
}

func (p *peer) greetRaw() {
	p.t.Helper()
	p.send(rawHello)
	w, err := wire.ParseWelcome([]byte(p.next()))
	if err != nil || len(w.Caps) != 1 || w.Caps[0] != "raw" {
		p.t.Fatalf("caps %v, %v", w.Caps, err)
	}
}

func TestRawPartsAreStoredWithTheirRecord(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.greetRaw()
	plain := rawAt(2)
	plain.Raw = nil
	p.send(dataOf(rawAt(1), "payload"), dataOf(plain, "payload"), dataOf(rawAt(1), "again"))
	p.wantAcks(3)
	offers := r.store.all()
	if o := offers[0]; !bytes.Equal(o.Raw, rawAt(1).Raw) || string(o.Payload) != "payload" {
		t.Errorf("raw of %d bytes, payload %q", len(o.Raw), o.Payload)
	}
	if offers[1].Raw != nil || string(offers[1].Payload) != "payload" {
		t.Errorf("a frame without raw part became %+v", offers[1])
	}
	if v, k := r.metric("raw_parts_total", "verified"), r.metric("raw_parts_total", "known"); v != 1 || k != 1 {
		t.Errorf("%v verified and %v known, want 1 and 1", v, k)
	}
}

func TestRawPartsThatAreNotTheBlocksAreRefused(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.greetRaw()
	bomb := packed(`"`+strings.Repeat("x", 3<<20)+`"`, "null")
	for i, raw := range [][]byte{
		[]byte("no gzip"), append(rawAt(1).Raw, 0), rawAt(1).Raw[:20], rawAt(2).Raw, packed("{}", "null"), packed("null", "null"), bomb,
	} {
		o := rawAt(1)
		o.Raw = raw
		p.send(dataOf(o, "payload"))
		refusal, err := wire.ParseRefusal([]byte(p.next()))
		if err != nil || refusal.Code != wire.CodeRaw || refusal.N != uint64(i+1) {
			t.Errorf("raw part %d: %+v, %v", i, refusal, err)
		}
	}
	p.send(dataOf(rawAt(1), "payload"))
	p.want("A8 f")
	if n := r.store.count(); n != 1 {
		t.Errorf("%d offers, want the last", n)
	}
	if n := r.metric("raw_parts_total", "refused"); n != 7 {
		t.Errorf("%v refused, want 7", n)
	}
}

func TestARawPartThatWasNotAgreedOnEndsTheLink(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	if w := p.greet(); len(w.Caps) != 0 {
		t.Errorf("caps %v", w.Caps)
	}
	p.send(data(1), dataOf(rawAt(1), "payload"), data(2))
	p.want("A1 f")
	p.wantPrefix("Estop protocol a raw part")
	p.finish()
	p.wantEnd()
	if n := r.store.count(); n != 1 {
		t.Errorf("%d offers, want the first", n)
	}
}

// Of a chain that is excepted, raw parts are believed as its hashes are: from observers that have proved their name.
func TestRawPartsOfUnverifiedChains(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.Unverified = []uint64{1} })
	p := r.dial()
	p.greetRaw()
	p.send(dataOf(rawAt(1), "payload"))
	p.wantPrefix("N1 auth")
}

func TestWaitingForAPlaceToVerifyEndsWithTheServer(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.Drain = 50 * time.Millisecond })
	for range cap(r.srv.raws.places) {
		r.srv.raws.places <- struct{}{}
	}
	p := r.dial()
	p.greetRaw()
	p.send(dataOf(rawAt(1), "payload"))
	eventually(t, "the frame is read", func() bool { return r.metric("frames_total", "data") == 1 })
	r.stop()
	for !strings.HasPrefix(p.next(), "Eretry") {
	}
	p.finish()
	p.wantEnd()
	if n := r.store.count(); n != 0 {
		t.Errorf("%d offers", n)
	}
}

func BenchmarkVerifyRaw(b *testing.B) {
	o := rawAt(1)
	r := newRaws()
	for name, keep := range map[string]bool{"new": false, "known": true} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if !keep {
					r.known = recent[[32]byte, struct{}]{}
				}
				if _, err := r.verify(b.Context(), chain.Verify, &o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
