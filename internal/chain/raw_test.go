package chain

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/ethereum/go-ethereum/trie"
	"github.com/klauspost/compress/gzip"

	"github.com/firstseen/firstseen/schema"
)

// object is a JSON object that a test changes before it is written.
type object map[string]any

func objectOf(t testing.TB, v any) object {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	out := object{}
	if err := json.Unmarshal(text, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// drawn is a block of n transactions with their receipts, as a node would answer them.
type drawn struct {
	hash     schema.Hash
	header   []byte // RLP
	block    object
	receipts []any
}

func draw(t testing.TB, n int) *drawn {
	t.Helper()
	key, err := crypto.HexToECDSA(strings.Repeat("45", 32))
	if err != nil {
		t.Fatal(err)
	}
	d := &drawn{receipts: []any{}}
	var (
		txs      types.Transactions
		receipts types.Receipts
		logs     uint
	)
	for i := range n {
		tx := signed(t, key, i)
		r := &types.Receipt{Type: tx.Type(), Status: uint64(i % 2), GasUsed: 21000, CumulativeGasUsed: 21000 * uint64(i+1),
			Logs: []*types.Log{}, TxHash: tx.Hash(), TransactionIndex: uint(i)}
		for range i % 3 {
			r.Logs = append(r.Logs, &types.Log{Address: common.Address{9}, Topics: []common.Hash{{8}, {byte(i)}}, Data: []byte{1},
				TxHash: tx.Hash(), TxIndex: uint(i), Index: logs})
			logs++
		}
		r.Bloom = types.CreateBloom(r)
		txs, receipts = append(txs, tx), append(receipts, r)
	}
	withdrawals := types.Withdrawals{{Index: 1, Validator: 2, Address: common.Address{3}, Amount: 4}}
	root := types.DeriveSha(withdrawals, trie.NewStackTrie(nil))
	h := &types.Header{UncleHash: types.EmptyUncleHash, Difficulty: new(big.Int), Number: big.NewInt(7), GasLimit: 30_000_000,
		Time: 1_700_000_000, BaseFee: big.NewInt(7), WithdrawalsHash: &root, Bloom: types.MergeBloom(receipts),
		TxHash: types.DeriveSha(txs, trie.NewStackTrie(nil)), ReceiptHash: types.DeriveSha(receipts, trie.NewStackTrie(nil))}
	d.hash = schema.Hash(h.Hash())
	if d.header, err = rlp.EncodeToBytes(h); err != nil {
		t.Fatal(err)
	}
	d.block = objectOf(t, h)
	d.block["uncles"], d.block["withdrawals"], d.block["size"] = []any{}, withdrawals, "0x1"
	list := []any{}
	for i, tx := range txs {
		o := objectOf(t, tx)
		d.place(o, i)
		list = append(list, o)

		receipts[i].BlockHash, receipts[i].BlockNumber = h.Hash(), h.Number
		for _, l := range receipts[i].Logs {
			l.BlockHash, l.BlockNumber = h.Hash(), 7
		}
		r := objectOf(t, receipts[i])
		d.place(r, i)
		d.receipts = append(d.receipts, r)
	}
	d.block["transactions"] = list
	return d
}

// place adds what a node tells of where a transaction or receipt stands.
func (d *drawn) place(o object, i int) {
	o["blockHash"], o["blockNumber"], o["transactionIndex"] = d.hash, "0x7", hexutil.EncodeUint64(uint64(i))
	o["from"] = "0x" + strings.Repeat("12", 20)
}

// signed is a transaction of each type in turn.
func signed(t testing.TB, key *ecdsa.PrivateKey, i int) *types.Transaction {
	t.Helper()
	to := common.Address{byte(i), 1}
	if i%5 > 2 {
		return later(t, i)
	}
	tx, err := types.SignNewTx(key, types.LatestSignerForChainID(big.NewInt(1)), []types.TxData{
		&types.LegacyTx{Nonce: uint64(i), To: &to, Gas: 21000, GasPrice: big.NewInt(9), Value: big.NewInt(1)},
		&types.AccessListTx{ChainID: big.NewInt(1), Nonce: uint64(i), Gas: 21000, GasPrice: big.NewInt(9), Data: []byte("<&>"),
			AccessList: types.AccessList{{Address: to, StorageKeys: []common.Hash{{1}}}}},
		&types.DynamicFeeTx{ChainID: big.NewInt(1), Nonce: uint64(i), To: &to, Gas: 21000, GasFeeCap: big.NewInt(9), GasTipCap: big.NewInt(1)},
	}[i%5])
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// later is a blob or a set-code transaction, whose signatures are made up.
func later(t testing.TB, i int) *types.Transaction {
	t.Helper()
	hash, to := "0x01"+strings.Repeat("ab", 31), "0x"+strings.Repeat("34", 20)
	o := object{"chainId": "0x1", "nonce": hexutil.Uint64(i), "to": to, "gas": "0x5208", "maxPriorityFeePerGas": "0x0",
		"maxFeePerGas": "0x9", "value": "0xde0b6b3a7640000", "input": "0x00ff", "yParity": "0x1", "v": "0x1",
		"r": "0x" + strings.Repeat("12", 32), "s": "0x3",
		"accessList": []object{{"address": to, "storageKeys": []string{}}, {"address": to, "storageKeys": []string{hash, hash}}}}
	if o["type"] = "0x3"; i%5 == 4 {
		o["type"], o["authorizationList"] = "0x4", []object{
			{"chainId": "0x0", "address": to, "nonce": "0x7", "yParity": "0x0", "r": "0x1", "s": "0x" + strings.Repeat("13", 32)}}
	} else {
		o["maxFeePerBlobGas"], o["blobVersionedHashes"] = "0x1", []string{hash, hash}
	}
	text, err := json.Marshal(o)
	tx := new(types.Transaction)
	if err == nil {
		err = tx.UnmarshalJSON(text)
	}
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

func (d *drawn) tx(i int) object      { return d.block["transactions"].([]any)[i].(object) }
func (d *drawn) receipt(i int) object { return d.receipts[i].(object) }
func (d *drawn) log() map[string]any {
	return d.receipt(2)["logs"].([]any)[1].(map[string]any)
}

func (d *drawn) raw(t testing.TB) schema.RawBlock {
	t.Helper()
	block, err := json.Marshal(d.block)
	if err != nil {
		t.Fatal(err)
	}
	out := schema.RawBlock{Block: block}
	if d.receipts != nil {
		if out.Receipts, err = json.Marshal(d.receipts); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func TestRawThatIsWhatItSays(t *testing.T) {
	t.Parallel()
	unknownType := func(d *drawn) { d.tx(1)["type"], d.receipt(1)["type"] = "0x7e", "0x7e" }
	for name, change := range map[string]func(*drawn){
		"all of it":                     func(*drawn) {},
		"no receipts":                   func(d *drawn) { d.receipts = nil },
		"what nodes add":                func(d *drawn) { d.block["totalDifficulty"], d.tx(0)["later"] = "0x0", object{"a": []any{1}} },
		"a type of transaction unknown": unknownType,
		"that, and another root":        func(d *drawn) { unknownType(d); d.tx(0)["value"] = "0x1" },
	} {
		for _, n := range []int{3, 200} {
			d := draw(t, n)
			change(d)
			if err := Verify.VerifyRaw(d.hash, d.raw(t)); err != nil {
				t.Errorf("%s, %d transactions: %v", name, n, err)
			}
			if err := Believe.VerifyRaw(d.hash, d.raw(t)); err != nil {
				t.Errorf("%s, %d transactions, believed: %v", name, n, err)
			}
		}
	}
	if d := draw(t, 0); Verify.VerifyRaw(d.hash, d.raw(t)) != nil {
		t.Error("an empty block is refused")
	}
}

// badRaw is a change that a raw part of three transactions must not have had.
type badRaw struct {
	change   func(*drawn)
	want     error
	believed bool // with Believe it passes
}

func badRaws() map[string]badRaw {
	other := "0x" + strings.Repeat("77", 32)
	set := func(o func(d *drawn) object, name string, v any) func(*drawn) {
		return func(d *drawn) { o(d)[name] = v }
	}
	block := func(d *drawn) object { return d.block }
	tx := func(d *drawn) object { return d.tx(1) }
	receipt := func(d *drawn) object { return d.receipt(1) }
	log := func(d *drawn) object { return d.log() }
	return map[string]badRaw{
		"another header":              {set(block, "gasUsed", "0x9"), ErrHashMismatch, true},
		"another hash":                {set(block, "hash", other), ErrHashMismatch, false},
		"no such block":               {func(d *drawn) { d.block = nil }, ErrNoBlock, false},
		"a transaction changed":       {set(tx, "value", "0x9"), ErrHashMismatch, true},
		"its hash changed":            {set(tx, "hash", other), ErrHashMismatch, false},
		"a transaction left out":      {func(d *drawn) { d.block["transactions"] = d.block["transactions"].([]any)[:2] }, ErrRoot, false},
		"transactions by hash":        {set(block, "transactions", []any{other}), ErrMalformed, false},
		"no transactions":             {set(block, "transactions", nil), ErrMalformed, false},
		"a transaction null":          {set(block, "transactions", []any{nil}), ErrMalformed, false},
		"of another block":            {set(tx, "blockHash", other), ErrMalformed, false},
		"of another height":           {set(tx, "blockNumber", "0x8"), ErrMalformed, false},
		"at another place":            {set(tx, "transactionIndex", "0x0"), ErrMalformed, false},
		"no sender":                   {set(tx, "from", nil), ErrMalformed, false},
		"a withdrawal changed":        {set(block, "withdrawals", []object{{"index": "0x1", "amount": "0x5"}}), ErrRoot, true},
		"withdrawals left out":        {set(block, "withdrawals", nil), ErrRoot, true},
		"a withdrawal null":           {set(block, "withdrawals", []any{nil}), ErrMalformed, false},
		"uncles":                      {set(block, "uncles", []any{other}), ErrRoot, true},
		"two spellings of a name":     {set(tx, "Value", "0x1"), ErrMalformed, false},
		"spellings in two places":     {set(receipt, "gasused", "0x1"), ErrMalformed, false},
		"receipts: one changed":       {set(receipt, "status", "0x0"), ErrReceipts, true},
		"receipts: one left out":      {func(d *drawn) { d.receipts = d.receipts[:2] }, ErrReceipts, false},
		"receipts: one too many":      {func(d *drawn) { d.receipts = append(d.receipts, d.receipts[0]) }, ErrReceipts, false},
		"receipts: none":              {func(d *drawn) { d.receipts = []any{} }, ErrReceipts, false},
		"receipts: of another block":  {set(receipt, "blockHash", other), ErrReceipts, false},
		"receipts: of another height": {set(receipt, "blockNumber", "0x8"), ErrReceipts, false},
		"receipts: another's":         {set(receipt, "transactionHash", other), ErrReceipts, false},
		"receipts: at another place":  {set(receipt, "transactionIndex", "0x5"), ErrReceipts, false},
		"receipts: another sender":    {set(receipt, "from", "0x"+strings.Repeat("13", 20)), ErrReceipts, false},
		"receipts: another type":      {set(receipt, "type", "0x2"), ErrReceipts, true},
		"receipts: other gas":         {set(receipt, "gasUsed", "0x1"), ErrReceipts, true},
		"receipts: log changed":       {set(log, "data", "0x02"), ErrReceipts, true},
		"receipts: log of another":    {set(log, "transactionHash", other), ErrReceipts, true},
		"receipts: log's place":       {set(log, "logIndex", "0x7"), ErrReceipts, true},
		"receipts: log's block":       {set(log, "blockHash", other), ErrReceipts, true},
		"receipts: log removed":       {set(log, "removed", true), ErrReceipts, true},
	}
}

func TestRawThatIsNotIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range badRaws() {
		d := draw(t, 3)
		c.change(d)
		if err := Verify.VerifyRaw(d.hash, d.raw(t)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if err := Believe.VerifyRaw(d.hash, d.raw(t)); (err == nil) != c.believed {
			t.Errorf("%s, believed: %v", name, err)
		}
	}
}

func TestRawJSONThatReadersReadDifferently(t *testing.T) {
	t.Parallel()
	d := draw(t, 3)
	good := d.raw(t)
	twice := bytes.Replace(good.Block, []byte(`"gasUsed":`), []byte(`"gasUsed":"0x9","gasUsed":`), 1)
	escaped := bytes.Replace(good.Block, []byte(`"gasUsed":`), []byte(`"gas\u0055sed":"0x9","gasUsed":`), 1)
	var many strings.Builder
	for i := range maxNames + 1 {
		fmt.Fprintf(&many, `"n%d":0,`, i)
	}
	for name, block := range map[string][]byte{
		"name twice": twice, "once escaped": escaped, "invalid UTF-8": append([]byte("{\"a\":\"\xff\","), good.Block[1:]...),
		"too many names": append([]byte("{"+many.String()), good.Block[1:]...),
		"two blocks":     append(good.Block, good.Block...), "cut off": good.Block[:len(good.Block)-1], "nothing": nil,
		"too deep": []byte(`{"a":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + "}"),
	} {
		if err := Verify.VerifyRaw(d.hash, schema.RawBlock{Block: block}); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func zipped(t testing.TB, text string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestRawIsPackedAndUnpackedByteForByte(t *testing.T) {
	t.Parallel()
	for _, b := range []schema.RawBlock{
		{Block: json.RawMessage("{ \"a\" : \"<\\u0026>\" }\n"), Receipts: json.RawMessage(" [ ]")},
		{Block: json.RawMessage(`{}`)},
		draw(t, 200).raw(t),
	} {
		packed, err := PackRaw(b)
		if err != nil {
			t.Fatal(err)
		}
		got, err := UnpackRaw(packed)
		if err != nil || !bytes.Equal(bytes.TrimSpace(got.Block), bytes.TrimSpace(b.Block)) ||
			!bytes.Equal(bytes.TrimSpace(got.Receipts), bytes.TrimSpace(b.Receipts)) || (got.Receipts == nil) != (b.Receipts == nil) {
			t.Errorf("%.100s, %v, want %.100s", got, err, b)
		}
	}
}

// noRaws are no raw parts of that block.
func noRaws(t testing.TB, block string) map[string][]byte {
	t.Helper()
	good := zipped(t, `{"block":`+block+`,"receipts":null}`)
	damaged := bytes.Clone(good)
	damaged[len(damaged)-6] ^= 1 // checksum
	return map[string][]byte{
		"nothing": nil, "no gzip": []byte(`{"block":` + block + `,"receipts":null}`), "cut off": good[:len(good)-1], "damaged": damaged,
		"a byte behind": append(bytes.Clone(good), 0), "two members": append(bytes.Clone(good), good...),
		"empty": zipped(t, ""), "a list": zipped(t, "[]"), "no block": zipped(t, `{"receipts":null}`),
		"no receipts": zipped(t, `{"block":`+block+`}`), "a member more": zipped(t, `{"block":`+block+`,"receipts":null,"x":0}`),
		"block twice": zipped(t, `{"block":`+block+`,"block":`+block+`,"receipts":null}`), "other case": zipped(t, `{"Block":`+block+`,"receipts":null}`),
		"two objects": zipped(t, `{"block":`+block+`,"receipts":null}{}`), "JSON cut off": zipped(t, `{"block":`+block+`,"receipts":null`),
	}
}

func TestWhatIsNoRawPartIsRefused(t *testing.T) {
	t.Parallel()
	for name, packed := range noRaws(t, "{}") {
		if _, err := UnpackRaw(packed); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestABombIsNotDecompressed(t *testing.T) {
	t.Parallel()
	bomb := zipped(t, `{"block":"`+strings.Repeat("x", 2*MaxRaw)+`","receipts":null}`)
	if _, err := UnpackRaw(bomb); !errors.Is(err, ErrTooLong) {
		t.Errorf("%d bytes of %d: %v", len(bomb), 2*MaxRaw, err)
	}
	if _, err := PackRaw(schema.RawBlock{Block: make([]byte, MaxRaw)}); !errors.Is(err, ErrTooLong) {
		t.Errorf("packed: %v", err)
	}
}

func TestRawOfMainnet(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"block-1000001.json", "block-18000000.json"} {
		block := mainnet(t, name)
		head, err := DecodeHead(block)
		if err != nil {
			t.Fatal(err)
		}
		if err := Verify.VerifyRaw(head.Hash, schema.RawBlock{Block: block}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
