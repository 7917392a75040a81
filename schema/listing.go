package schema

import "time"

// RecordFilter selects records. Zero fields select all; conditions on a block's facts select no bare payloads.
type RecordFilter struct {
	Chain    *uint64 // BareChain for bare payloads only
	Blocks   bool    // no bare payloads
	Statuses []Status
	From, To *uint64    // heights, both included
	Since    *time.Time // received by a server at or after
	Until    *time.Time // received by a server before
	Observer string     // who was first
	Node     string     // through which node
	Server   string     // on which server
}

// RecordPlace is a record's place in the list of all records: by the server's clock, then by ID, both from the highest
// or both from the lowest.
type RecordPlace struct {
	ReceivedAt uint64 // microseconds since 1970
	ID         uint64
}

// TransactionPlace is a place in a list of the transactions of blocks: by block number from the highest, then by chain
// from the lowest, then by index in its block and by the database's id from the highest. Turned round, only the chain is
// still from the lowest.
type TransactionPlace struct {
	Number uint64
	Chain  uint64
	Index  uint64
	ID     uint64
}

// AccountRole is what an account has to do with a transaction.
type AccountRole string

// The roles of an account.
const (
	RoleSender    AccountRole = "sender"
	RoleRecipient AccountRole = "recipient"
	RoleContract  AccountRole = "contract" // the transaction created it
)

// TransactionFilter selects an account's transactions. Zero fields but Account select all.
type TransactionFilter struct {
	Account   Address
	Chains    []uint64      // where to look; none finds nothing
	Roles     []AccountRole // none means all
	Sender    *Address
	Recipient *Address
	MinValue  []byte   // wei, 32 bytes big-endian
	Statuses  []Status // of the block
	From, To  *uint64  // heights, both included
}

// AccountState is what is known of an account on one chain. Counts stop at the number that was asked for.
type AccountState struct {
	Chain     uint64
	Sent      uint64
	Received  uint64
	Created   *PlacedTransaction // the transaction that created it, if it is a contract and that was seen
	FirstSeen uint64             // the lowest height at which it sent or received, or was created
	LastSeen  uint64             // the highest
}

// Recent is what was received since a time.
type Recent struct {
	Since        time.Time
	Groups       []RecentGroup
	Transactions map[uint64]uint64 // in those blocks, by chain
}

// RecentGroup is how many records of a chain an observer was first with on a server.
type RecentGroup struct {
	Chain    uint64 // BareChain for bare payloads
	Server   string
	Observer string // empty for bare payloads
	Records  uint64
}

// Sighting is one observer's first observation of a block among those of other blocks.
type Sighting struct {
	Record     uint64 // the database's id of the block
	Observer   string
	Node       string
	Origin     Origin
	ReceivedAt time.Time
}
