package wire

import (
	"github.com/firstseen/firstseen/schema"
)

// Welcome is the server's answer to a HELLO: who it is and what it allows.
type Welcome struct {
	Server       string            `json:"server"`
	Session      string            `json:"session"` // names this connection in the server's log
	WindowFrames int               `json:"window_frames"`
	WindowBytes  int               `json:"window_bytes"`
	MaxFrame     int               `json:"max_frame"` // bytes of content
	PingMillis   int               `json:"ping_ms"`
	DeadMillis   int               `json:"dead_ms"`
	Chains       []schema.Position `json:"chains"` // of the chains in the HELLO those that the store knows
	Caps         []string          `json:"caps"`   // those of the HELLO's caps that the server speaks too
}

// ParseWelcome parses a W frame.
func ParseWelcome(content []byte) (Welcome, error) {
	var w Welcome
	if err := decodeTyped(content, TypeWelcome, &w); err != nil {
		return Welcome{}, errorf(CodeProtocol, "welcome: %v", err)
	}
	if err := w.check(); err != nil {
		return Welcome{}, err
	}
	return w, nil
}

func (w *Welcome) check() error {
	if !schema.ValidName(w.Server) || !schema.ValidName(w.Session) {
		return errorf(CodeProtocol, "welcome: server or session is not 1 to 64 of A-Z a-z 0-9 . _ -")
	}
	if min(w.WindowFrames, w.WindowBytes, w.MaxFrame, w.PingMillis, w.DeadMillis) < 1 {
		return errorf(CodeProtocol, "welcome: a limit is missing or below 1")
	}
	for _, p := range w.Chains {
		if p.Chain == schema.BareChain || p.Hash.IsZero() {
			return errorf(CodeProtocol, "welcome: a chain's position lacks its id or hash")
		}
		above := p.Number
		for _, back := range p.Back {
			if back.Number >= above || back.Hash.IsZero() {
				return errorf(CodeProtocol, "welcome: a chain's ancestors are out of order or lack a hash")
			}
			above = back.Number
		}
	}
	return checkCaps(w.Caps)
}

// AppendWelcome appends a W frame. It fails if w breaks a limit.
func AppendWelcome(dst []byte, w Welcome) ([]byte, error) {
	if err := w.check(); err != nil {
		return dst, err
	}
	out, err := encode(append(dst, TypeWelcome), w)
	if err != nil {
		return dst, err
	}
	return out, nil
}
