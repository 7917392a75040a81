package wire

import (
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
	return r, nil
}

// AppendStatus appends an S frame. It fails if the report breaks a limit.
func AppendStatus(dst []byte, r schema.Report) ([]byte, error) {
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

func checkReport(r *schema.Report) error {
	for i, h := range r.Heads {
		if !validChain(h.Chain) || !schema.ValidName(h.Node) || !validPoint(&h.Latest) ||
			!validPoint(h.Safe) || !validPoint(h.Finalized) {
			return errorf(CodeProtocol, "status: head %d lacks its chain, node or hash", i)
		}
	}
	for i, n := range r.Nodes {
		if !validChain(n.Chain) || !schema.ValidName(n.Name) || !schema.ValidName(string(n.State)) {
			return errorf(CodeProtocol, "status: node %d lacks its chain, name or state", i)
		}
	}
	for i, g := range r.Gaps {
		if !validChain(g.Chain) || g.From > g.To || g.To > maxNumber {
			return errorf(CodeProtocol, "status: gap %d lacks its chain or ends before it begins", i)
		}
	}
	return nil
}

func validChain(c uint64) bool { return c != schema.BareChain && c <= maxNumber }

// validPoint accepts nil: a node need not tell what is safe or finalized.
func validPoint(p *schema.Point) bool {
	return p == nil || (!p.Hash.IsZero() && p.Number <= maxNumber)
}
