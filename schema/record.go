package schema

import (
	"errors"
	"time"
)

// BareChain is the chain of records whose payload came without a header.
const BareChain uint64 = 0

// Status is where a block stands in its chain.
type Status string

// The statuses of a block. A bare record has none (the empty Status, NULL in the database).
const (
	StatusNone         Status = ""
	StatusCanonical    Status = "canonical"     // on the branch of the chain's head
	StatusNonCanonical Status = "non_canonical" // off it, for now
	StatusSafe         Status = "safe"          // canonical and justified
	StatusFinalized    Status = "finalized"     // never changes again
	StatusOrphaned     Status = "orphaned"      // a rival at its height is finalized
)

// OnBranch tells whether a block of this status lies on the branch of the chain's head.
func (s Status) OnBranch() bool {
	return s == StatusCanonical || s == StatusSafe || s == StatusFinalized
}

// Offer is one verified observation, or one bare payload, on its way into the store.
type Offer struct {
	Chain        uint64 // BareChain for a bare payload
	Key          Key
	Header       *Header // nil for a bare payload
	HeaderRLP    []byte  // the same as its observer sent it; nil where nobody has it
	ContentType  string
	Payload      []byte
	Observer     string // empty for a bare payload
	Node         string
	Origin       Origin
	Server       string
	Remote       string // the client's address without its port
	ObservedAt   time.Time
	ReceivedAt   time.Time
	Transactions []Transaction
	Raw          []byte // the block as its node showed it, packed (see RawBlock); nil where the observer did not send it
}

// Outcome is how the store settled an offer.
type Outcome uint8

// The outcomes of an offer.
const (
	Unsettled Outcome = iota // the store stopped first; the offer may or may not be stored
	First                    // committed by this offer
	Duplicate                // committed earlier, by whomever
	Refused                  // can never be stored; Settlement says why
)

// String returns the outcome's name.
func (o Outcome) String() string {
	return [...]string{"unsettled", "first", "duplicate", "refused"}[o]
}

// Settlement is the store's answer to one offer. First and Duplicate are promises: the record is committed.
type Settlement struct {
	Outcome Outcome
	Reason  string // for Refused and Unsettled
}

// ErrPayloadPruned reports a payload that was stored, and that retention has taken since.
var ErrPayloadPruned = errors.New("payload is not kept any more")

// Position is how far a chain is stored without a gap.
type Position struct {
	Chain uint64 `json:"chain"`
	Point        // the highest block whose ancestors are all stored, down to the chain's first

	// Back are ancestors of it, the nearest first: 1, 2, 4, 8 … blocks below, and the chain's first. An observer finds by
	// them where another branch leaves this one.
	Back []Point `json:"back,omitempty"`
}

// FeedKind is the kind of a state change in the feed.
type FeedKind string

// The kinds of feed rows.
const (
	FeedBlock  FeedKind = "block"  // a block was added
	FeedStatus FeedKind = "status" // a block's status changed
	FeedBare   FeedKind = "bare"   // a bare payload was added
	FeedGap    FeedKind = "gap"    // heights that no observer will deliver
	FeedAlarm  FeedKind = "alarm"  // the chain is halted: something contradicts a finalized block
)

// FeedEvent is one row of the feed. Seq starts at 1 and has no gaps.
type FeedEvent struct {
	Seq    uint64    `json:"seq"`
	Kind   FeedKind  `json:"kind"`
	Chain  uint64    `json:"chain"`
	Key    Key       `json:"key,omitempty"`
	Number *uint64   `json:"number,omitempty"` // for a gap its first height
	To     *uint64   `json:"to,omitempty"`     // a gap's last height
	Status Status    `json:"status,omitempty"`
	Was    Status    `json:"was,omitempty"` // the status before, for FeedStatus
	Note   string    `json:"note,omitempty"`
	At     time.Time `json:"at"`
}
