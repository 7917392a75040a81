package schema

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Header is what a block header says of itself once its RLP has been decoded and hashed.
type Header struct {
	Hash   Hash
	Parent Hash
	Number uint64
	Time   time.Time // the block's own timestamp, whole seconds

	FeeRecipient Address // "miner" in JSON-RPC; of a stored record also zero when it was stored before this was kept
}

// Block is what a template renders: the block's own facts, nothing of who observed it, so that every observer renders
// the same bytes.
type Block struct {
	Chain        uint64
	Header       // hash, parent, number, time, fee recipient
	GasLimit     uint64
	GasUsed      uint64
	BaseFee      string // wei, decimal; empty before London
	ExtraData    Bytes
	StateRoot    Hash
	Transactions []Transaction
}

// Transaction is the summary of one transaction of a block. GasUsed, Status and Contract come from the receipt and
// are nil when the observer could not get it.
type Transaction struct {
	Hash     Hash     `json:"hash"`
	Index    uint32   `json:"index"`
	From     Address  `json:"from"`
	To       *Address `json:"to"`    // nil for a contract creation
	Value    string   `json:"value"` // wei, decimal, at most 2^256-1
	GasUsed  *uint64  `json:"gas_used"`
	Status   *uint8   `json:"status"` // 1 success, 0 failure (EIP-658)
	Contract *Address `json:"contract"`
}

// Origin says how an observer came by a block.
type Origin string

// The origins of an observation.
const (
	OriginHead     Origin = "head"     // it was the observer's head when seen
	OriginBackfill Origin = "backfill" // fetched later: a skipped height, a reorg's branch, history
)

// Observation is the JSON that precedes the payload in a D frame: one observer's claim to have seen one block.
type Observation struct {
	Chain        uint64        `json:"chain"`
	Header       Bytes         `json:"header"` // RLP of the block header
	Hash         Hash          `json:"hash"`
	Node         string        `json:"node"`
	ObservedAt   time.Time     `json:"observed_at"` // RFC 3339, UTC, by the observer's clock
	ContentType  string        `json:"content_type"`
	Origin       Origin        `json:"origin"`
	Transactions []Transaction `json:"transactions"`

	Raw []byte `json:"-"` // the raw part (see RawBlock), which travels behind the payload; nil: there is none
}

// RawBlock is what a node answered about one block, byte for byte. Packed, it is gzip (RFC 1952) of one JSON object with
// these two members: the raw part of an observation.
type RawBlock struct {
	Block    json.RawMessage // of eth_getBlockByHash or eth_getBlockByNumber, with full transactions
	Receipts json.RawMessage // of eth_getBlockReceipts; nil where they could not be had
}

// Point names one block by height and hash.
type Point struct {
	Number uint64 `json:"number"`
	Hash   Hash   `json:"hash"`
}

// String returns number and hash, for logs.
func (p Point) String() string { return fmt.Sprintf("%d %s", p.Number, p.Hash) }

// Head is an observer's latest view of one chain. Safe and Finalized are nil when its node does not tell.
type Head struct {
	Chain     uint64 `json:"chain"`
	Node      string `json:"node"`
	Latest    Point  `json:"latest"`
	Safe      *Point `json:"safe,omitempty"`
	Finalized *Point `json:"finalized,omitempty"`
}

// NodeState is the pool's judgement of one node.
type NodeState string

// The states of a node.
const (
	NodeUnknown     NodeState = "unknown"
	NodeLive        NodeState = "live"
	NodeReady       NodeState = "ready"
	NodeLagging     NodeState = "lagging"
	NodeQuarantined NodeState = "quarantined"
	NodeProbation   NodeState = "probation"
	NodeWrongChain  NodeState = "wrong_chain"
)

// NodeView is one observer's view of one node. Height and Lag are nil while unknown: an error is not height 0.
type NodeView struct {
	Name     string    `json:"name"`
	Chain    uint64    `json:"chain"`
	State    NodeState `json:"state"`
	Reason   string    `json:"reason,omitempty"`
	Height   *uint64   `json:"height"`
	Lag      *uint64   `json:"lag,omitempty"` // blocks behind the pool's tip
	Since    time.Time `json:"since"`         // of State
	Cordoned bool      `json:"cordoned,omitempty"`
	Latency  *Latency  `json:"latency,omitempty"` // nil before the first answers
}

// Latency is how long a node's recent answers took, in milliseconds.
type Latency struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

// NodeEvent is one transition of a node, as an observer's pool decided it.
type NodeEvent struct {
	Node   string    `json:"node"`
	Chain  uint64    `json:"chain"`
	From   NodeState `json:"from"`
	To     NodeState `json:"to"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// Gap is a range of heights, both ends included, that an observer will not deliver.
type Gap struct {
	Chain  uint64 `json:"chain"`
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Reason string `json:"reason"`
}

// Report is the JSON of an S frame: what an observer knows besides blocks.
type Report struct {
	Heads  []Head      `json:"heads,omitempty"`
	Nodes  []NodeView  `json:"nodes,omitempty"`
	Events []NodeEvent `json:"events,omitempty"` // since the observer's last report
	Gaps   []Gap       `json:"gaps,omitempty"`
}

// Chains lists the chains whose heads or gaps the report speaks of, each once, ascending.
func (r *Report) Chains() []uint64 {
	var chains []uint64
	for i := range r.Heads {
		chains = append(chains, r.Heads[i].Chain)
	}
	for i := range r.Gaps {
		chains = append(chains, r.Gaps[i].Chain)
	}
	slices.Sort(chains)
	return slices.Compact(chains)
}
