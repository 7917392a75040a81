package schema

import "time"

// ShippedRow is one row of the feed on its way to replicas, with the record that it added.
type ShippedRow struct {
	FeedEvent
	Record *ShippedRecord // of blocks and bare payloads; nil for every other kind
}

// ShippedRecord is what never changes about a stored record: everything but its status, which the feed tells, and who
// else saw it.
type ShippedRecord struct {
	ID           uint64        `json:"id"` // the writer's, so that places in lists mean the same everywhere
	Chain        uint64        `json:"chain"`
	Key          Key           `json:"key"`
	Number       *uint64       `json:"number,omitempty"` // nil for a bare payload, as are parent and time
	Parent       *Hash         `json:"parent,omitempty"`
	Time         *time.Time    `json:"time,omitempty"`
	FeeRecipient *Address      `json:"fee_recipient,omitempty"`
	Header       Bytes         `json:"header,omitzero"` // RLP; absent where nobody has it
	ContentType  string        `json:"content_type"`
	Payload      []byte        `json:"payload,omitempty"`
	PrunedAt     *time.Time    `json:"pruned_at,omitempty"` // when retention took the payload, if it came before the shipping
	Observer     string        `json:"observer,omitempty"`
	Node         string        `json:"node,omitempty"`
	Origin       Origin        `json:"origin,omitempty"`
	Server       string        `json:"server"`
	Remote       string        `json:"remote,omitempty"`
	ObservedAt   *time.Time    `json:"observed_at,omitempty"`
	ReceivedAt   time.Time     `json:"received_at"`
	Transactions []Transaction `json:"transactions,omitempty"`
	Raw          []byte        `json:"raw,omitempty"` // the node's own JSON, see RawBlock; absent where no observer sent it
}

// ShippedSighting is one observer's first observation of a record that is shipped already, or ships with it.
type ShippedSighting struct {
	Chain      uint64    `json:"chain"`
	Key        Key       `json:"key"`
	Observer   string    `json:"observer"`
	Node       string    `json:"node"`
	Server     string    `json:"server"`
	Origin     Origin    `json:"origin"`
	ObservedAt time.Time `json:"observed_at"`
	ReceivedAt time.Time `json:"received_at"`
}

// HeightRange is a range of heights of one chain, both ends included.
type HeightRange struct {
	Chain, From, To uint64
}

// RangeDigest sums up the stored blocks of a range of heights, siblings included, as they stand at one place in the
// feed. Two stores that hold the same have the same digests.
type RangeDigest struct {
	Chain    uint64 `json:"chain"`
	From     uint64 `json:"from"` // heights, both included
	To       uint64 `json:"to"`
	Seq      uint64 `json:"seq"` // the feed's last row at that moment
	Blocks   uint64 `json:"blocks"`
	Facts    Hash   `json:"facts"`              // of all that retention never takes, statuses among it
	Payloads *Hash  `json:"payloads,omitempty"` // of payloads and raw JSON; nil where retention took some
}

// ReplicaState is how a replica stands towards what it follows. Ages and lags are nil while they are not known.
type ReplicaState struct {
	Env      string
	Role     string // of the writer that it follows
	Phase    ReplicaPhase
	Reason   string         // why it is in that phase; empty while all is well
	Since    time.Time      // of the phase
	Seq      uint64         // the last row of the writer's feed that is applied
	End      *uint64        // the last row that the writer is known to have
	Lag      *time.Duration // how far behind the writer's last word what is served can be
	Chains   []ReplicaChain
	Digests  uint64        // ranges found equal to the writer's since this process began
	Differ   []RangeDigest // ranges that are not, the writer's digests
	WriterAt *time.Time    // when the writer last said that it lives, by its clock
}

// ReplicaChain is a replica's lag on one chain.
type ReplicaChain struct {
	Chain  uint64
	Number uint64  // of the replica's head
	Writer *uint64 // of the writer's
	Lag    *uint64 // blocks
}

// ReplicaPhase is what a replica is doing.
type ReplicaPhase string

// The phases of a replica.
const (
	ReplicaStarting  ReplicaPhase = "starting"
	ReplicaCatching  ReplicaPhase = "catching_up" // applying what is there
	ReplicaFollowing ReplicaPhase = "following"   // has all that the writer shipped
	ReplicaWaiting   ReplicaPhase = "waiting"     // for an object that is named and missing or damaged, or for the object store
	ReplicaHalted    ReplicaPhase = "halted"      // what comes contradicts what is stored: an operator must look
)

// AuditEntry is one thing that an operator did to a store by hand.
type AuditEntry struct {
	At     time.Time
	Actor  string // whose process it was: user@host
	Action string
	Detail string // JSON
}

// Side is what a store has that no row of its feed tells, as it stood at one moment.
type Side struct {
	At      time.Time       `json:"at"`              // by the store's clock
	Nodes   []ObservedNode  `json:"nodes,omitempty"` // how old a view is, is At less when it was reported
	Events  []ObservedEvent `json:"events,omitempty"`
	Clients []ClientCount   `json:"clients,omitempty"`
}
