package nodepool

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// usable tells whether a node may be used: it is ready, no operator keeps it out, and it is not left alone for now. The
// caller holds mu.
func (p *Pool) usable(n *Node, now time.Time) bool {
	return n.state == schema.NodeReady && !n.cordoned && !now.Before(n.rest) && p.fresh(n, now)
}

// late tells whether a node that is ready has failed since: its latest probe did, or is overdue. The caller holds mu.
func (p *Pool) late(n *Node, now time.Time) bool {
	return n.misses > 0 || now.Sub(n.heard) > max(2*p.o.Poll, p.o.Stale/2)
}

// rank orders usable nodes: the lower, the better. The caller holds mu.
func (p *Pool) rank(n *Node, now time.Time) int {
	var r int
	for _, flaw := range []bool{n.trails, n.syncing, n.jumped, n.kept, p.late(n, now)} { // the last weighs most
		r <<= 1
		if flaw {
			r++
		}
	}
	return r
}

// better orders nodes for Pick. The caller holds mu.
func (p *Pool) better(n *Node, now time.Time) int {
	r := p.rank(n, now)
	if now.Before(n.benched) {
		r += 1 << 8 // the weightiest flaw of all: its last use failed
	}
	return r
}

// Pick returns the node for an observer to use next, with its latest verified head: the pinned one, else the one used
// before as long as no other is better, else the best in the order of Options.Nodes. The error is ErrNoNode, with what
// is wrong with each.
func (p *Pool) Pick() (*Node, schema.Header, error) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *Node
	for _, n := range p.nodes {
		if !p.usable(n, now) || p.o.Pin != "" && n.name != p.o.Pin {
			continue
		}
		if best == nil || p.better(n, now) < p.better(best, now) {
			best = n
		}
	}
	if best == nil {
		return nil, schema.Header{}, fmt.Errorf("%w: %s", ErrNoNode, p.faults())
	}
	if c := p.current; c != nil && p.usable(c, now) && (p.o.Pin == "" || c.name == p.o.Pin) &&
		p.better(c, now) <= p.better(best, now) {
		best = c
	}
	if p.current != best {
		log := p.log.WithField("node", best.name)
		if p.current != nil {
			log = log.WithField("was", p.current.name)
		}
		log.Info("node is in use")
	}
	p.current = best
	return best, best.head, nil
}

// Fault tells that a node could not be used although its head was good. Another is preferred for a while; a node that
// fails Options.Misses times in a row, or whose answer was forged, is out.
func (p *Pool) Fault(n *Node, err error) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	n.failed++
	n.faults++
	n.good = 0
	n.doubt()
	p.yield(n, now, err)
	p.spend(n, now)
	n.benched = now.Add(p.jitter(min(2*p.o.Poll<<min(n.faults, 8), p.o.Pause)))
	switch {
	case isForged(err):
		p.on(n, forged, now, reason(err))
	case n.faults >= p.o.Misses:
		p.on(n, lost, now, fmt.Sprintf("unusable %d times, the last: %s", n.faults, reason(err)))
	default:
		p.log.WithField("node", n.name).WithField("reason", reason(err)).Warn("node could not be used")
	}
	p.rescue(now)
}

// Used tells that a node was used well.
func (p *Pool) Used(n *Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n.faults, n.failures, n.benched = 0, 0, time.Time{}
}

// Upstream is a node that may be used by others.
type Upstream struct {
	Name    string
	URL     string      // without user and password; its path and query may hold a key all the same: never to be logged
	WS      string      // the same for WebSocket; empty: the node has none
	Header  http.Header // to be sent to it: its credentials
	Height  uint64
	Latency time.Duration // the median of its recent answers
}

// Serving returns the nodes that may be used now, the best first: those that answer, then those that are quicker.
func (p *Pool) Serving() []Upstream {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	type ranked struct {
		Upstream
		rank int
	}
	var all []ranked
	for _, n := range p.nodes {
		if p.usable(n, now) {
			all = append(all, ranked{n.upstream(), p.rank(n, now)})
		}
	}
	slices.SortStableFunc(all, func(a, b ranked) int {
		if a.rank != b.rank {
			return a.rank - b.rank
		}
		return int(a.Latency - b.Latency)
	})
	out := make([]Upstream, len(all))
	for i, r := range all {
		out[i] = r.Upstream
	}
	return out
}

func (n *Node) upstream() Upstream {
	u := Upstream{Name: n.name, Height: n.head.Number, Header: http.Header{}}
	u.URL, u.WS = bareURL(n.url, u.Header), bareURL(n.ws, u.Header)
	if q := n.latency.quantiles(); q != nil {
		u.Latency = time.Duration(q.P50 * float64(time.Millisecond))
	}
	return u
}

// bareURL moves user and password of a URL into a header (RFC 7617).
func bareURL(raw string, header http.Header) string {
	u, err := url.Parse(raw)
	if err != nil || u.User == nil {
		return raw
	}
	password, _ := u.User.Password()
	r := http.Request{Header: header}
	r.SetBasicAuth(u.User.Username(), password)
	u.User = nil
	return u.String()
}

// Report tells how a call to a node went that Serving named, nil for well: an answer with a JSON-RPC error is well too.
// Options.Breaker failures in a row open the node's breaker for a while. An error with a method RetryAfter()
// time.Duration has the node left alone for so long.
func (p *Pool) Report(name string, err error) {
	now := p.o.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.nodes {
		if n.name != name {
			continue
		}
		if err == nil {
			n.failures = 0
			return
		}
		n.failed++
		p.yield(n, now, err)
		p.spend(n, now)
	}
}

// spend counts a failed call, and opens the breaker when there were too many in a row. The caller holds mu.
func (p *Pool) spend(n *Node, now time.Time) {
	if n.failures++; n.failures < p.o.Breaker {
		return
	}
	n.failures = p.o.Breaker / 2 // closed again, it opens sooner
	until := now.Add(p.jitter(p.o.Pause))
	if until.After(n.rest) {
		n.rest = until
	}
	p.log.WithField("node", n.name).WithField("failures", p.o.Breaker).Warn("calls keep failing: node left alone for a while")
}

// jitter is between a half and the whole of d, so that observers do not come back as one.
func (p *Pool) jitter(d time.Duration) time.Duration {
	return d/2 + time.Duration(p.o.Rand()*float64(d/2))
}
