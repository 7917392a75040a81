package devnet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"

	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/common/hexutil"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rpc"
)

// maxLogBlocks is the widest range of eth_getLogs, as providers limit it too.
const maxLogBlocks = 1000

var null = json.RawMessage("null")

// refusal is a JSON-RPC error of the endpoint's own.
type refusal struct {
	Code    int    `json:"code"`
	Message string `json:"message"`
}

func (r *refusal) Error() string  { return r.Message }
func (r *refusal) ErrorCode() int { return r.Code }

func invalid(format string, args ...any) error {
	return &refusal{Code: -32602, Message: fmt.Sprintf(format, args...)}
}

// call is one JSON-RPC request, answered from one view of the chain: whatever the caller asks for by number or tag is
// turned into the hash that the view has there, and what the view lacks is null.
type call struct {
	view   view
	faults Faults
	method string
	params []json.RawMessage
}

func (c *call) answer(ctx context.Context) (json.RawMessage, error) {
	switch c.method {
	case "eth_blockNumber":
		return json.Marshal(hexutil.Uint64(c.view.head() + c.faults.Ahead))
	case "eth_syncing":
		return c.syncing()
	case "eth_chainId":
		return json.Marshal(hexutil.Uint64(c.chainID()))
	case "net_version":
		return json.Marshal(fmt.Sprint(c.chainID()))
	case "eth_getBlockByNumber", "eth_getHeaderByNumber", "eth_getBlockTransactionCountByNumber",
		"eth_getUncleCountByBlockNumber", "eth_getTransactionByBlockNumberAndIndex":
		return c.byNumber(ctx)
	case "eth_getBlockByHash", "eth_getHeaderByHash", "eth_getBlockTransactionCountByHash",
		"eth_getUncleCountByBlockHash", "eth_getTransactionByBlockHashAndIndex":
		return c.byHash(ctx)
	case "eth_getBlockReceipts":
		return c.blockReceipts(ctx)
	case "eth_getTransactionReceipt":
		return c.receipt(ctx)
	case "eth_getTransactionByHash":
		return c.transaction(ctx)
	case "eth_getBalance", "eth_getCode", "eth_getTransactionCount", "eth_call", "eth_estimateGas":
		return c.stateful(ctx, 1)
	case "eth_getStorageAt", "eth_getProof":
		return c.stateful(ctx, 2)
	case "eth_getLogs":
		return c.logs(ctx)
	case "web3_clientVersion", "net_listening", "net_peerCount", "eth_gasPrice", "eth_maxPriorityFeePerGas":
		return c.forward(ctx, c.method, c.args()...)
	}
	return nil, &refusal{Code: -32601, Message: "the method " + c.method + " does not exist/is not available"}
}

// forward asks the chain itself.
func (c *call) forward(ctx context.Context, method string, args ...any) (json.RawMessage, error) {
	var result json.RawMessage
	if err := c.view.chain.rpc.CallContext(ctx, &result, method, args...); err != nil {
		return nil, err
	}
	return result, nil
}

func (c *call) args() []any {
	args := make([]any, len(c.params))
	for i, param := range c.params {
		args[i] = param
	}
	return args
}

func (c *call) chainID() uint64 {
	if c.faults.ChainID != 0 {
		return c.faults.ChainID
	}
	return c.view.chain.chainID
}

func (c *call) syncing() (json.RawMessage, error) {
	if !c.faults.Syncing {
		return json.RawMessage("false"), nil
	}
	return json.Marshal(map[string]hexutil.Uint64{
		"startingBlock": 0,
		"currentBlock":  hexutil.Uint64(c.view.head()),
		"highestBlock":  hexutil.Uint64(c.view.chain.view().head() + 1),
	})
}

// param decodes a parameter and refuses one that is missing.
func (c *call) param(i int, into any) error {
	if i >= len(c.params) {
		return invalid("missing value for required argument %d", i)
	}
	if err := json.Unmarshal(c.params[i], into); err != nil {
		return invalid("invalid argument %d: %v", i, err)
	}
	return nil
}

// height is what a number or tag means here; it may lie above the head.
func (c *call) height(number rpc.BlockNumber) uint64 {
	switch number {
	case rpc.LatestBlockNumber, rpc.PendingBlockNumber:
		return c.view.head()
	case rpc.SafeBlockNumber:
		return c.view.safe()
	case rpc.FinalizedBlockNumber:
		return c.view.finalized()
	case rpc.EarliestBlockNumber:
		return 0
	}
	return uint64(number)
}

// resolve finds the block that a number or tag means here; false when the node does not have it.
func (c *call) resolve(number rpc.BlockNumber) (common.Hash, bool) {
	height := c.height(number)
	if height > c.view.head() {
		return common.Hash{}, false
	}
	return c.view.at(height), true
}

// honest undoes the lie in a hash that this endpoint has handed out.
func (c *call) honest(hash common.Hash) common.Hash {
	if c.faults.Lie && !c.view.has(hash) {
		return flip(hash)
	}
	return hash
}

// forge puts a wrong hash into a block of a lying endpoint. Anything else, a count or a transaction, stays as it is.
func (c *call) forge(result json.RawMessage) (json.RawMessage, error) {
	if !c.faults.Lie || !strings.HasPrefix(c.method, "eth_getBlockBy") && !strings.HasPrefix(c.method, "eth_getHeaderBy") {
		return result, nil
	}
	var block map[string]json.RawMessage
	var hash common.Hash
	if err := json.Unmarshal(result, &block); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(block["hash"], &hash); err != nil {
		return nil, err
	}
	text, err := json.Marshal(flip(hash))
	if err != nil {
		return nil, err
	}
	block["hash"] = text
	return json.Marshal(block)
}

func (c *call) byNumber(ctx context.Context) (json.RawMessage, error) {
	var number rpc.BlockNumber
	if err := c.param(0, &number); err != nil {
		return nil, err
	}
	hash, ok := c.resolve(number)
	if !ok || c.faults.Null {
		return null, nil
	}
	result, err := c.block(ctx, strings.Replace(c.method, "Number", "Hash", 1), hash)
	if err == nil && c.faults.Ahead > 0 && number == rpc.LatestBlockNumber && c.method == "eth_getBlockByNumber" {
		return c.raise(result)
	}
	return result, err
}

// raise gives the latest block a number far above its own, and the hash that its header then has. Nothing else shows
// the lie: its time and parent are the true head's.
func (c *call) raise(result json.RawMessage) (json.RawMessage, error) {
	var header types.Header
	var block map[string]any
	if err := errors.Join(json.Unmarshal(result, &header), json.Unmarshal(result, &block)); err != nil {
		return nil, err
	}
	header.Number.Add(header.Number, new(big.Int).SetUint64(c.faults.Ahead))
	block["number"], block["hash"] = (*hexutil.Big)(header.Number), header.Hash()
	return json.Marshal(block)
}

func (c *call) byHash(ctx context.Context) (json.RawMessage, error) {
	var hash common.Hash
	if err := c.param(0, &hash); err != nil {
		return nil, err
	}
	hash = c.honest(hash)
	if !c.view.has(hash) || c.faults.Null {
		return null, nil
	}
	return c.block(ctx, c.method, hash)
}

func (c *call) block(ctx context.Context, method string, hash common.Hash) (json.RawMessage, error) {
	args := c.args()
	args[0] = hash
	result, err := c.forward(ctx, method, args...)
	if err != nil {
		return nil, err
	}
	return c.forge(result)
}

// pinned resolves a block parameter of any of EIP-1898's forms.
func (c *call) pinned(i int) (common.Hash, bool, error) {
	ref := rpc.BlockNumberOrHashWithNumber(rpc.LatestBlockNumber)
	if i < len(c.params) {
		if err := c.param(i, &ref); err != nil {
			return common.Hash{}, false, err
		}
	}
	if hash, ok := ref.Hash(); ok {
		hash = c.honest(hash)
		return hash, c.view.has(hash), nil
	}
	number, _ := ref.Number()
	hash, ok := c.resolve(number)
	return hash, ok, nil
}

func (c *call) blockReceipts(ctx context.Context) (json.RawMessage, error) {
	if len(c.params) == 0 {
		return nil, invalid("missing value for required argument 0")
	}
	hash, ok, err := c.pinned(0)
	if err != nil {
		return nil, err
	}
	if !ok || c.faults.Null {
		return null, nil
	}
	return c.forward(ctx, "eth_getBlockReceipts", hash)
}

// stateful answers a question to the state after a block, given as parameter i.
func (c *call) stateful(ctx context.Context, i int) (json.RawMessage, error) {
	hash, ok, err := c.pinned(i)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, &refusal{Code: -32000, Message: "header not found"}
	}
	if len(c.params) < i {
		return nil, invalid("missing value for required argument %d", len(c.params))
	}
	args := append(c.args()[:i:i], rpc.BlockNumberOrHashWithHash(hash, false))
	if len(c.params) > i+1 {
		args = append(args, c.args()[i+1:]...)
	}
	return c.forward(ctx, c.method, args...)
}

// receipt looks a transaction up on the view's own branch: the chain's may be another.
func (c *call) receipt(ctx context.Context) (json.RawMessage, error) {
	return c.lookUp("transactionHash", func(home common.Hash) (json.RawMessage, error) {
		return c.forward(ctx, "eth_getBlockReceipts", home)
	})
}

func (c *call) transaction(ctx context.Context) (json.RawMessage, error) {
	return c.lookUp("hash", func(home common.Hash) (json.RawMessage, error) {
		block, err := c.forward(ctx, "eth_getBlockByHash", home, true)
		if err != nil {
			return nil, err
		}
		var body struct{ Transactions json.RawMessage }
		err = json.Unmarshal(block, &body)
		return body.Transactions, err
	})
}

// list reads something of the block home that has one entry for each transaction.
type list func(home common.Hash) (json.RawMessage, error)

// lookUp finds, in a list of the block that holds the transaction, the entry whose field is its hash.
func (c *call) lookUp(field string, read list) (json.RawMessage, error) {
	var tx common.Hash
	if err := c.param(0, &tx); err != nil {
		return nil, err
	}
	home, ok := c.view.home(tx)
	if !ok || c.faults.Null {
		return null, nil
	}
	text, err := read(home)
	if err != nil {
		return nil, err
	}
	var entries []json.RawMessage
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, err
	}
	for _, entry := range entries {
		var fields map[string]json.RawMessage
		var hash common.Hash
		if json.Unmarshal(entry, &fields) == nil && json.Unmarshal(fields[field], &hash) == nil && hash == tx {
			return entry, nil
		}
	}
	return null, nil
}

// logs asks block by block, because a range of the chain may run along another branch than the view's.
func (c *call) logs(ctx context.Context) (json.RawMessage, error) {
	var filter struct {
		BlockHash *common.Hash     `json:"blockHash,omitempty"`
		From      *rpc.BlockNumber `json:"fromBlock,omitempty"`
		To        *rpc.BlockNumber `json:"toBlock,omitempty"`
		Address   json.RawMessage  `json:"address,omitempty"`
		Topics    json.RawMessage  `json:"topics,omitempty"`
	}
	if err := c.param(0, &filter); err != nil {
		return nil, err
	}
	hashes, err := c.span(filter.BlockHash, filter.From, filter.To)
	if err != nil {
		return nil, err
	}
	filter.From, filter.To = nil, nil
	all := []json.RawMessage{}
	for _, hash := range hashes {
		filter.BlockHash = &hash
		result, err := c.forward(ctx, "eth_getLogs", filter)
		if err != nil {
			return nil, err
		}
		var logs []json.RawMessage
		if err := json.Unmarshal(result, &logs); err != nil {
			return nil, err
		}
		all = append(all, logs...)
	}
	return json.Marshal(all)
}

// span lists the blocks that a log filter covers; what lies above the head is left out, as nodes do.
func (c *call) span(one *common.Hash, from, to *rpc.BlockNumber) ([]common.Hash, error) {
	if one != nil {
		hash := c.honest(*one)
		if !c.view.has(hash) {
			return nil, &refusal{Code: -32000, Message: "unknown block"}
		}
		return []common.Hash{hash}, nil
	}
	first, last := c.view.head(), c.view.head()
	if from != nil {
		first = c.height(*from)
	}
	if to != nil {
		last = min(last, c.height(*to))
	}
	if first > last {
		return nil, nil
	}
	if last-first >= maxLogBlocks {
		return nil, &refusal{Code: -32005, Message: fmt.Sprintf("query exceeds %d blocks", maxLogBlocks)}
	}
	return c.view.branch[first : last+1], nil
}

// asRefusal is the JSON-RPC error that tells the caller about err.
func asRefusal(err error) *refusal {
	var own *refusal
	if errors.As(err, &own) {
		return own
	}
	var coded rpc.Error
	if errors.As(err, &coded) {
		return &refusal{Code: coded.ErrorCode(), Message: err.Error()}
	}
	return &refusal{Code: -32603, Message: err.Error()}
}
