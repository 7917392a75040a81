package gateway

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// session is what one caller has been told of the chain.
type session struct {
	height uint64    // of the newest head it was told
	at     time.Time // when it last was
}

// leeway is how far above the pool's tip a block may lie that a node shows on the way to a caller, and still count as
// the caller's head: a node that lies must not take a caller's "latest" to where nobody can follow.
const leeway = 10

// view is the chain as one request sees it, the same for every call of a batch.
type view struct {
	caller string
	head   uint64 // what "latest" means
	told   uint64 // the newest head that the caller was told
	least  uint64 // X-Min-Height, which every call of the request needs
}

// look settles what "latest" means to this caller now: the pool's tip, but never below what the caller was told.
func (g *Gateway) look(caller string, least uint64) view {
	v := view{caller: caller, least: least}
	g.sessions.Use(caller, false, func(s *session, now time.Time) {
		if now.Sub(s.at) <= g.opts.Session {
			v.told = s.height
		}
	})
	tip, _ := g.opts.Pool.Tip()
	v.head = max(tip, v.told, least)
	return v
}

// tell notes that the caller has learnt of a head.
func (g *Gateway) tell(caller string, height uint64) {
	g.sessions.Use(caller, true, func(s *session, now time.Time) {
		if height >= s.height || now.Sub(s.at) > g.opts.Session {
			s.height, s.at = height, now
		}
	})
}

// sawBlock notes that a node has shown a caller a block: "latest" is not below it from then on.
func (g *Gateway) sawBlock(caller string, n *node, height uint64) {
	if tip, ok := g.opts.Pool.Tip(); !ok || height <= tip || height > tip+leeway {
		return
	}
	n.saw(height, g.opts.Now())
	g.tell(caller, height)
}

// fit returns the nodes that have the height. Unless strict, those that have not come behind them, or alone. When there
// is none it waits, for a moment at most.
func (g *Gateway) fit(ctx context.Context, height uint64, strict bool) ([]candidate, *answer) {
	order, newest := g.order(height, strict)
	if len(order) > 0 {
		return order, nil
	}
	tick, end := time.NewTicker(g.opts.HeightWait/40+time.Millisecond), time.NewTimer(g.opts.HeightWait)
	defer tick.Stop()
	defer end.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, new(sorry(jsonrpc.CodeServer, "the request was given up").withStatus(http.StatusServiceUnavailable))
		case <-end.C:
			return nil, new(tooLow(height, newest))
		}
		if order, newest = g.order(height, strict); len(order) > 0 {
			return order, nil
		}
	}
}

// tooLow is the answer where no node has the height; newest is 0 when there are no nodes at all.
func tooLow(height, newest uint64) answer {
	if newest == 0 {
		return sorry(jsonrpc.CodeServer, "no node can be used now").withStatus(http.StatusServiceUnavailable)
	}
	a := sorry(jsonrpc.CodeNotFound, fmt.Sprintf("no node has block %d yet, the newest is %d", height, newest)).
		withStatus(http.StatusServiceUnavailable)
	a.newest = newest
	return a
}

// order lists the nodes to ask, in turn, and tells the height of the highest.
func (g *Gateway) order(height uint64, strict bool) (order []candidate, newest uint64) {
	all := g.roster.candidates()
	order = make([]candidate, 0, len(all))
	for _, c := range all {
		newest = max(newest, c.height)
		if c.height >= height {
			order = append(order, c)
		}
	}
	g.balance(order)
	if !strict {
		for _, c := range all {
			if c.height < height {
				order = append(order, c)
			}
		}
	}
	return order, newest
}

// balance puts first the better of two nodes drawn at random: the one with less to do, counted in time. It spreads
// requests over equal nodes and keeps most of them off slow ones (M. Mitzenmacher, "The Power of Two Choices").
func (g *Gateway) balance(order []candidate) {
	if len(order) < 2 {
		return
	}
	i := g.opts.Rand(len(order))
	j := g.opts.Rand(len(order) - 1)
	if j >= i {
		j++
	}
	if order[j].load() < order[i].load() {
		i = j
	}
	first := order[i]
	copy(order[1:], order[:i])
	order[0] = first
}

func (c *candidate) load() time.Duration {
	return time.Duration(c.busy.Load()+1) * max(c.latency, time.Millisecond)
}

// missing tells whether a result says that the node lacks the newest block, which it was asked for because it should
// have it.
func (c *call) missing(result []byte) bool {
	if !c.pinned || string(result) != "null" {
		return false
	}
	return c.Method == "eth_getBlockByNumber" || c.Method == "eth_getHeaderByNumber" || c.Method == "eth_getBlockReceipts"
}

// learn notes the block that an answer has shown to its caller: whoever sees that a transaction was included asks for
// the state after it next.
func (g *Gateway) learn(caller string, c *call, a answer, order []candidate) {
	if a.result == nil || c.Method != "eth_getTransactionReceipt" && c.Method != "eth_getTransactionByHash" {
		return
	}
	height, ok := blockNumber(a.result, "blockNumber")
	if !ok {
		return
	}
	for _, at := range order {
		if at.name == a.node {
			g.sawBlock(caller, at.node, height)
		}
	}
}

// blockNumber finds a quantity among the members of an object.
func blockNumber(object []byte, member string) (height uint64, ok bool) {
	_ = jsonrpc.Read(object, func(r *jsonrpc.Reader) error {
		if r.Kind() != '{' {
			return jsonrpc.ErrNotAnswer
		}
		return r.Members(func(name []byte) error {
			raw, _, err := r.Value()
			if err == nil && string(name) == member && len(raw) > 4 && string(raw[:3]) == `"0x` {
				height, err = strconv.ParseUint(string(raw[3:len(raw)-1]), 16, 63)
				ok = err == nil
			}
			return err
		})
	}, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	return height, ok
}

// pin replaces "latest" by a height in a call's parameters, so that whichever node is asked means the same block. It
// tells whether there was something to replace.
func (c *call) pin(head uint64) (pinned bool) {
	if c.tag == noTag {
		return false
	}
	number := `"` + jsonrpc.Quantity(head) + `"`
	var out []byte
	from, count := 0, 0
	replace := func(at, end int) {
		out = append(append(out, c.Params[from:at]...), number...)
		from, pinned = end, true
	}
	if c.Params != nil {
		err := jsonrpc.Read(c.Params, func(r *jsonrpc.Reader) error {
			return r.Elements(func(i int) error {
				count++
				return latest(r, i == c.tag, c.byTip, replace)
			})
		})
		if err != nil { // they have been read before
			return false
		}
	}
	if c.byTip && count == c.tag && count > 0 {
		out = append(append(out, c.Params[:lastBracket(c.Params)]...), ","+number+"]"...)
		c.Params = out
		return true
	}
	if pinned {
		c.Params = append(out, c.Params[from:]...)
	}
	return pinned
}

func lastBracket(array []byte) int {
	for i := len(array) - 1; ; i-- {
		if array[i] == ']' {
			return i
		}
	}
}

// latest reads a parameter and calls replace with the place of each "latest" in it: the parameter itself, a member of
// an object that names a block (EIP-1898), or an end of a range of logs.
func latest(r *jsonrpc.Reader, here, orNull bool, replace func(at, end int)) error {
	kind := r.Kind()
	if here && kind == '{' {
		return r.Members(func(name []byte) error {
			block := string(name) == "blockNumber" || string(name) == "fromBlock" || string(name) == "toBlock"
			return latest(r, block, false, replace)
		})
	}
	raw, at, err := r.Value()
	if err != nil || !here {
		return err
	}
	if kind == '"' && string(jsonrpc.Unquote(raw)) == "latest" || kind == 'n' && orNull {
		replace(at, at+len(raw))
	}
	return nil
}
