package statsapi

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"math"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/firstseen/firstseen/schema"
)

const (
	// staleAfter is how old a view may be before it says nothing of the present: as long as servers wait for an observer.
	staleAfter = 25 * time.Second
	// defaultHistory is how many transitions a list shows of each node.
	defaultHistory = 5
)

// historyParam is how many transitions to show of each node.
type historyParam string

// Schema implements huma.SchemaProvider.
func (historyParam) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeInteger, Minimum: new(0.0), Default: defaultHistory}
}

func (p historyParam) read() (int, error) {
	if p == "" {
		return defaultHistory, nil
	}
	n, ok := decimal(string(p))
	if !ok {
		return 0, badParameter("history", string(p), "must be a whole number of 0 or more")
	}
	return int(min(n, maxLimit)), nil
}

// NodeQuery is what both operations select nodes by. It is exported for huma, which passes over embedded fields that are
// not.
type NodeQuery struct {
	Observer string     `query:"observer" doc:"Only what this observer says."`
	Chain    chainParam `query:"chain" doc:"Only nodes of this chain."`
	State    string     `query:"state" doc:"Only nodes in this state; of a history, transitions to it."`
	Limit    limitParam `query:"limit" doc:"Rows to answer; more than 100 gives 100."`
}

func (in *NodeQuery) read() (f schema.NodeFilter, limit int, err error) {
	if f.Observer, err = nameParameter("observer", in.Observer); err != nil {
		return f, 0, err
	}
	state, err := nameParameter("state", in.State)
	if err != nil {
		return f, 0, err
	}
	f.State = schema.NodeState(state)
	chain, err := in.Chain.read()
	if err != nil {
		return f, 0, err
	}
	if chain != nil {
		f.Chain = *chain
	}
	limit, err = in.Limit.read()
	return f, limit, err
}

func nameParameter(name, value string) (string, error) {
	if value != "" && !schema.ValidName(value) {
		return "", badParameter(name, value, "must be 1 to 64 of A-Z a-z 0-9 . _ -")
	}
	return value, nil
}

type nodesInput struct {
	NodeQuery

	Node    string       `query:"node" doc:"Only nodes of this name."`
	History historyParam `query:"history" doc:"Transitions to show of each node; more than 100 gives 100."`
	Cursor  string       `query:"cursor" doc:"Go on after an earlier answer."`
}

type nodesOutput struct{ Body NodeList }

func (a *API) listNodes(ctx context.Context, in *nodesInput) (*nodesOutput, error) {
	f, limit, err := in.read()
	if err != nil {
		return nil, err
	}
	if f.Node, err = nameParameter("node", in.Node); err != nil {
		return nil, err
	}
	history, err := in.History.read()
	if err != nil {
		return nil, err
	}
	var after *schema.NodePlace
	if in.Cursor != "" {
		if after, err = decodeNodeCursor(in.Cursor); err != nil {
			return nil, err
		}
	}
	list, err := a.nodeList(ctx, f, after, limit)
	if err != nil {
		return nil, err
	}
	if err := a.addHistories(ctx, list.Data, history); err != nil {
		return nil, err
	}
	return &nodesOutput{Body: *list}, nil
}

// nodeList reads one part of the list, without histories.
func (a *API) nodeList(
	ctx context.Context, f schema.NodeFilter, after *schema.NodePlace, limit int,
) (*NodeList, error) {
	found, err := a.opts.Store.Nodes(ctx, f, after, limit+1)
	if err != nil {
		return nil, err
	}
	out := &NodeList{}
	if len(found) > limit { // one more was asked for, to know whether there is more
		found = found[:limit]
		cursor := encodeNodeCursor(placeOf(found[limit-1]))
		out.NextCursor = &cursor
	}
	out.Data = make([]Node, len(found))
	for i, n := range found {
		out.Data[i] = nodeOf(n)
	}
	return out, nil
}

func (a *API) addHistories(ctx context.Context, nodes []Node, limit int) error {
	places, index := make([]schema.NodePlace, len(nodes)), make(map[schema.NodePlace]int, len(nodes))
	for i, n := range nodes {
		places[i] = schema.NodePlace{Observer: n.Observer, Chain: uint64(n.Chain), Node: n.Name}
		index[places[i]] = i
	}
	events, err := a.opts.Store.NodeHistories(ctx, places, limit)
	if err != nil {
		return err
	}
	for _, e := range events {
		if i, ok := index[schema.NodePlace{Observer: e.Observer, Chain: e.Chain, Node: e.Node}]; ok {
			nodes[i].History = append(nodes[i].History, transitionOf(e))
		}
	}
	return nil
}

type nodeInput struct {
	Name string `path:"name" doc:"What its observers call the node."`
	NodeQuery
}

type nodeOutput struct{ Body NodeDetail }

// getNode also knows a node that no observer reports any more, for as long as its transitions are kept.
func (a *API) getNode(ctx context.Context, in *nodeInput) (*nodeOutput, error) {
	f, limit, err := in.read()
	if err != nil {
		return nil, err
	}
	if !schema.ValidName(in.Name) {
		return nil, notFound("no node %q: a name is 1 to 64 of A-Z a-z 0-9 . _ -", clip(in.Name))
	}
	f.Node = in.Name
	list, err := a.nodeList(ctx, f, nil, maxLimit)
	if err != nil {
		return nil, err
	}
	events, err := a.opts.Store.NodeEvents(ctx, f, limit)
	if err != nil {
		return nil, err
	}
	if len(list.Data)+len(events) == 0 {
		return nil, notFound("no observer has reported such a node %q in the last 24 hours", in.Name)
	}
	out := NodeDetail{Name: in.Name, Views: make([]NodeView, len(list.Data)), History: make([]ObservedTransition, len(events))}
	for i, n := range list.Data {
		out.Views[i] = n.NodeView
	}
	for i, e := range events {
		out.History[i] = ObservedTransition{Observer: e.Observer, Chain: Number(e.Chain), Transition: transitionOf(e)}
	}
	return &nodeOutput{Body: out}, nil
}

func (a *API) routeNodes() {
	get(a, "/v1/nodes", "listNodes", "What each observer thinks of its nodes", a.listNodes)
	get(a, "/v1/nodes/{name}", "getNode", "One node, as all its observers see it", a.getNode,
		http.StatusNotFound)
}

func placeOf(n schema.ObservedNode) schema.NodePlace {
	return schema.NodePlace{Observer: n.Observer, Chain: n.Chain, Node: n.Name}
}

func nodeOf(n schema.ObservedNode) Node {
	out := Node{
		NodeView: NodeView{
			Observer: n.Observer, Name: n.Name, Chain: Number(n.Chain), State: string(n.State), Reason: n.Reason,
			Height: optional(n.Height), Lag: optional(n.Lag), Since: Time{n.Since}, Cordoned: n.Cordoned,
			ReportedAt: Time{n.ReportedAt}, AgeSeconds: n.Age.Seconds(), Stale: n.Age > staleAfter,
		},
		History: []Transition{},
	}
	if n.Latency != nil {
		p50, p99 := n.Latency.P50/1000, n.Latency.P99/1000
		out.LatencyP50, out.LatencyP99 = &p50, &p99
	}
	return out
}

func transitionOf(e schema.ObservedEvent) Transition {
	return Transition{
		From: string(e.From), To: string(e.To), Reason: e.Reason, At: Time{e.At}, ReceivedAt: Time{e.ReceivedAt},
	}
}

// nodeCursorVersion is the first byte of a cursor into the list of nodes; it differs from that of other lists.
const nodeCursorVersion = 2

func encodeNodeCursor(p schema.NodePlace) string {
	b := binary.AppendUvarint([]byte{nodeCursorVersion}, p.Chain)
	b = append(append(append(b, p.Observer...), '/'), p.Node...) // no name has a slash
	return base64.RawURLEncoding.EncodeToString(b)
}

func decodeNodeCursor(s string) (*schema.NodePlace, error) {
	bad := badParameter("cursor", s, "must be one that an answer gave")
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(b) == 0 || b[0] != nodeCursorVersion {
		return nil, bad
	}
	chain, n := binary.Uvarint(b[1:])
	if n <= 0 || chain > math.MaxInt64 {
		return nil, bad
	}
	observer, node, _ := bytes.Cut(b[1+n:], []byte("/"))
	p := &schema.NodePlace{Observer: string(observer), Chain: chain, Node: string(node)}
	if !schema.ValidName(p.Observer) || !schema.ValidName(p.Node) {
		return nil, bad
	}
	return p, nil
}
