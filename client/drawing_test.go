package client

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"sync"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"

	"github.com/firstseen/firstseen/schema"
)

// drawing is a chain drawn by names: add(5, "b5", "a4") makes block b5 on top of a4. Hashes are the real ones of real
// headers, so that the client can recompute them.
type drawing struct {
	t  testing.TB
	id uint64

	mu     sync.Mutex // guards the rest
	blocks map[string]*types.Header
	names  map[common.Hash]string
	txs    map[string][]map[string]any
	more   map[string]map[string]any // members of a whole block that a node adds or gets wrong
	head   string
	final  string
}

func draw(t testing.TB) *drawing {
	return &drawing{t: t, id: 7, blocks: map[string]*types.Header{}, names: map[common.Hash]string{},
		txs: map[string][]map[string]any{}, more: map[string]map[string]any{}}
}

// add draws a block. A parent that was not drawn is taken as unknown to everyone.
func (d *drawing) add(number uint64, name, parent string) *drawing {
	d.mu.Lock()
	defer d.mu.Unlock()
	h := &types.Header{
		UncleHash: types.EmptyUncleHash, TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash,
		Difficulty: new(big.Int), Number: new(big.Int).SetUint64(number), Time: 1_700_000_000 + number,
		GasLimit: 30_000_000, Extra: []byte(name), BaseFee: big.NewInt(7),
	}
	if p := d.blocks[parent]; p != nil {
		h.ParentHash = p.Hash()
	} else if number > 0 {
		h.ParentHash = common.BytesToHash([]byte(parent))
	}
	d.blocks[name], d.names[h.Hash()] = h, name
	return d
}

// line draws <letter><from> to <letter><to>, the first on top of parent, and makes the last the head.
func (d *drawing) line(letter string, from, to uint64, parent string) *drawing {
	for n := from; n <= to; n++ {
		name := fmt.Sprint(letter, n)
		d.add(n, name, parent)
		parent = name
	}
	return d.at(parent)
}

// transact puts count transactions into a block that was drawn: the node claims them, no root is checked.
func (d *drawing) transact(name string, count int) *drawing {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range count {
		d.txs[name] = append(d.txs[name], map[string]any{
			"hash": common.BytesToHash([]byte(fmt.Sprint(name, "tx", i))), "transactionIndex": hexutil.Uint64(i),
			"from": common.Address{1}, "to": common.Address{2}, "value": "0x1", "type": "0x7e",
		})
	}
	return d
}

// at moves the head.
func (d *drawing) at(name string) *drawing {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.blocks[name] == nil {
		d.t.Fatalf("block %s was not drawn", name)
	}
	d.head = name
	return d
}

func (d *drawing) hash(name string) schema.Hash {
	d.mu.Lock()
	defer d.mu.Unlock()
	return schema.Hash(d.blocks[name].Hash())
}

// name returns what a hash was drawn as.
func (d *drawing) name(h schema.Hash) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if name, ok := d.names[common.Hash(h)]; ok {
		return name
	}
	return h.String()
}

// below returns the ancestor of a block at a height.
func (d *drawing) below(name string, number uint64) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for d.blocks[name].Number.Uint64() > number {
		name = d.names[d.blocks[name].ParentHash]
	}
	return name
}

// answer is what a well-behaved node says, nil for null.
func (d *drawing) answer(method string, args []json.RawMessage) any {
	d.mu.Lock()
	defer d.mu.Unlock()
	var first string
	if len(args) > 0 {
		_ = json.Unmarshal(args[0], &first)
	}
	switch method {
	case "eth_chainId":
		return hexutil.Uint64(d.id)
	case "eth_getBlockByNumber":
		return d.block(d.byNumber(first), args)
	case "eth_getBlockByHash":
		return d.block(d.names[common.HexToHash(first)], args)
	case "eth_getBlockReceipts":
		return d.receipts(d.names[common.HexToHash(first)])
	case "eth_getTransactionReceipt":
		for _, name := range slices.Sorted(maps.Keys(d.txs)) {
			for i, tx := range d.txs[name] {
				if tx["hash"] == common.HexToHash(first) {
					return d.receipts(name)[i]
				}
			}
		}
	}
	return nil
}

// byNumber returns the name of the head's ancestor at a height or tag. The caller holds mu.
func (d *drawing) byNumber(which string) string {
	switch which {
	case "latest":
		return d.head
	case "safe", "finalized":
		return d.final
	case "earliest":
		which = "0x0"
	}
	number, err := hexutil.DecodeUint64(which)
	if err != nil {
		return ""
	}
	for name := d.head; name != ""; name = d.names[d.blocks[name].ParentHash] {
		if d.blocks[name].Number.Uint64() == number {
			return name
		}
	}
	return ""
}

func (d *drawing) block(name string, args []json.RawMessage) any {
	h := d.blocks[name]
	if h == nil {
		return nil
	}
	plain, _ := json.Marshal(h)
	fields := map[string]any{}
	_ = json.Unmarshal(plain, &fields)
	list := []any{}
	for _, tx := range d.txs[name] {
		if len(args) == 2 && string(args[1]) == "true" {
			tx["blockHash"], tx["blockNumber"] = h.Hash(), hexutil.Uint64(h.Number.Uint64())
			list = append(list, tx)
		} else {
			list = append(list, tx["hash"])
		}
	}
	fields["transactions"] = list
	if len(args) == 2 && string(args[1]) == "true" {
		maps.Copy(fields, d.more[name])
	}
	return fields
}

func (d *drawing) receipts(name string) []map[string]any {
	out := []map[string]any{}
	for _, tx := range d.txs[name] {
		out = append(out, map[string]any{"blockHash": d.blocks[name].Hash(), "transactionHash": tx["hash"],
			"transactionIndex": tx["transactionIndex"], "gasUsed": "0x5208", "status": "0x1", "from": tx["from"],
			"blockNumber": hexutil.Uint64(d.blocks[name].Number.Uint64())})
	}
	return out
}
