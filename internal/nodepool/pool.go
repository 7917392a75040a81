package nodepool

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/schema"
)

// ErrNoNode reports that no node may be used at present.
var ErrNoNode = errors.New("no node can be used")

// maxEvents bounds the transitions that nobody has asked for yet; beyond it the oldest is forgotten and counted.
const maxEvents = 256

// Pool judges the nodes of one chain. It is made by New and run once; its methods may be called from any goroutine.
type Pool struct {
	o         Options
	log       logrus.FieldLogger
	nodes     []*Node
	reference *Node // nil: none
	changed   chan struct{}
	metrics   *metrics

	mu           sync.Mutex // guards the rest, and the judgement in every Node
	chain        uint64     // 0: not known yet
	tip          *schema.Point
	corroborated bool
	leapt        bool      // the tip is the word of a node left alone, and does not come from what was agreed on before
	agreed       time.Time // when a majority was near the tip last
	known        known
	current      *Node // that Pick gave last
	events       []schema.NodeEvent
	overflow     uint64 // events forgotten
}

// New validates the options and registers the metrics. It connects to nothing yet.
func New(o Options) (*Pool, error) {
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("node pool: %w", err)
	}
	o = o.withDefaults()
	p := &Pool{o: o, log: o.Log, chain: o.Chain, changed: make(chan struct{}, 1), agreed: o.Now()}
	addresses, err := parseNodes(o.Nodes)
	if err != nil {
		return nil, err
	}
	for _, a := range addresses {
		p.nodes = append(p.nodes, p.newNode(a))
	}
	if o.Reference != "" {
		a, err := parseNode(o.Reference)
		if err != nil {
			return nil, err
		}
		a.name = "reference"
		p.reference = p.newNode(a)
		p.reference.reference = true
	}
	if p.metrics, err = newMetrics(p, o.Registerer); err != nil {
		return nil, fmt.Errorf("node pool: %w", err)
	}
	return p, nil
}

func (p *Pool) newNode(a address) *Node {
	now := p.o.Now()
	return &Node{conn: newConn(a, p.o), wake: make(chan struct{}, 1), state: schema.NodeUnknown, since: now, out: now}
}

// everyone is the nodes and the reference.
func (p *Pool) everyone() []*Node {
	if p.reference == nil {
		return p.nodes
	}
	return append(slices.Clip(p.nodes), p.reference)
}

// Run probes the nodes until ctx ends, which is no error, and repairs them if told to.
func (p *Pool) Run(ctx context.Context) error {
	defer func() {
		for _, n := range p.everyone() {
			n.hangUp()
		}
	}()
	if !p.survey(ctx) {
		return nil
	}
	var all sync.WaitGroup
	for _, n := range p.everyone() {
		all.Go(func() { p.watch(ctx, n) })
	}
	all.Go(func() { p.age(ctx) })
	if len(p.o.Repair.Hook) > 0 {
		all.Go(func() { newRepairer(p).run(ctx) })
	}
	all.Wait()
	return nil
}

// age puts out nodes that have not been heard of for too long, until ctx ends.
func (p *Pool) age(ctx context.Context) {
	tick := time.NewTicker(max(min(p.o.Poll, p.o.Stale)/4, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.expire()
		}
	}
}

// Chain returns the chain id that the nodes share, 0 while it is not known.
func (p *Pool) Chain() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.chain
}

// Changed gives a signal after a node's head or state changed; several changes may share one. It is for one reader.
func (p *Pool) Changed() <-chan struct{} { return p.changed }

// Tip returns the highest block that the nodes agreed on, and whether Options.Quorum of them, or the reference, have
// it; if not, it is the word of the only node there is. ok is false before the first.
func (p *Pool) Tip() (tip schema.Point, corroborated, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tip == nil {
		return schema.Point{}, false, false
	}
	return *p.tip, p.corroborated, true
}

// Ready returns nil while a node may be used and the nodes agree on the tip. Its error says what is wrong with each
// node, or for how long the tip has been frozen for want of a majority.
func (p *Pool) Ready(context.Context) error {
	if err := p.Agreed(); err != nil {
		return err
	}
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if p.usable(n, now) {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrNoNode, p.faults())
}

// Agreed returns nil while the tip is not frozen: a majority of the nodes that answer is near it, or was so within
// Options.Patience. The error says which head each node has.
func (p *Pool) Agreed() error {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if frozen := now.Sub(p.agreed); frozen > p.o.Patience && len(p.voters(now)) > 1 {
		return fmt.Errorf("no majority for the tip for %s: %s", frozen.Round(time.Second), p.heights())
	}
	return nil
}

// faults says of each node why it is not used. The caller holds mu.
func (p *Pool) faults() string {
	var out []string
	for _, n := range p.nodes {
		text := n.name + " is " + string(n.state)
		if n.cordoned {
			text += ", cordoned"
		}
		if n.reason != "" {
			text += " (" + n.reason + ")"
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// heights says which head each node has. The caller holds mu.
func (p *Pool) heights() string {
	var out []string
	for _, n := range p.nodes {
		text := n.name + " is " + string(n.state)
		if votes(n.state) {
			text = fmt.Sprintf("%s has %d", n.name, n.head.Number)
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// Views returns what is known of every node, in the order of Options.Nodes.
func (p *Pool) Views() []schema.NodeView {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]schema.NodeView, len(p.nodes))
	for i, n := range p.nodes {
		out[i] = p.view(n, now)
	}
	return out
}

func (p *Pool) view(n *Node, now time.Time) schema.NodeView {
	v := schema.NodeView{Name: n.name, Chain: n.chain, State: n.state, Reason: n.reason, Since: n.since,
		Cordoned: n.cordoned, Latency: n.latency.quantiles()}
	if v.Chain == 0 {
		v.Chain = p.chain // what is expected of it, until it has said
	}
	if !votes(n.state) || n.heard.IsZero() {
		return v // what its head was is not what it is
	}
	height := n.head.Number
	v.Height = &height
	if p.tip != nil {
		lag := p.lag(n)
		v.Lag = &lag
	}
	if v.Reason == "" && n.state == schema.NodeReady {
		v.Reason = p.remark(n, now)
	}
	return v
}

// remark says what is to be known of a node that is ready. The caller holds mu.
func (p *Pool) remark(n *Node, now time.Time) string {
	switch {
	case now.Before(n.rest):
		return fmt.Sprintf("left alone for %s", n.rest.Sub(now).Round(time.Millisecond))
	case n.jumped:
		return "ahead of what other nodes have"
	case !p.corroborated:
		return "uncorroborated: no other node confirms its head"
	case n.syncing:
		return "says that it is syncing"
	}
	return ""
}

// Failures returns how often each node could not be used since New, by name.
func (p *Pool) Failures() map[string]uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string]uint64, len(p.nodes))
	for _, n := range p.nodes {
		out[n.name] = n.failed
	}
	return out
}

// Events returns the oldest transitions, at most most, that no earlier call has returned.
func (p *Pool) Events(most int) []schema.NodeEvent {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := slices.Clone(p.events[:min(most, len(p.events))])
	p.events = slices.Delete(p.events, 0, len(out))
	return out
}

// Cordon keeps a node from being used until Uncordon. It is still probed, and still counts for the tip.
func (p *Pool) Cordon(name string) error { return p.setCordon(name, true) }

// Uncordon ends a Cordon. A node that was found on another chain, or that is in quarantine, is looked at anew: the
// operator says that it has been seen to.
func (p *Pool) Uncordon(name string) error { return p.setCordon(name, false) }

func (p *Pool) setCordon(name string, on bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if n.name != name {
			continue
		}
		if n.cordoned != on {
			n.cordoned = on
			p.log.WithFields(logrus.Fields{"node": name, "cordoned": on}).Warn("operator changed a node's cordon")
		}
		if !on {
			p.clear(n)
		}
		signal(p.changed)
		return nil
	}
	return fmt.Errorf("no node is called %q", name)
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
