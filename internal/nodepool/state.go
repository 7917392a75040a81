package nodepool

import "github.com/firstseen/firstseen/schema"

// event is what one look at a node came to.
type event uint8

const (
	answered event = iota // it gave a head, and the head hashes to what it says
	near                  // its head is at most Options.Back blocks behind the tip
	proven                // near for the Options.Proof-th time in a row
	within                // farther behind, by fewer than Options.Lag blocks
	behind                // Options.Lag blocks behind or more
	alone                 // the same, but no other node is ready that is not farther behind still
	lost                  // Options.Misses probes in a row failed, or none succeeded for Options.Stale
	forged                // it contradicted itself, or is ahead of what a majority has without showing how
	strange               // it is on another chain
	cleared               // an operator says that it has been seen to

	events
)

// transitions is the whole state machine: the state after each event, by state. docs/NODES.md draws it.
var transitions = map[schema.NodeState][events]schema.NodeState{
	schema.NodeUnknown: {
		answered: schema.NodeLive, near: schema.NodeUnknown, proven: schema.NodeUnknown, within: schema.NodeUnknown,
		behind: schema.NodeUnknown, alone: schema.NodeUnknown, lost: schema.NodeUnknown,
		forged: schema.NodeQuarantined, strange: schema.NodeWrongChain, cleared: schema.NodeUnknown,
	},
	schema.NodeLive: {
		answered: schema.NodeLive, near: schema.NodeReady, proven: schema.NodeReady, within: schema.NodeReady,
		behind: schema.NodeLagging, alone: schema.NodeReady, lost: schema.NodeQuarantined,
		forged: schema.NodeQuarantined, strange: schema.NodeWrongChain, cleared: schema.NodeLive,
	},
	schema.NodeReady: {
		answered: schema.NodeReady, near: schema.NodeReady, proven: schema.NodeReady, within: schema.NodeReady,
		behind: schema.NodeLagging, alone: schema.NodeReady, lost: schema.NodeQuarantined,
		forged: schema.NodeQuarantined, strange: schema.NodeWrongChain, cleared: schema.NodeReady,
	},
	schema.NodeLagging: {
		answered: schema.NodeLagging, near: schema.NodeLagging, proven: schema.NodeReady, within: schema.NodeLagging,
		behind: schema.NodeLagging, alone: schema.NodeReady, lost: schema.NodeQuarantined,
		forged: schema.NodeQuarantined, strange: schema.NodeWrongChain, cleared: schema.NodeLagging,
	},
	schema.NodeQuarantined: {
		answered: schema.NodeProbation, near: schema.NodeQuarantined, proven: schema.NodeQuarantined,
		within: schema.NodeQuarantined, behind: schema.NodeQuarantined, alone: schema.NodeQuarantined,
		lost: schema.NodeQuarantined, forged: schema.NodeQuarantined, strange: schema.NodeWrongChain,
		cleared: schema.NodeUnknown,
	},
	schema.NodeProbation: {
		answered: schema.NodeProbation, near: schema.NodeProbation, proven: schema.NodeReady,
		within: schema.NodeProbation, behind: schema.NodeLagging, alone: schema.NodeReady,
		lost: schema.NodeQuarantined, forged: schema.NodeQuarantined, strange: schema.NodeWrongChain,
		cleared: schema.NodeProbation,
	},
	schema.NodeWrongChain: {
		answered: schema.NodeWrongChain, near: schema.NodeWrongChain, proven: schema.NodeWrongChain,
		within: schema.NodeWrongChain, behind: schema.NodeWrongChain, alone: schema.NodeWrongChain,
		lost: schema.NodeWrongChain, forged: schema.NodeWrongChain, strange: schema.NodeWrongChain,
		cleared: schema.NodeUnknown,
	},
}

// votes tells whether a node in this state has a say about the tip: it gives heads that were verified.
func votes(s schema.NodeState) bool {
	switch s {
	case schema.NodeLive, schema.NodeReady, schema.NodeLagging, schema.NodeProbation:
		return true
	}
	return false
}
