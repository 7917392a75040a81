package schema

import "time"

// ObservedNode is one observer's latest view of one node, as the store keeps it.
type ObservedNode struct {
	Observer string `json:"observer"`
	NodeView
	ReportedAt time.Time     `json:"reported_at"` // by the store's clock
	Age        time.Duration `json:"-"`           // since ReportedAt by the same clock; never negative
}

// ObservedEvent is one transition of a node as an observer reported it. At is by the observer's clock.
type ObservedEvent struct {
	Observer string `json:"observer"`
	NodeEvent
	ReceivedAt time.Time `json:"received_at"` // by the store's clock
}

// NodePlace is a view's place in the list of all views: by observer, chain and node, ascending.
type NodePlace struct {
	Observer string
	Chain    uint64
	Node     string
}

// NodeFilter selects views or transitions of nodes; a zero field selects all.
type NodeFilter struct {
	Observer string
	Node     string
	Chain    uint64
	State    NodeState // of a view; for transitions the state that they lead to
}
