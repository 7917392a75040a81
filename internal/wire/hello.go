package wire

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/firstseen/firstseen/schema"
)

// suffix ends a HELLO. With Prefix it makes the frame an HTML comment, so that a server which stores whatever it gets
// stores something harmless.
const suffix = "-->"

// Hello is what a client says of itself in its first frame.
type Hello struct {
	Observer string   `json:"observer"`
	Chains   []uint64 `json:"chains"`          // the chains it will send, each once, never 0
	Caps     []string `json:"caps"`            // names of optional parts of the protocol that it speaks
	Token    string   `json:"token,omitempty"` // visible ASCII; sent only over verified TLS
}

// IsHello tells whether a connection's first frame asks for relay mode, whatever its version and however broken.
func IsHello(first []byte) bool { return bytes.HasPrefix(first, []byte(Prefix)) }

// ParseHello parses a first frame of which IsHello is true. Its error's code is size, version or protocol.
func ParseHello(content []byte) (Hello, error) {
	if len(content) > MaxHello {
		return Hello{}, errorf(CodeSize, "hello of %d bytes, at most %d", len(content), MaxHello)
	}
	text, err := helloJSON(content)
	if err != nil {
		return Hello{}, err
	}
	var h Hello
	if err := decode(text, &h); err != nil {
		return Hello{}, errorf(CodeProtocol, "hello: %v", err)
	}
	if err := h.check(); err != nil {
		return Hello{}, err
	}
	return h, nil
}

// helloJSON checks prefix, version and suffix, and returns what is between them.
func helloJSON(content []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(content, []byte(Prefix))
	if !ok {
		return nil, errorf(CodeProtocol, "hello does not begin with %s", Prefix)
	}
	version, rest, ok := bytes.Cut(rest, []byte(" "))
	if !ok || !decimal(version) {
		return nil, errorf(CodeProtocol, "hello has no version")
	}
	if string(version) != strconv.Itoa(Version) {
		return nil, errorf(CodeVersion, "this server speaks version %d", Version)
	}
	text, ok := bytes.CutSuffix(rest, []byte(suffix))
	if !ok || bytes.Contains(text, []byte(suffix)) {
		return nil, errorf(CodeProtocol, "hello is not one HTML comment")
	}
	return text, nil
}

func (h *Hello) check() error {
	switch {
	case !schema.ValidName(h.Observer):
		return errorf(CodeProtocol, "hello: observer is not 1 to 64 of A-Z a-z 0-9 . _ -")
	case len(h.Chains) > MaxChains:
		return errorf(CodeProtocol, "hello: more than %d chains", MaxChains)
	case len(h.Token) > MaxToken || !visible(h.Token):
		return errorf(CodeProtocol, "hello: token is not at most %d visible ASCII characters", MaxToken)
	}
	for i, c := range h.Chains {
		if c == schema.BareChain || slices.Contains(h.Chains[:i], c) {
			return errorf(CodeProtocol, "hello: chain %d is 0 or named twice", c)
		}
	}
	return checkCaps(h.Caps)
}

func checkCaps(caps []string) error {
	if len(caps) > MaxCaps || slices.ContainsFunc(caps, func(c string) bool { return !schema.ValidName(c) }) {
		return errorf(CodeProtocol, "caps are not at most %d names of 1 to 64 of A-Z a-z 0-9 . _ -", MaxCaps)
	}
	return nil
}

func visible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// AppendHello appends the content of a HELLO. It fails if h breaks a limit.
func AppendHello(dst []byte, h Hello) ([]byte, error) {
	if err := h.check(); err != nil {
		return dst, err
	}
	start := len(dst)
	out := append(dst, Prefix...)
	out = append(strconv.AppendInt(out, Version, 10), ' ')
	out, err := encode(out, h)
	if err != nil {
		return dst, err
	}
	if out = append(out, suffix...); len(out)-start > MaxHello {
		return dst, errorf(CodeSize, "hello of %d bytes, at most %d", len(out)-start, MaxHello)
	}
	return out, nil
}
