package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"

	"github.com/firstseen/firstseen/schema"
)

// mainnet returns the result of the first answer in a stored JSON-RPC batch.
func mainnet(t testing.TB, name string) json.RawMessage {
	t.Helper()
	return mainnetAnswer(t, name, 0)
}

// mainnetAnswer returns the result of another one.
func mainnetAnswer(t testing.TB, name string, n int) json.RawMessage {
	t.Helper()
	path := filepath.Join("..", "..", "..", "shared", "data", "mainnet", name)
	file, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		t.Skipf("needs the real mainnet blocks of ../shared/data/mainnet beside the repository; %s is not there", name)
	}
	var batch []struct{ Result json.RawMessage }
	if err == nil {
		err = json.Unmarshal(file, &batch)
	}
	if err != nil {
		t.Fatal(err)
	}
	return batch[n].Result
}

// shanghai is a header with every field up to withdrawals.
func shanghai() *types.Header {
	root := common.HexToHash("0x77")
	return &types.Header{
		UncleHash:       types.EmptyUncleHash,
		TxHash:          types.EmptyTxsHash,
		ReceiptHash:     types.EmptyReceiptsHash,
		Difficulty:      new(big.Int),
		Number:          big.NewInt(7),
		GasLimit:        30_000_000,
		Time:            1_700_000_000,
		Extra:           []byte("<script>"),
		BaseFee:         big.NewInt(7),
		WithdrawalsHash: &root,
	}
}

// blockJSON is h as a node would answer it, with fields put over it.
func blockJSON(t testing.TB, h *types.Header, over map[string]any) json.RawMessage {
	t.Helper()
	plain, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	fields := map[string]any{}
	if err := json.Unmarshal(plain, &fields); err != nil {
		t.Fatal(err)
	}
	fields["transactions"] = []any{}
	for k, v := range over {
		if v == nil {
			delete(fields, k)
			continue
		}
		fields[k] = v
	}
	out, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestMainnetBlocksHashToTheirName(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		file, hash, baseFee string
		number              uint64
		txs                 int
	}{
		{"block-1000001.json", "0xcb5cab7266694daa0d28cbf40496c08dd30bf732c41e0455e7ad389c10d79f4f", "", 1000001, 1},
		{"block-18000000.json", "0x95b198e154acbfc64109dfd22d8224fe927fd8dfdedfae01587674482ba4baf3", "21721091641",
			18000000, 94},
	} {
		t.Run(tc.file, func(t *testing.T) {
			t.Parallel()
			b, err := DecodeBlock(1, mainnet(t, tc.file))
			if err != nil {
				t.Fatal(err)
			}
			if b.Hash.String() != tc.hash || b.Number != tc.number || len(b.Transactions) != tc.txs || b.Chain != 1 {
				t.Errorf("got %s, number %d, %d transactions", b.Hash, b.Number, len(b.Transactions))
			}
			if b.BaseFee != tc.baseFee {
				t.Errorf("base fee %q, want %q", b.BaseFee, tc.baseFee)
			}
			h, err := DecodeHeader(b.HeaderRLP)
			if err != nil || h != b.Header {
				t.Errorf("header from its RLP: %+v, %v; want %+v", h, err, b.Header)
			}
		})
	}
}

func TestMainnetTransactionSummary(t *testing.T) {
	t.Parallel()
	b, err := DecodeBlock(1, mainnet(t, "block-1000001.json"))
	if err != nil {
		t.Fatal(err)
	}
	tx := b.Transactions[0]
	if got := tx.Hash.String(); got != "0xefb6c796269c0d1f15fdedb5496fa196eb7fb55b601c0fa527609405519fd581" {
		t.Error("hash", got)
	}
	if got := tx.From.String() + " " + tx.To.String(); got !=
		"0x2a65aca4d5fc5b5c859090a6c34d164135398226 0x819f4b08e6d3baa33ba63f660baed65d2a6eb64c" {
		t.Error("from, to", got)
	}
	if tx.Value != "1048850240000000000" || tx.Index != 0 || tx.GasUsed != nil || tx.Status != nil {
		t.Errorf("got %+v", tx)
	}
}

func TestForgedFieldsAreRefused(t *testing.T) {
	t.Parallel()
	hash := shanghai().Hash().Hex()
	for field, value := range map[string]any{
		"parentHash": common.Hash{1}, "sha3Uncles": common.Hash{1}, "miner": common.Address{1},
		"stateRoot": common.Hash{1}, "transactionsRoot": common.Hash{1}, "receiptsRoot": common.Hash{1},
		"difficulty": "0x1", "number": "0x8", "gasLimit": "0x1", "gasUsed": "0x1", "timestamp": "0x1",
		"extraData": "0x", "mixHash": common.Hash{1}, "nonce": "0x0000000000000001", "baseFeePerGas": "0x8",
		"withdrawalsRoot": common.Hash{1}, "blobGasUsed": "0x0", "hash": common.Hash{1},
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			raw := blockJSON(t, shanghai(), map[string]any{"hash": hash, field: value})
			if _, err := DecodeBlock(1, raw); !errors.Is(err, ErrHashMismatch) {
				t.Errorf("block: %v, want ErrHashMismatch", err)
			}
			if _, err := DecodeHead(raw); !errors.Is(err, ErrHashMismatch) {
				t.Errorf("head: %v, want ErrHashMismatch", err)
			}
		})
	}
}

func TestAnswersThatAreNoBlock(t *testing.T) {
	t.Parallel()
	late, high := shanghai(), shanghai()
	late.Time = maxTime + 1
	high.Number = new(big.Int).Lsh(big.NewInt(1), 63)
	fat, busy := shanghai(), shanghai()
	fat.Extra = make([]byte, MaxHeader)
	busy.TxHash = common.Hash{1}
	tx := func(over string, value any) map[string]any {
		m := map[string]any{"hash": common.Hash{1}, "transactionIndex": "0x0", "from": common.Address{}, "value": "0x0"}
		m[over] = value
		return m
	}
	list := func(txs ...any) json.RawMessage {
		return blockJSON(t, shanghai(), map[string]any{"transactions": txs})
	}
	second := tx("transactionIndex", "0x1")
	for name, tc := range map[string]struct {
		raw  json.RawMessage
		want error
	}{
		"null":                       {json.RawMessage(" null\n"), ErrNoBlock},
		"nothing":                    {nil, ErrMalformed},
		"an array":                   {json.RawMessage("[]"), ErrMalformed},
		"truncated":                  {blockJSON(t, shanghai(), nil)[:200], ErrMalformed},
		"pending, without hash":      {blockJSON(t, shanghai(), map[string]any{"hash": nil}), ErrMalformed},
		"without number":             {blockJSON(t, shanghai(), map[string]any{"number": nil}), ErrMalformed},
		"time past the year 9999":    {blockJSON(t, late, nil), ErrMalformed},
		"number of 2^63":             {blockJSON(t, high, nil), ErrMalformed},
		"header too large":           {blockJSON(t, fat, nil), ErrMalformed},
		"transactions left out":      {blockJSON(t, busy, map[string]any{"transactions": nil}), ErrMalformed},
		"transactions by hash":       {list(common.Hash{1}), ErrMalformed},
		"transaction without from":   {list(tx("from", nil)), ErrMalformed},
		"transaction without value":  {list(tx("value", nil)), ErrMalformed},
		"value above 256 bits":       {list(tx("value", "0x1"+strings.Repeat("0", 64))), ErrMalformed},
		"transaction numbered wrong": {list(second), ErrMalformed},
		"same transaction twice":     {list(tx("to", nil), second), ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := DecodeBlock(1, tc.raw); !errors.Is(err, tc.want) {
				t.Errorf("%v, want %v", err, tc.want)
			}
		})
	}
}

func TestUnknownTransactionTypesAreSummarised(t *testing.T) {
	t.Parallel()
	raw := blockJSON(t, shanghai(), map[string]any{"transactions": []any{map[string]any{
		"type": "0x7e", "sourceHash": "0x01", "mint": "0x0", "hash": common.Hash{9}, "transactionIndex": "0x0",
		"from": common.Address{1}, "to": nil, "value": "0xde0b6b3a7640000", "gas": "not even a number",
	}}, "somethingNew": map[string]any{"a": 1}})
	b, err := DecodeBlock(10, raw)
	if err != nil {
		t.Fatal(err)
	}
	if tx := b.Transactions[0]; tx.Value != "1000000000000000000" || tx.To != nil || tx.From != (schema.Address{1}) {
		t.Errorf("got %+v", tx)
	}
}

func TestDecodeHeaderIsStrict(t *testing.T) {
	t.Parallel()
	good, err := rlp.EncodeToBytes(shanghai())
	if err != nil {
		t.Fatal(err)
	}
	high, old := shanghai(), shanghai()
	high.Number = new(big.Int).Lsh(big.NewInt(1), 63)
	old.BaseFee, old.WithdrawalsHash = nil, nil
	encode := func(h *types.Header) []byte {
		b, err := rlp.EncodeToBytes(h)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if h, err := DecodeHeader(good); err != nil || h.Hash != schema.Hash(shanghai().Hash()) {
		t.Fatalf("good header: %+v, %v", h, err)
	}
	if _, err := DecodeHeader(encode(old)); err != nil {
		t.Errorf("header from before London: %v", err)
	}
	// Number 7 is the single byte 0x07; 0x8107 is the same number in a form that RLP forbids.
	longer := bytes.Replace(good, []byte{0x07, 0x84, 0x01, 0xc9, 0xc3, 0x80}, []byte{0x81, 0x07, 0x84, 0x01, 0xc9, 0xc3, 0x80}, 1)
	longer[2]++
	for name, raw := range map[string][]byte{
		"empty":           nil,
		"trailing byte":   append(bytes.Clone(good), 0),
		"cut":             good[:len(good)-1],
		"not canonical":   longer,
		"empty list":      {0xc0},
		"number of 2^63":  encode(high),
		"too many bytes":  make([]byte, MaxHeader+1),
		"claims gigabyte": {0xfb, 0x40, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := DecodeHeader(raw); !errors.Is(err, ErrMalformed) {
				t.Errorf("%v, want ErrMalformed", err)
			}
		})
	}
}

func receiptJSON(t testing.TB, b *Block, i int, over map[string]any) json.RawMessage {
	t.Helper()
	m := map[string]any{
		"blockHash": b.Hash, "transactionHash": b.Transactions[i].Hash, "transactionIndex": "0x" + string(rune('0'+i)),
		"gasUsed": "0x5208", "status": "0x1", "contractAddress": common.Address{0xcc},
	}
	for k, v := range over {
		m[k] = v
	}
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func twoTransactions() *Block {
	return &Block{Block: schema.Block{Header: schema.Header{Hash: schema.Hash{5}}, Transactions: []schema.Transaction{
		{Hash: schema.Hash{1}, To: &schema.Address{7}}, {Hash: schema.Hash{2}, Index: 1},
	}}}
}

func TestApplyReceipts(t *testing.T) {
	t.Parallel()
	b := twoTransactions()
	err := b.ApplyReceipts([]json.RawMessage{receiptJSON(t, b, 0, nil), receiptJSON(t, b, 1, nil)})
	if err != nil {
		t.Fatal(err)
	}
	call, creation := b.Transactions[0], b.Transactions[1]
	if *call.GasUsed != 21000 || *call.Status != 1 || call.Contract != nil {
		t.Errorf("call: %+v", call)
	}
	if creation.Contract == nil || *creation.Contract != (schema.Address{0xcc}) {
		t.Errorf("creation: %+v", creation)
	}
}

func TestApplyReceiptsFailedAndOld(t *testing.T) {
	t.Parallel()
	b := twoTransactions()
	err := b.ApplyReceipts([]json.RawMessage{
		receiptJSON(t, b, 0, map[string]any{"status": nil, "root": common.Hash{1}}),
		receiptJSON(t, b, 1, map[string]any{"status": "0x0"}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.Transactions[0].Status != nil {
		t.Error("a receipt without a status must not become one")
	}
	if tx := b.Transactions[1]; *tx.Status != 0 || tx.Contract != nil {
		t.Errorf("failed creation: %+v", tx)
	}
}

func TestForeignReceiptsLeaveTheBlockAlone(t *testing.T) {
	t.Parallel()
	for name, over := range map[string]map[string]any{
		"another block":       {"blockHash": common.Hash{6}},
		"another transaction": {"transactionHash": common.Hash{6}},
		"another index":       {"transactionIndex": "0x0"},
		"unknown status":      {"status": "0x2"},
		"no gas used":         {"gasUsed": nil},
		"null":                nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := twoTransactions()
			bad := json.RawMessage("null")
			if over != nil {
				bad = receiptJSON(t, b, 1, over)
			}
			err := b.ApplyReceipts([]json.RawMessage{receiptJSON(t, b, 0, nil), bad})
			if !errors.Is(err, ErrReceipts) {
				t.Errorf("%v, want ErrReceipts", err)
			}
			if b.Transactions[0].GasUsed != nil {
				t.Error("the first transaction was changed")
			}
		})
	}
	b := twoTransactions()
	if err := b.ApplyReceipts([]json.RawMessage{receiptJSON(t, b, 0, nil)}); !errors.Is(err, ErrReceipts) {
		t.Errorf("too few: %v, want ErrReceipts", err)
	}
}

func TestAForeignHeaderIsBelievedOnlyWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	h := &types.Header{ParentHash: common.Hash{1}, Coinbase: common.Address{2}, Number: big.NewInt(7), Time: 1_700_000_000,
		Difficulty: big.NewInt(1), TxHash: common.Hash{3}}
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	claimed := schema.Hash{0xab}
	text = bytes.Replace(text, []byte(`"hash":"`+h.Hash().String()+`"`), []byte(`"reward":"0x1","transactions":[],"hash":"`+claimed.String()+`"`), 1)
	if _, err := DecodeHead(text); !errors.Is(err, ErrHashMismatch) {
		t.Errorf("Verify: %v", err)
	}
	got, err := Believe.DecodeHead(text)
	want := schema.Header{Hash: claimed, Parent: schema.Hash{1}, Number: 7, Time: time.Unix(1_700_000_000, 0).UTC(), FeeRecipient: schema.Address{2}}
	if err != nil || got != want {
		t.Errorf("Believe: %+v, %v", got, err)
	}
	block, err := Believe.DecodeBlock(8217, text)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ReadHeader(block.HeaderRLP, claimed); err != nil || got != want {
		t.Errorf("ReadHeader: %+v, %v", got, err)
	}
}

func TestForeignHeadersNeedTheFieldsThatMatter(t *testing.T) {
	t.Parallel()
	items := func(n int, change func([]any)) []byte {
		list := make([]any, n)
		for i := range list {
			list[i] = []byte{}
		}
		if n >= 12 {
			list[0], list[2], list[8], list[11] = make([]byte, 32), make([]byte, 20), big.NewInt(7), uint64(1)
		}
		change(list)
		raw, err := rlp.EncodeToBytes(list)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	same := func([]any) {}
	for _, n := range []int{12, 13, 40} {
		if h, err := ReadHeader(items(n, same), schema.Hash{9}); err != nil || h.Number != 7 || h.Hash != (schema.Hash{9}) {
			t.Errorf("%d items: %+v, %v", n, h, err)
		}
	}
	for name, raw := range map[string][]byte{
		"nothing":           nil,
		"too few":           items(11, same),
		"no list":           {0x80},
		"bytes behind":      append(items(12, same), 0),
		"cut off":           items(12, same)[:20],
		"short parent":      items(12, func(l []any) { l[0] = make([]byte, 31) }),
		"short recipient":   items(12, func(l []any) { l[2] = make([]byte, 19) }),
		"number of 2^63":    items(12, func(l []any) { l[8] = uint64(1 << 63) }),
		"number is a list":  items(12, func(l []any) { l[8] = []any{} }),
		"zeros in front":    items(12, func(l []any) { l[8] = []byte{0, 7} }),
		"time of year 9999": items(12, func(l []any) { l[11] = uint64(253402300800) }),
		"too large":         items(13, func(l []any) { l[12] = make([]byte, MaxHeader) }),
	} {
		if _, err := ReadHeader(raw, schema.Hash{}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
