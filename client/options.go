package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/internal/quiet"
	"github.com/firstseen/firstseen/schema"
)

// Renderer turns a block into the payload that is relayed. The same block must give the same bytes at every observer.
type Renderer interface {
	Render(ctx context.Context, b schema.Block) ([]byte, error)
	ContentType() string
}

// ReceiptsMode says where gas used, status and created contract of transactions come from.
type ReceiptsMode string

// The receipts modes.
const (
	ReceiptsAuto ReceiptsMode = "auto" // eth_getBlockReceipts, else one call per transaction, else left unknown
	ReceiptsOff  ReceiptsMode = "off"  // never asked for, always unknown
)

// Options configure a Client. A zero field has the default that its comment names.
type Options struct {
	Name     string   // of this observer, by schema.ValidName; required for relay mode
	Nodes    []string // JSON-RPC URLs in order of preference, as nodepool.Options has them
	Servers  []string // host:port of servers, in any order; required
	Bare     bool     // speak to an original server: one frame per connection, no acks
	Template Renderer // required

	TLS   func(name string) *tls.Config // to servers: the configuration for one of that name; nil: no TLS
	Token keys.Token                    // access key, shown to servers in relay mode; needs TLS; the zero Token: none

	Reference string              // URL of a third party that is asked for the tip only; empty: there is none
	Node      string              // the name of the one node to observe; empty: whichever is best
	Pool      nodepool.Thresholds // what nodes are judged by
	Repair    nodepool.Repair     // how nodes that stay out are restarted

	Unverified []uint64 // chains whose hashes cannot be recomputed: what nodes say of them is believed

	Chain       uint64        // the chain id that nodes must have; 0: that of most of them at the start
	Poll        time.Duration // between looks at a node's latest head, 1 s
	CallTimeout time.Duration // for one answer of a node, 10 s; a look at the latest head gets at most 3 s of it
	MaxAnswer   int64         // bytes of one answer of a node, after decompression, 32 MiB
	Receipts    ReceiptsMode  // ReceiptsAuto
	Raw         bool          // send the node's own JSON of blocks and receipts as well, to servers that take it
	Backfill    uint64        // most blocks to fetch after a pause, 10,000; older ones are reported as a gap

	Spool     string // path of a file that keeps what is not delivered, and how far the observer got; empty: memory
	Start     string // where to begin a chain of which nothing is stored: StartTip (default), StartEarliest or a height
	StartOver bool   // begin there although the server has blocks of the chain; a spool's progress still comes first

	ResumeHalted bool // take up a chain that was halted for a reorg too deep, on the branch that the nodes have now

	OutboxEntries int           // blocks waiting for a server's ack, 4,096, in a spool 100,000; beyond it the follower waits
	OutboxBytes   int64         // of these, 64 MiB, in a spool 1 GiB
	Drain         time.Duration // to deliver what is waiting when Run is told to end, 5 s
	Recycle       time.Duration // age at which a connection is replaced, give or take a tenth, 30 min

	Log        logrus.FieldLogger    // nil: discarded
	Registerer prometheus.Registerer // nil: no metrics
	Now        func() time.Time      // wall clock of observations, time.Now
	Rand       func() float64        // [0,1) for jitter and shuffling, math/rand/v2
}

const maxBackfill = 10_000

// pool returns the options of the observer's pool of nodes. Its metrics carry the observer's name.
func (o Options) pool() nodepool.Options {
	p := nodepool.Options{Nodes: o.Nodes, Reference: o.Reference, Chain: o.Chain, Unverified: o.Unverified, Pin: o.Node, Poll: o.Poll,
		CallTimeout: o.CallTimeout, MaxAnswer: o.MaxAnswer, Thresholds: o.Pool, Repair: o.Repair, Log: o.Log, Rand: o.Rand}
	if o.Registerer != nil {
		p.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"observer": o.Name}, o.Registerer)
	}
	return p
}

// withDefaults returns the options with every zero field filled in.
func (o Options) withDefaults() Options {
	o.Poll = cmp.Or(o.Poll, time.Second)
	o.CallTimeout = cmp.Or(o.CallTimeout, 10*time.Second)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 32<<20)
	o.Receipts = cmp.Or(o.Receipts, ReceiptsAuto)
	o.Backfill = cmp.Or(o.Backfill, maxBackfill)
	if o.Spool != "" {
		o.OutboxEntries = cmp.Or(o.OutboxEntries, 100_000)
		o.OutboxBytes = cmp.Or(o.OutboxBytes, 1<<30)
	}
	o.OutboxEntries = cmp.Or(o.OutboxEntries, 4096)
	o.OutboxBytes = cmp.Or(o.OutboxBytes, 64<<20)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	o.Recycle = cmp.Or(o.Recycle, 30*time.Minute)
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
	if !o.Bare && !schema.ValidName(o.Name) {
		bad("observer name %q: want 1 to 64 letters, digits, dots, dashes or underscores", o.Name)
	}
	if err := o.pool().Validate(); err != nil {
		bad("%w", err)
	}
	if len(o.Servers) == 0 {
		bad("no server: name at least one host:port")
	}
	for _, s := range o.Servers {
		if _, port, err := net.SplitHostPort(s); err != nil || port == "" {
			bad("server %q: want host:port", s)
		}
	}
	if o.Token != (keys.Token{}) && (o.TLS == nil || o.Bare) {
		bad("access key: it travels in relay mode and over TLS only")
	}
	if o.Chain >= 1<<63 {
		bad("chain id %d: want less than 2^63", o.Chain)
	}
	if o.Template == nil {
		bad("no template")
	}
	o.validateBlocks(bad)
	if min(o.Drain, o.Recycle) < 0 || o.OutboxBytes < 0 ||
		o.OutboxEntries < 0 {
		bad("durations and sizes must not be negative")
	}
	return errors.Join(errs...)
}

// validateBlocks is the part of Validate about which blocks are sent, and what of them.
func (o Options) validateBlocks(bad func(format string, args ...any)) {
	if r := o.Receipts; r != "" && r != ReceiptsAuto && r != ReceiptsOff {
		bad("receipts %q: want %s or %s", r, ReceiptsAuto, ReceiptsOff)
	}
	if o.Raw && o.Bare {
		bad("raw JSON: it travels in relay mode only")
	}
	if !ValidStart(o.Start) {
		bad("start %q: want %s, %s or a height", o.Start, StartTip, StartEarliest)
	}
}

// ValidStart tells whether s can be Options.Start.
func ValidStart(s string) bool {
	if s == "" || s == StartTip || s == StartEarliest {
		return true
	}
	_, err := strconv.ParseUint(s, 10, 63)
	return err == nil
}
