package nodepool

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
)

// Options configure a Pool. A zero field has the default that its comment names.
type Options struct {
	// Nodes are JSON-RPC URLs (http, https, ws, wss) in order of preference, each optionally as name=url, and an HTTP
	// one optionally with |url behind it, the node's WebSocket URL. Required.
	Nodes []string
	// Reference is the URL of a third party that is asked for the tip and for nothing else. Empty: there is none.
	Reference string
	Chain     uint64 // the chain id that nodes must have; 0: the one that most of them have at the start
	// Unverified are chains whose hashes cannot be recomputed: what nodes say of them is believed.
	Unverified []uint64
	Pin        string // the name of the one node that Pick may give; empty: any

	Poll          time.Duration // between looks at a node's latest head, 1 s
	ReferencePoll time.Duration // between those at the reference's, 5 s or Poll if that is longer
	CallTimeout   time.Duration // for one answer, 10 s; a look at a head gets at most 3 s of it
	MaxAnswer     int64         // bytes of one answer, after decompression, 32 MiB
	Thresholds
	Repair Repair

	Log        logrus.FieldLogger    // nil: discarded
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // time.Now, whose readings are monotonic
	Rand       func() float64        // [0,1) for jitter, math/rand/v2
}

// Thresholds are what a node is judged by. A zero field has the default that its comment names.
type Thresholds struct {
	Quorum   int           // nodes that must have a block before it can be the tip, 2; a single configured node is enough
	Lag      uint64        // blocks behind the tip from which on a node is out, 10
	Back     uint64        // blocks behind the tip at which a probe counts for coming back, 2
	Proof    int           // such probes in a row until it is back, 3
	Misses   int           // failed probes in a row until a node is out, 3
	Stale    time.Duration // since the last good probe until a node is out, 3 polls but at least 1 s
	Pause    time.Duration // at most between probes of a node that is out, while another may be used, 10 s
	Breaker  int           // calls in a row that failed before a node is left alone for a while, 10
	Patience time.Duration // without a majority for the tip until Ready says so, 15 s
}

const (
	quickCall = 3 * time.Second // look at the head, chain id
	reverify  = 5 * time.Minute // a balancer behind one URL may change what stands there
)

func (o Options) withDefaults() Options {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.ReferencePoll = cmp.Or(o.ReferencePoll, max(5*time.Second, o.Poll))
	o.CallTimeout = cmp.Or(o.CallTimeout, 10*time.Second)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 32<<20)
	o.Quorum = cmp.Or(o.Quorum, 2)
	o.Lag = cmp.Or(o.Lag, 10)
	o.Back = cmp.Or(o.Back, 2)
	o.Proof = cmp.Or(o.Proof, 3)
	o.Misses = cmp.Or(o.Misses, 3)
	o.Stale = cmp.Or(o.Stale, max(3*o.Poll, time.Second))
	o.Pause = cmp.Or(o.Pause, 10*time.Second)
	o.Breaker = cmp.Or(o.Breaker, 10)
	o.Patience = cmp.Or(o.Patience, 15*time.Second)
	o.Repair = o.Repair.withDefaults()
	o.Log = quiet.Log(o.Log)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Float64
	}
	return o
}

// Validate says what is wrong with the options, in words for whoever wrote the configuration.
func (o Options) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Nodes) == 0 {
		bad("no node: name at least one JSON-RPC URL")
	}
	nodes, err := parseNodes(o.Nodes)
	if err != nil {
		bad("%w", err)
	}
	if o.Reference != "" {
		if _, err := parseNode(o.Reference); err != nil {
			bad("reference: %w", err)
		}
	}
	if o.Pin != "" && err == nil && !slices.ContainsFunc(nodes, func(a address) bool { return a.name == o.Pin }) {
		bad("no node is called %q: give it that name, as in %s=http://host:8545", o.Pin, o.Pin)
	}
	t := o.withDefaults()
	if min(t.Poll, t.ReferencePoll, t.CallTimeout, t.Stale, t.Pause, t.Patience) < 0 || t.MaxAnswer < 0 {
		bad("durations and sizes must not be negative")
	}
	if min(t.Quorum, t.Proof, t.Misses, t.Breaker) < 0 {
		bad("counts must not be negative")
	}
	if t.Back >= t.Lag {
		bad("a node cannot be back at %d blocks behind and out at %d: the first must be smaller", t.Back, t.Lag)
	}
	if err := o.Repair.validate(nodes); err != nil {
		bad("%w", err)
	}
	return errors.Join(errs...)
}
