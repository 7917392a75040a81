package mock

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

const (
	chainID   = 1337
	accounts  = 8
	keep      = 1024 // newest blocks that the node still has; older ones are null, as on a node that prunes
	safeLag   = 4    // heights that the safe block trails the head
	finalLag  = 8
	rivalStep = 16 // one step in so many puts another block in the head's place instead of one on top of it
)

// block is a made-up block as JSON-RPC shows it.
type block struct {
	hash, parent common.Hash
	number       uint64
	members      map[string]any // with full transactions
	hashes       []common.Hash  // of transactions
	receipts     []map[string]any
}

// chain makes blocks up. The same steps at the same times make the same blocks.
type chain struct {
	mu     sync.RWMutex // guards what follows
	branch []*block     // the canonical blocks that are kept, by height
	byHash map[common.Hash]*block
	made   []*block // in the order made; at most keep and what rivals add
	steps  uint64
}

// newChain makes a genesis block.
func newChain(at time.Time) (*chain, error) {
	c := &chain{byHash: map[common.Hash]*block{}}
	return c, c.add(common.Hash{}, 0, at)
}

// step makes the next block: on top of the head or, now and then, in its place.
func (c *chain) step(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps++
	head := c.branch[len(c.branch)-1]
	if c.steps%rivalStep == 0 {
		c.branch = c.branch[:len(c.branch)-1]
		return c.add(head.parent, head.number, at)
	}
	return c.add(head.hash, head.number+1, at)
}

// add makes a block, puts it at the branch's end, and forgets the oldest.
func (c *chain) add(parent common.Hash, number uint64, at time.Time) error {
	b, err := makeBlock(parent, number, c.steps, at)
	if err != nil {
		return err
	}
	c.branch = append(c.branch, b)
	c.byHash[b.hash] = b
	c.made = append(c.made, b)
	if len(c.made) > keep {
		delete(c.byHash, c.made[0].hash)
		c.made = c.made[1:]
	}
	if len(c.branch) > keep {
		c.branch = c.branch[1:]
	}
	return nil
}

func (c *chain) head() *block {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.branch[len(c.branch)-1]
}

// behind returns the canonical block so many heights below the head, or the oldest there is.
func (c *chain) behind(heights int) *block {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.branch[max(0, len(c.branch)-1-heights)]
}

// at returns the canonical block of a height, nil if it is not there.
func (c *chain) at(number uint64) *block {
	c.mu.RLock()
	defer c.mu.RUnlock()
	first := c.branch[0].number
	if number < first || number >= first+uint64(len(c.branch)) {
		return nil
	}
	return c.branch[number-first]
}

func (c *chain) find(hash common.Hash) *block {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byHash[hash]
}

// mix is 32 bytes that depend on all its numbers and on nothing else.
func mix(numbers ...uint64) common.Hash {
	var raw []byte
	for _, n := range numbers {
		raw = binary.BigEndian.AppendUint64(raw, n)
	}
	return crypto.Keccak256Hash([]byte("firstseen mock"), raw)
}

func account(n uint64) common.Address { return common.BytesToAddress(mix(1, n%accounts).Bytes()) }

func makeBlock(parent common.Hash, number, salt uint64, at time.Time) (*block, error) {
	luck := mix(2, number, salt)
	count := uint64(luck[0] % 5)
	header := &types.Header{
		ParentHash: parent, UncleHash: types.EmptyUncleHash, Coinbase: account(uint64(luck[1])), Root: mix(3, number, salt),
		TxHash: types.EmptyTxsHash, ReceiptHash: types.EmptyReceiptsHash, Difficulty: new(big.Int),
		Number: new(big.Int).SetUint64(number), GasLimit: 30_000_000, GasUsed: 21_000 * count, Time: uint64(at.Unix()),
		Extra: []byte("made up"), BaseFee: big.NewInt(7), WithdrawalsHash: &types.EmptyWithdrawalsHash,
	}
	if count > 0 {
		header.TxHash, header.ReceiptHash = mix(4, number, salt), mix(5, number, salt)
	}
	text, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("make block up: %w", err)
	}
	b := &block{hash: header.Hash(), parent: parent, number: number}
	if err := json.Unmarshal(text, &b.members); err != nil {
		return nil, fmt.Errorf("make block up: %w", err)
	}
	transactions := make([]map[string]any, count)
	for i := range count {
		transactions[i] = b.transaction(i)
	}
	b.members["transactions"], b.members["uncles"], b.members["withdrawals"] = transactions, []string{}, []string{}
	b.members["size"] = hexutil.Uint64(len(text))
	return b, nil
}

// transaction makes one up: mostly a transfer, sometimes the creation of a contract, sometimes one that fails. A
// transaction is the same in a block and in its rival.
func (b *block) transaction(index uint64) map[string]any {
	luck := mix(6, b.number, index)
	hash, from := mix(7, b.number, index), account(uint64(luck[0]))
	b.hashes = append(b.hashes, hash)
	place := func(members map[string]any) map[string]any {
		members["blockHash"], members["blockNumber"] = b.hash, hexutil.Uint64(b.number)
		members["transactionIndex"], members["from"], members["to"] = hexutil.Uint64(index), from, nil
		if luck[1] >= 16 {
			members["to"] = account(uint64(luck[2]))
		}
		return members
	}
	receipt := place(map[string]any{
		"transactionHash": hash, "gasUsed": hexutil.Uint64(21_000), "cumulativeGasUsed": hexutil.Uint64(21_000 * (index + 1)),
		"status": hexutil.Uint64(1), "contractAddress": nil, "logs": []string{},
	})
	switch {
	case luck[1] < 16:
		receipt["contractAddress"] = common.BytesToAddress(mix(8, b.number, index).Bytes())
	case luck[1] < 48:
		receipt["status"] = hexutil.Uint64(0)
	}
	b.receipts = append(b.receipts, receipt)
	value := new(big.Int).Mul(new(big.Int).SetUint64(uint64(luck[3])), big.NewInt(1e16))
	return place(map[string]any{"hash": hash, "value": (*hexutil.Big)(value), "nonce": hexutil.Uint64(b.number), "input": "0x"})
}
