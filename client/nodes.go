package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/schema"
)

// asker is one node as the follower uses it: one that was found to be on the right chain.
type asker interface {
	Name() string
	Ask(ctx context.Context, method string, args ...any) (json.RawMessage, error)
}

// source chooses the node to ask. The order of preference below is one; a pool that probes its nodes can be another.
type source interface {
	// Pick returns the node to use for the next step and the chain id that all of them share.
	Pick(ctx context.Context) (asker, uint64, error)
	// Fault tells that the node could not be used for its step.
	Fault(n asker, err error)
	// Head tells what the node says is its latest block.
	Head(n asker, h schema.Header)
	// Stalled tells that the node has had no new head for long. It returns whether Pick will now give another, one
	// that is ahead.
	Stalled(ctx context.Context, n asker) bool
	// Views returns what is known of every node.
	Views() []schema.NodeView
}

var (
	errWrongChain = errors.New("node is on another chain")
	errNoNode     = errors.New("no node can be asked")
)

// How long a node that failed is left alone when there is another: doubled at each failure in a row. It is tried again
// after that, before those further down the list.
const (
	benchFirst = 2 * time.Second
	benchMost  = 5 * time.Minute
	reverify   = 5 * time.Minute // a balancer behind one URL may change what stands there
)

// nodeList is a source in plain order of preference: the first node that works.
type nodeList struct {
	log   logrus.FieldLogger
	now   func() time.Time // monotonic
	fixed bool             // the chain id was configured
	all   []*member

	surveyed bool

	mu    sync.Mutex // guards chain and what Views reads of the members
	chain uint64
}

// member is a node with how it has been doing.
type member struct {
	*node
	verified time.Time // when its chain id was last read on this connection; zero: not yet
	until    time.Time // not asked before, unless no other is left
	firm     bool      // until holds even if no other is left: it said so, or it is on another chain
	failures int       // in a row

	errors uint64
	view   schema.NodeView
}

func (m *member) Name() string { return m.name }

// Ask implements asker.
func (m *member) Ask(ctx context.Context, method string, args ...any) (json.RawMessage, error) {
	within := m.timeout
	if len(args) == 2 && method == "eth_getBlockByNumber" {
		if full, ok := args[1].(bool); ok && !full { // a header and hashes, for following the head
			within = quickCall
		}
	}
	return m.call(ctx, within, method, args...)
}

func newNodeList(o Options) (*nodeList, error) {
	addresses, err := parseNodes(o.Nodes)
	if err != nil {
		return nil, err
	}
	l := &nodeList{log: o.Log, now: time.Now, chain: o.Chain, fixed: o.Chain != 0}
	for _, a := range addresses {
		m := &member{node: newNode(a, o)}
		m.view = schema.NodeView{Name: a.name, Chain: o.Chain, State: schema.NodeUnknown, Since: o.Now()}
		l.all = append(l.all, m)
	}
	return l, nil
}

// Pick implements source: the first node that is not on the bench and on the right chain, else the one whose bench
// ends first.
func (l *nodeList) Pick(ctx context.Context) (asker, uint64, error) {
	now := l.now()
	var (
		last   error
		sooner *member
	)
	for _, m := range l.all {
		switch {
		case !now.Before(m.until):
			if last = l.verify(ctx, m); last == nil {
				l.survey(ctx, m)
				return m, l.chainID(), nil
			}
		case !m.firm && (sooner == nil || m.until.Before(sooner.until)):
			sooner = m
		}
		if ctx.Err() != nil {
			return nil, 0, ctx.Err()
		}
	}
	if sooner != nil {
		if last = l.verify(ctx, sooner); last == nil {
			return sooner, l.chainID(), nil
		}
	}
	if last == nil {
		last = errors.New("each is on another chain or asked to be left alone")
	}
	return nil, 0, fmt.Errorf("%w: %w", errNoNode, last)
}

// survey reads the chain ids of the other nodes once, so that a node on another chain is known from the start and not
// only when it is needed.
func (l *nodeList) survey(ctx context.Context, first *member) {
	if l.surveyed {
		return
	}
	l.surveyed = true
	var all sync.WaitGroup
	for _, m := range l.all {
		if m != first && m.verified.IsZero() && !l.now().Before(m.until) {
			all.Go(func() { _ = l.verify(ctx, m) }) // noted as its fault
		}
	}
	all.Wait()
}

// verify makes sure that the node is connected and was found to be on the right chain.
func (l *nodeList) verify(ctx context.Context, m *member) error {
	if !m.verified.IsZero() && l.now().Sub(m.verified) < reverify {
		return nil
	}
	dialCtx, cancel := context.WithTimeout(ctx, quickCall)
	defer cancel()
	err := m.dial(dialCtx)
	var id uint64
	if err == nil {
		id, err = m.chainID(ctx)
	}
	if err == nil {
		err = l.compare(m, id)
	}
	if err != nil {
		l.Fault(m, err)
		return err
	}
	m.verified = l.now()
	return nil
}

// compare holds a node's chain id against everyone's; the first node to answer sets it if it was not configured.
func (l *nodeList) compare(m *member, id uint64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chain == 0 {
		l.chain = id
		l.log.WithFields(logrus.Fields{"node": m.name, "chain": id}).Info("chain id taken from the first node that answered")
	}
	m.view.Chain = id
	if id == l.chain {
		return nil
	}
	why := "the first node to answer"
	if l.fixed {
		why = "configured"
	}
	return &nodeError{node: m.name, method: "eth_chainId", cause: errWrongChain,
		text: fmt.Sprintf("chain %d, but %d is %s: not used", id, l.chain, why)}
}

func (l *nodeList) chainID() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.chain
}

// Fault implements source: the node goes to the bench, and its connection and chain id must be made sure of again.
func (l *nodeList) Fault(a asker, err error) {
	m := a.(*member)
	var status *statusError
	wrong := errors.Is(err, errWrongChain)
	asked := errors.As(err, &status) && status.retryAfter > 0
	pause := min(benchFirst<<min(m.failures, 8), benchMost)
	switch {
	case wrong:
		pause = benchMost
	case asked:
		pause = status.retryAfter
	}
	m.firm = wrong || asked
	m.failures++
	m.until = l.now().Add(pause)
	m.verified = time.Time{}
	m.hangUp()
	l.mu.Lock()
	defer l.mu.Unlock()
	m.errors++
	state := schema.NodeQuarantined
	if wrong {
		state = schema.NodeWrongChain
	}
	l.become(m, state, reason(err))
}

// Head implements source. A head is the proof that the node works.
func (l *nodeList) Head(a asker, h schema.Header) {
	m := a.(*member)
	m.failures = 0
	l.mu.Lock()
	defer l.mu.Unlock()
	m.view.Height = &h.Number
	l.become(m, schema.NodeReady, "")
}

// become notes a node's state, logging changes only. The caller holds mu.
func (l *nodeList) become(m *member, state schema.NodeState, why string) {
	changed := m.view.State != state
	m.view.Reason = why
	if !changed {
		return
	}
	log := l.log.WithFields(logrus.Fields{"node": m.name, "state": state, "was": m.view.State})
	m.view.State, m.view.Since = state, l.now()
	if why == "" {
		log.Info("node is in use")
		return
	}
	m.view.Height = nil // what it was is not what it is
	log.WithField("reason", why).Warn("node is not used for now")
}

// Stalled implements source: it looks for a node with a higher head, in order of preference. If there is one, those
// before it that have none, the node itself among them, go to the bench.
func (l *nodeList) Stalled(ctx context.Context, a asker) bool {
	m := a.(*member)
	l.mu.Lock()
	height := m.view.Height
	l.mu.Unlock()
	if height == nil {
		return false
	}
	stuck := []*member{m}
	for _, other := range l.all {
		if other == m || l.now().Before(other.until) || l.verify(ctx, other) != nil {
			continue
		}
		switch h, err := latest(ctx, other); {
		case err != nil:
			l.Fault(other, err)
		case h.Number <= *height:
			stuck = append(stuck, other)
		default:
			for _, s := range stuck {
				l.Fault(s, &nodeError{node: s.name, method: "eth_getBlockByNumber", cause: errStalled,
					text: fmt.Sprintf("head stays at %d while node %s has %d", *height, other.name, h.Number)})
			}
			return true
		}
	}
	return false
}

var errStalled = errors.New("head does not move")

// Views implements source.
func (l *nodeList) Views() []schema.NodeView {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]schema.NodeView, len(l.all))
	for i, m := range l.all {
		out[i] = m.view
		if m.view.Chain == 0 {
			out[i].Chain = l.chain // what is expected of it, until it has said
		}
		if h := m.view.Height; h != nil {
			height := *h
			out[i].Height = &height
		}
	}
	return out
}

// faults returns how often each node failed.
func (l *nodeList) faults() map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[string]uint64, len(l.all))
	for _, m := range l.all {
		out[m.name] = m.errors
	}
	return out
}

// close drops all connections.
func (l *nodeList) close() {
	for _, m := range l.all {
		m.hangUp()
	}
}

// latest asks for the node's latest head and recomputes its hash.
func latest(ctx context.Context, n asker) (schema.Header, error) {
	const method = "eth_getBlockByNumber"
	raw, err := n.Ask(ctx, method, "latest", false)
	if err != nil {
		return schema.Header{}, err
	}
	h, err := chain.DecodeHead(raw)
	if err != nil {
		return h, badAnswer(n, method, err)
	}
	return h, nil
}

// badAnswer is the error for an answer that arrived well and says something wrong.
func badAnswer(n asker, method string, err error) error {
	return &nodeError{node: n.Name(), method: method, text: address{}.clean(err.Error()), cause: err}
}

// reason is an error's text without the node's name, which stands beside it already.
func reason(err error) string {
	var e *nodeError
	if errors.As(err, &e) {
		return e.method + ": " + e.text
	}
	return err.Error()
}
