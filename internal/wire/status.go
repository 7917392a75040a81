package wire

import (
	"slices"

	"github.com/firstseen/firstseen/schema"
)

// ParseStatus parses an S frame. Its error's code is size or protocol.
func ParseStatus(content []byte) (schema.Report, error) {
	if len(content) > MaxStatus {
		return schema.Report{}, errorf(CodeSize, "status of %d bytes, at most %d", len(content), MaxStatus)
	}
	var r schema.Report
	if err := decodeTyped(content, TypeStatus, &r); err != nil {
		return schema.Report{}, errorf(CodeProtocol, "status: %v", err)
	}
	if err := checkReport(&r); err != nil {
		return schema.Report{}, err
	}
	for i := range r.Nodes {
		r.Nodes[i].Since = r.Nodes[i].Since.UTC()
	}
	for i := range r.Events {
		r.Events[i].At = r.Events[i].At.UTC()
	}
	return r, nil
}

// AppendStatus appends an S frame. The reasons of nodes and events are cleaned and cut to MaxText, since they quote
// what nodes answered; any other broken limit is an error: more than MaxNodes or MaxEvents are for the caller to
// spread over several reports.
func AppendStatus(dst []byte, r schema.Report) ([]byte, error) {
	r = cleanReport(r)
	if err := checkReport(&r); err != nil {
		return dst, err
	}
	out, err := encode(append(dst, TypeStatus), r)
	if err != nil {
		return dst, err
	}
	if size := len(out) - len(dst); size > MaxStatus {
		return dst, errorf(CodeSize, "status of %d bytes, at most %d", size, MaxStatus)
	}
	return out, nil
}

// cleanReport returns the report with reasons that may stand in a frame, and times in UTC; the caller's own stays as it
// is.
func cleanReport(r schema.Report) schema.Report {
	r.Nodes, r.Events = slices.Clone(r.Nodes), slices.Clone(r.Events)
	for i := range r.Nodes {
		r.Nodes[i].Reason, r.Nodes[i].Since = clean(r.Nodes[i].Reason), r.Nodes[i].Since.UTC()
	}
	for i := range r.Events {
		r.Events[i].Reason, r.Events[i].At = clean(r.Events[i].Reason), r.Events[i].At.UTC()
	}
	return r
}

func checkReport(r *schema.Report) error {
	if err := checkNodes(r.Nodes); err != nil {
		return err
	}
	if err := checkEvents(r.Events); err != nil {
		return err
	}
	for i, h := range r.Heads {
		if !validChain(h.Chain) || !schema.ValidName(h.Node) || !validPoint(&h.Latest) ||
			!validPoint(h.Safe) || !validPoint(h.Finalized) {
			return errorf(CodeProtocol, "status: head %d lacks its chain, node or hash", i)
		}
	}
	for i, g := range r.Gaps {
		if !validChain(g.Chain) || g.From > g.To || g.To > maxNumber {
			return errorf(CodeProtocol, "status: gap %d lacks its chain or ends before it begins", i)
		}
	}
	return nil
}

func checkNodes(nodes []schema.NodeView) error {
	if len(nodes) > MaxNodes {
		return errorf(CodeProtocol, "status: %d nodes, at most %d", len(nodes), MaxNodes)
	}
	for i, n := range nodes {
		switch {
		case !validChain(n.Chain) || !schema.ValidName(n.Name) || !schema.ValidName(string(n.State)):
			return errorf(CodeProtocol, "status: node %d lacks its chain, name or state", i)
		case !stampable(n.Since):
			return errorf(CodeProtocol, "status: node %d: since is missing or not of the years 1970 to 9999", i)
		case !validReason(n.Reason):
			return errorf(CodeProtocol, "status: node %d: reason is not at most %d bytes of printable UTF-8", i, MaxText)
		case n.Height != nil && *n.Height > maxNumber || n.Lag != nil && *n.Lag > maxNumber:
			return errorf(CodeProtocol, "status: node %d: height or lag exceeds 2^63-1", i)
		case n.Latency != nil && (!validMillis(n.Latency.P50) || !validMillis(n.Latency.P99)):
			return errorf(CodeProtocol, "status: node %d: latency is not 0 to %d ms", i, int64(maxMillis))
		}
	}
	return nil
}

func checkEvents(events []schema.NodeEvent) error {
	if len(events) > MaxEvents {
		return errorf(CodeProtocol, "status: %d events, at most %d", len(events), MaxEvents)
	}
	for i, e := range events {
		switch {
		case !validChain(e.Chain) || !schema.ValidName(e.Node):
			return errorf(CodeProtocol, "status: event %d lacks its chain or node", i)
		case !schema.ValidName(string(e.From)) || !schema.ValidName(string(e.To)):
			return errorf(CodeProtocol, "status: event %d lacks the state it comes from or leads to", i)
		case !stampable(e.At):
			return errorf(CodeProtocol, "status: event %d: at is missing or not of the years 1970 to 9999", i)
		case !validReason(e.Reason):
			return errorf(CodeProtocol, "status: event %d: reason is not at most %d bytes of printable UTF-8", i, MaxText)
		}
	}
	return nil
}

// validReason also accepts none.
func validReason(s string) bool { return len(s) <= MaxText && clean(s) == s }

const maxMillis = 1 << 31 // 24 days, as for a drain

func validMillis(ms float64) bool { return ms >= 0 && ms <= maxMillis } // false for NaN

func validChain(c uint64) bool { return c != schema.BareChain && c <= maxNumber }

// validPoint accepts nil: a node need not tell what is safe or finalized.
func validPoint(p *schema.Point) bool {
	return p == nil || (!p.Hash.IsZero() && p.Number <= maxNumber)
}
