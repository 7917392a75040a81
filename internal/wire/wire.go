// Package wire encodes and parses the contents of the frames that observers and servers exchange: pure functions over
// bytes, no I/O. docs/WIRE.md states the protocol; schema/testdata/wire.json pins it down.
//
// In relay mode the first frame is a HELLO and each later one begins with a byte that tells its type. Parse functions
// take the whole content, that byte included, and refuse with an *Error. Append functions add a whole content to dst
// and return it; those that can fail return dst unchanged with the error.
package wire

import (
	"fmt"
	"time"
)

// Version is the major version of the relay protocol.
const Version = 1

// Prefix begins every HELLO, of any version. A connection whose first frame does not begin so is in bare mode.
const Prefix = "<!--firstseen/"

// The types of the frames that follow HELLO. Upper case: a peer that does not know the type ends the connection. Lower
// case is kept for later additions that a peer may skip.
const (
	TypeData   = 'D' // client: one observation
	TypeStatus = 'S' // client: a schema.Report
	TypePong   = 'O' // client: answer to a ping
	TypeBye    = 'B' // client: nothing more will come

	TypeWelcome = 'W' // server: answer to HELLO
	TypeAck     = 'A' // server: data frames up to n are settled and durable
	TypeRefusal = 'N' // server: data frame n is refused for good
	TypePing    = 'P' // server: say a word
	TypeDrain   = 'G' // server: send no more data frames here, leave within so many milliseconds
	TypeFatal   = 'E' // server: the last frame, and why
)

// Limits in bytes of frame content.
const (
	MaxHello  = 4 << 10
	MaxFrame  = 4 << 20
	MaxStatus = 256 << 10
	MaxText   = 200 // of the text in a refusal or a fatal frame, and of the reasons of nodes and events in a status
)

// Limits on the lists in a status. Frames of MaxStatus bound them too: reasons full of characters that JSON escapes reach
// it first.
const (
	MaxNodes  = 128 // views
	MaxEvents = 128 // transitions; a client with more has the rest wait for its next report
)

// The window: how much a client may have in data frames that are not yet acked or refused. One frame is always
// allowed.
const (
	WindowFrames = 1024
	WindowBytes  = 4 << 20 // of content
)

// Times that both sides keep to.
const (
	PingAfter      = 10 * time.Second // the server pings when it wrote nothing for so long
	DeadAfter      = 25 * time.Second // a peer that said nothing for so long is gone
	FrameTimeout   = 10 * time.Second // from a frame's first byte to its last
	WelcomeTimeout = 5 * time.Second  // from the client's HELLO to the server's answer
)

// CapRaw is the cap of those who send and take raw parts: a data frame may have one only on a connection whose HELLO and
// W both name it.
const CapRaw = "raw"

// Limits on the lists in a HELLO.
const (
	MaxChains = 64
	MaxCaps   = 32
	MaxToken  = 512
)

// Code is a machine-readable reason: 1 to 32 of a-z 0-9 _. A peer accepts codes that it does not know.
type Code string

// The codes of fatal frames.
const (
	CodeAuth     Code = "auth"     // stop: the token is missing, wrong or revoked
	CodeVersion  Code = "version"  // stop: another major version
	CodeProtocol Code = "protocol" // stop: the peer broke the protocol
	CodeSize     Code = "size"     // stop: a frame exceeds its maximum
	CodeBusy     Code = "busy"     // retry: too many connections, or shutting down
	CodeStore    Code = "store"    // retry: the store cannot take observations now
	CodeTimeout  Code = "timeout"  // retry: silence, or a frame begun and not completed
)

// The codes of refusals.
const (
	CodeMeta   Code = "meta"   // the observation's JSON is malformed or breaks a limit
	CodeHeader Code = "header" // the header does not decode, or does not hash to what the observation says
	CodeRaw    Code = "raw"    // the raw part does not open, or is not the block's
	CodeData   Code = "data"   // the store can never take it
)

// Error says which rule a content broke. Its Code is what a fatal frame or a refusal should carry.
type Error struct {
	Code Code
	Text string
}

// Error returns code and text.
func (e *Error) Error() string { return "wire: " + string(e.Code) + ": " + e.Text }

func errorf(code Code, format string, args ...any) error {
	return &Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// Skippable tells whether a frame of an unknown type is to be ignored (a lower-case letter) rather than answered with a
// fatal frame.
func Skippable(content []byte) bool {
	return len(content) > 0 && 'a' <= content[0] && content[0] <= 'z'
}

// Type returns the type byte of a content, 0 for an empty one, which no version of the protocol allows.
func Type(content []byte) byte {
	if len(content) == 0 {
		return 0
	}
	return content[0]
}
