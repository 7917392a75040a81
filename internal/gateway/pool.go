package gateway

import (
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// Pool knows the nodes. Its methods are called at every request, from many goroutines, and must not block.
type Pool interface {
	// Upstreams are the nodes that may be used now, best first. Neither side changes the slice.
	Upstreams() []Upstream
	// Tip is the height that the pool stands behind as the newest; ok is false while it knows none.
	Tip() (height uint64, ok bool)
	// Report says how an exchange with a node went: nil for any answer to the question asked, errors of JSON-RPC
	// included. An error with a method RetryAfter() time.Duration carries the node's wish to be left alone.
	Report(node string, err error)
}

// Upstream is one node, as the gateway needs to know it.
type Upstream struct {
	Name      string        // for headers, metrics and logs
	URL       string        // http or https
	WebSocket string        // ws or wss; empty: the node serves no subscriptions
	Header    http.Header   // sent with every request, as credentials are; may be nil
	Height    uint64        // of its newest block
	Latency   time.Duration // of its recent answers; 0: not known
}

// sightingLife is how long a block that a node has shown raises its height above what the pool says of it. By then the
// pool has asked the node itself, several times.
const sightingLife = 10 * time.Second

// node is what the gateway keeps of an upstream between requests.
type node struct {
	name   string
	addr   string // as the pool gave it
	url    *url.URL
	header http.Header // of what may be sent again by net/http, where a kept connection turns out to be closed
	shown  []string    // the value of the response header that names it
	busy   atomic.Int64
	timers sync.Map // by method: prometheus.Observer

	headerOnce http.Header // of what may not

	mu     sync.Mutex // guards what follows
	height uint64     // of the highest block that it has shown
	at     time.Time  // when
}

// saw notes that the node has shown a block.
func (n *node) saw(height uint64, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if height >= n.height || now.Sub(n.at) > sightingLife {
		n.height, n.at = height, now
	}
}

func (n *node) sighted(now func() time.Time) uint64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.height > 0 && now().Sub(n.at) > sightingLife {
		n.height = 0
	}
	return n.height
}

// candidate is a node that may be asked now.
type candidate struct {
	*node
	ws      string
	height  uint64
	latency time.Duration
}

// roster remembers nodes by name, as long as their addresses stay.
type roster struct {
	pool Pool
	now  func() time.Time

	mu    sync.Mutex // guards nodes
	nodes map[string]*node
}

// candidates are the nodes that may be used now, in the pool's order.
func (r *roster) candidates() []candidate {
	upstreams := r.pool.Upstreams()
	out := make([]candidate, 0, len(upstreams))
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range upstreams {
		u := &upstreams[i]
		n := r.nodes[u.Name]
		if n == nil || n.addr != u.URL {
			if n = newNode(u); n == nil {
				continue
			}
			r.nodes[u.Name] = n
		}
		out = append(out, candidate{n, u.WebSocket, max(u.Height, n.sighted(r.now)), u.Latency})
	}
	return out
}

// newNode is nil for an address that no request can be sent to.
func newNode(u *Upstream) *node {
	address, err := url.Parse(u.URL)
	if err != nil || address.Host == "" || address.Scheme != "http" && address.Scheme != "https" {
		return nil
	}
	header := make(http.Header, len(u.Header)+3)
	for name, values := range u.Header {
		header[http.CanonicalHeaderKey(name)] = values
	}
	if address.User != nil && header.Get("Authorization") == "" {
		password, _ := address.User.Password()
		req := http.Request{Header: header}
		req.SetBasicAuth(address.User.Username(), password)
	}
	address.User = nil
	header.Set("Content-Type", "application/json")
	header.Set("Accept", "application/json")
	header.Set("User-Agent", "firstseen-gateway")
	n := &node{name: u.Name, addr: u.URL, url: address, header: header, headerOnce: header.Clone(), shown: []string{u.Name}}
	n.header["X-Idempotency-Key"] = nil // tells http.Transport, and is not sent
	return n
}
