package server

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

var update = flag.Bool("update", false, "rewrite headers.json and dialogue.json in schema/testdata")

const headersAbout = "Block headers in RLP, one per shape that the protocol's forks gave them, and what a server takes " +
	"from them: the Keccak-256 of these very bytes, number, parent, time (Unix seconds) and fee recipient. Bad ones are " +
	"refused. The values in them are made up. Made by: go test ./server -run Headers -update"

type headerFile struct {
	About string         `json:"about"`
	Good  []headerVector `json:"good"`
	Bad   []badHeader    `json:"bad"`
}

type headerVector struct {
	Name   string      `json:"name"`
	RLP    string      `json:"rlp"`
	Hash   schema.Hash `json:"hash"`
	Number uint64      `json:"number"`
	Parent schema.Hash `json:"parent"`
	Time   int64       `json:"time"`

	FeeRecipient schema.Address `json:"fee_recipient"`
}

type badHeader struct {
	Name string `json:"name"`
	RLP  string `json:"rlp"`
}

func vectorPath(name string) string { return filepath.Join("..", "schema", "testdata", name) }

func writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorPath(name), []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readJSON(t *testing.T, name string, v any) {
	t.Helper()
	raw, err := os.ReadFile(vectorPath(name))
	if err == nil {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	if *update {
		writeJSON(t, "headers.json", headerFile{headersAbout, goodHeaders(t), badHeaders(t)})
	}
	var file headerFile
	readJSON(t, "headers.json", &file)
	for _, v := range file.Good {
		got, err := chain.DecodeHeader(fromHex(t, v.RLP))
		want := schema.Header{
			Hash: v.Hash, Parent: v.Parent, Number: v.Number, Time: time.Unix(v.Time, 0).UTC(), FeeRecipient: v.FeeRecipient,
		}
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", v.Name, got, err, want)
		}
	}
	for _, v := range file.Bad {
		if got, err := chain.DecodeHeader(fromHex(t, v.RLP)); err == nil {
			t.Errorf("%s: decoded as %+v", v.Name, got)
		}
	}
	if len(file.Good) < 7 || len(file.Bad) < 7 {
		t.Errorf("%d good and %d bad headers, want 7 of each at least", len(file.Good), len(file.Bad))
	}
}

func fromHex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.TrimPrefix(s, "0x"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// shape returns a header whose fields are all filled by seed, without those that forks added.
func shape(seed byte, number int64) *types.Header {
	h := &types.Header{
		Number: big.NewInt(number), Difficulty: big.NewInt(0), GasLimit: 30_000_000, GasUsed: 12_345_678,
		Time: 1_600_000_000 + uint64(number), Extra: []byte("made up"),
	}
	for i, field := range [][]byte{
		h.ParentHash[:], h.UncleHash[:], h.Coinbase[:], h.Root[:], h.TxHash[:], h.ReceiptHash[:], h.MixDigest[:], h.Nonce[:], h.Bloom[:],
	} {
		copy(field, bytes.Repeat(crypto.Keccak256([]byte{seed, byte(i)}), 8))
	}
	return h
}

func goodHeaders(t *testing.T) []headerVector {
	hash := func(b byte) *common.Hash { h := crypto.Keccak256Hash([]byte{b}); return &h }
	number := func(n uint64) *uint64 { return &n }
	work := shape(1, 1_000_001)
	work.Difficulty, work.Extra = big.NewInt(12_549_332_509_227), nil
	london := shape(2, 12_965_000)
	london.Difficulty, london.BaseFee = big.NewInt(7_742_494_561_645_080), big.NewInt(1_000_000_000)
	paris := shape(3, 15_537_394)
	paris.BaseFee = big.NewInt(7)
	shanghai := shape(4, 17_034_870)
	shanghai.BaseFee, shanghai.WithdrawalsHash = big.NewInt(0), hash(4)
	cancun := shape(5, 19_426_587)
	cancun.BaseFee, cancun.WithdrawalsHash = big.NewInt(50_000_000_000), hash(5)
	cancun.BlobGasUsed, cancun.ExcessBlobGas, cancun.ParentBeaconRoot = number(131072), number(0), hash(6)
	prague := shape(6, 22_431_084)
	prague.BaseFee, prague.WithdrawalsHash = big.NewInt(1_234_567_890), hash(7)
	prague.BlobGasUsed, prague.ExcessBlobGas, prague.ParentBeaconRoot = number(0), number(786432), hash(8)
	prague.RequestsHash = hash(9)
	genesis := shape(7, 0)
	genesis.ParentHash, genesis.Time = common.Hash{}, 0
	last := shape(8, 1<<63-1)
	last.Time = 253402300799

	var out []headerVector
	for _, c := range []struct {
		name string
		h    *types.Header
	}{
		{"before London: 15 fields", work},
		{"London: base fee", london},
		{"Paris: no difficulty", paris},
		{"Shanghai: withdrawals root", shanghai},
		{"Cancun: blob gas, parent beacon root", cancun},
		{"Prague: requests hash", prague},
		{"genesis: number 0, no parent", genesis},
		{"greatest number and time", last},
	} {
		out = append(out, headerVector{c.name, "0x" + hex.EncodeToString(encoded(t, c.h)), schema.Hash(c.h.Hash()),
			c.h.Number.Uint64(), schema.Hash(c.h.ParentHash), int64(c.h.Time), schema.Address(c.h.Coinbase)})
	}
	return out
}

func encoded(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := rlp.EncodeToBytes(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func badHeaders(t *testing.T) []badHeader {
	good := encoded(t, shape(1, 5))
	var fields []any
	if err := rlp.DecodeBytes(good, &fields); err != nil {
		t.Fatal(err)
	}
	with := func(i int, v any) []byte {
		changed := append([]any(nil), fields...)
		changed[i] = v
		return encoded(t, changed)
	}
	huge := shape(1, 5)
	huge.Number = new(big.Int).Lsh(big.NewInt(1), 63)
	var out []badHeader
	for _, c := range []struct {
		name string
		raw  []byte
	}{
		{"empty", nil},
		{"empty list", []byte{0xc0}},
		{"a string", []byte{0x83, 'a', 'b', 'c'}},
		{"cut off", good[:len(good)-1]},
		{"a byte behind it", append(append([]byte(nil), good...), 0)},
		{"14 fields", encoded(t, fields[:14])},
		{"more fields than any fork has", encoded(t, append(append([]any(nil), fields...), manyFields()...))},
		{"number of 2^63", encoded(t, huge)},
		{"number with a leading zero", with(8, []byte{0, 5})},
		{"number that is a list", with(8, []any{})},
		{"parent of 31 bytes", with(0, make([]byte, 31))},
		{"length in more bytes than needed", append([]byte{0xfa, 0}, good[1:]...)},
	} {
		out = append(out, badHeader{c.name, "0x" + hex.EncodeToString(c.raw)})
	}
	return out
}

func manyFields() []any {
	var out []any
	for range 20 {
		out = append(out, make([]byte, 32))
	}
	return out
}
