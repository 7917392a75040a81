package schema

import "time"

// Record is a stored record without its payload.
type Record struct {
	ID          uint64 // the database's own; ids of committed records have holes and do not follow the order of commits
	Chain       uint64 // BareChain for a bare payload
	Key         Key
	Header      *Header // nil for a bare payload
	Status      Status  // StatusNone for a bare payload
	ContentType string
	Observer    string // who was first; empty for a bare payload
	Node        string
	Origin      Origin
	Server      string
	Remote      string     // the client's address without its port
	ObservedAt  *time.Time // by the observer's clock; nil for a bare payload
	ReceivedAt  time.Time  // by the server's clock
}

// Arrival is one observer's first observation of a stored block.
type Arrival struct {
	Observer   string
	Node       string
	Server     string
	Origin     Origin
	ObservedAt time.Time
	ReceivedAt time.Time
}

// ChainState is where one chain stands in the store: its branch runs from Root to Head without a gap.
type ChainState struct {
	Chain     uint64  `json:"chain"`
	Root      Point   `json:"root"`
	Head      Point   `json:"head"`
	Safe      *uint64 `json:"safe,omitempty"`      // the highest safe height; nil until an observer's node told of one
	Finalized *uint64 `json:"finalized,omitempty"` // the highest finalized height; nil until an observer's node told of one
	Halted    string  `json:"halted,omitempty"`    // why nothing changes status any more; empty while all is well
}

// BlockPlace is a block's place in the list of all blocks: by number from the highest, then by chain from the lowest,
// then by ID from the highest.
type BlockPlace struct {
	Number uint64
	Chain  uint64
	ID     uint64
}

// Tally is what a range of the feed adds up to.
type Tally struct {
	Epoch        string            // of the feed; tallies of two epochs do not add up
	Seq          uint64            // the last feed row counted
	Blocks       map[uint64]uint64 // by chain
	First        map[string]uint64 // blocks by the observer who was first
	Servers      map[string]uint64 // records by the server that received them first
	Bare         uint64
	Transactions uint64 // in those blocks, siblings included
}

// KeyTime is a record's key and when the server received it.
type KeyTime struct {
	Key        Key
	ReceivedAt time.Time
}

// ClientCount is how many bare payloads came from one address.
type ClientCount struct {
	IP    string `json:"ip"`
	Count uint64 `json:"count"`
}

// PlacedTransaction is a transaction in one of the blocks that hold it: before a reorganisation settles, it may stand in
// several.
type PlacedTransaction struct {
	Transaction
	Chain       uint64
	Block       Point
	BlockStatus Status
}

// BranchHeader is a block on its chain's branch, with its header in RLP; nil where nobody has it.
type BranchHeader struct {
	Number uint64
	Key    Key
	RLP    []byte
}
