package mock

import (
	"crypto/ecdsa"
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
	"github.com/ethereum/go-ethereum/trie"
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

// key is an account's.
func key(n uint64) (*ecdsa.PrivateKey, error) { return crypto.ToECDSA(mix(1, n%accounts).Bytes()) }

func account(n uint64) (common.Address, error) {
	k, err := key(n)
	if err != nil {
		return common.Address{}, fmt.Errorf("make account up: %w", err)
	}
	return crypto.PubkeyToAddress(k.PublicKey), nil
}

func makeBlock(parent common.Hash, number, salt uint64, at time.Time) (*block, error) {
	luck := mix(2, number, salt)
	txs, receipts, err := transactions(number, uint64(luck[0]%5))
	if err != nil {
		return nil, err
	}
	miner, err := account(uint64(luck[1]))
	if err != nil {
		return nil, err
	}
	header := &types.Header{
		ParentHash: parent, UncleHash: types.EmptyUncleHash, Coinbase: miner, Root: mix(3, number, salt),
		TxHash:      types.DeriveSha(txs, trie.NewStackTrie(nil)),
		ReceiptHash: types.DeriveSha(receipts, trie.NewStackTrie(nil)), Difficulty: new(big.Int),
		Number: new(big.Int).SetUint64(number), GasLimit: 30_000_000, GasUsed: gas * uint64(len(txs)), Time: uint64(at.Unix()),
		Extra: []byte("made up"), BaseFee: big.NewInt(7), WithdrawalsHash: &types.EmptyWithdrawalsHash,
	}
	b := &block{hash: header.Hash(), parent: parent, number: number}
	if b.members, err = members(header); err != nil {
		return nil, err
	}
	list := make([]map[string]any, len(txs))
	for i, tx := range txs {
		if list[i], err = members(tx); err != nil {
			return nil, err
		}
		receipt, err := members(receipts[i])
		if err != nil {
			return nil, err
		}
		if receipts[i].ContractAddress == (common.Address{}) {
			receipt["contractAddress"] = nil
		}
		if err := b.place(tx, i, list[i], receipt); err != nil {
			return nil, err
		}
		b.hashes, b.receipts = append(b.hashes, tx.Hash()), append(b.receipts, receipt)
	}
	b.members["transactions"], b.members["uncles"], b.members["withdrawals"] = list, []string{}, []string{}
	b.members["size"] = hexutil.Uint64(header.Size())
	return b, nil
}

// members is what go-ethereum writes of something, to be added to.
func members(of any) (m map[string]any, err error) {
	text, err := json.Marshal(of)
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return nil, fmt.Errorf("make block up: %w", err)
	}
	return m, nil
}

// place tells a transaction and its receipt where they stand.
func (b *block) place(tx *types.Transaction, index int, lists ...map[string]any) error {
	from, err := types.Sender(types.HomesteadSigner{}, tx)
	if err != nil {
		return fmt.Errorf("make block up: %w", err)
	}
	for _, m := range lists {
		m["blockHash"], m["blockNumber"], m["transactionIndex"] = b.hash, hexutil.Uint64(b.number), hexutil.Uint64(index)
		m["from"], m["to"] = from, tx.To()
	}
	return nil
}

// gas is what every transaction uses.
const gas = 21_000

// transactions makes some up: mostly transfers, sometimes the creation of a contract, sometimes one that fails. They are
// the same in a block and in its rival.
func transactions(number, count uint64) (txs types.Transactions, receipts types.Receipts, err error) {
	for i := range count {
		luck := mix(6, number, i)
		from, err := key(uint64(luck[0]))
		if err != nil {
			return nil, nil, fmt.Errorf("make transaction up: %w", err)
		}
		to, err := account(uint64(luck[2]))
		if err != nil {
			return nil, nil, err
		}
		value := new(big.Int).Mul(new(big.Int).SetUint64(uint64(luck[3])), big.NewInt(1e16))
		body := &types.LegacyTx{Nonce: number<<8 + i, GasPrice: big.NewInt(7), Gas: gas, To: &to, Value: value}
		r := &types.Receipt{Status: 1, CumulativeGasUsed: gas * (i + 1), GasUsed: gas, Logs: []*types.Log{}}
		switch {
		case luck[1] < 16:
			body.To = nil
			r.ContractAddress = common.BytesToAddress(mix(8, number, i).Bytes())
		case luck[1] < 48:
			r.Status = 0
		}
		tx, err := types.SignNewTx(from, types.HomesteadSigner{}, body)
		if err != nil {
			return nil, nil, fmt.Errorf("make transaction up: %w", err)
		}
		r.TxHash = tx.Hash()
		txs, receipts = append(txs, tx), append(receipts, r)
	}
	return txs, receipts, nil
}
