package jsonrpc

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// maxID is the length in bytes of the longest id that a request may have.
const maxID = 1024

// Call is one call of a request. Its slices belong to the message that it came in.
type Call struct {
	ID     []byte // as the caller wrote it; nil for a notification, which gets no answer
	Method string // decoded
	Params []byte // a JSON array; nil when there are none
	Bad    *Error // why it is no call that can be answered; nil if it is one
}

// Request is what one HTTP body or WebSocket message holds: one call at least.
type Request struct {
	Batch bool
	Calls []Call
}

// Parse reads a call or a batch of at most maxBatch. An error is about the whole text; what is wrong with one call is in
// its Bad, so that the others of its batch are still answered.
func Parse(text []byte, maxBatch int) (Request, *Error) {
	if tooDeep(text) {
		return Request{}, Errorf(CodeInvalid, "%s", errTooDeep)
	}
	var req Request
	err := Read(text, func(r *Reader) error {
		switch r.Kind() {
		case '[':
			req.Batch = true
			return r.Elements(func(i int) error {
				if i >= maxBatch {
					return errBatch
				}
				return req.add(r)
			})
		default:
			return req.add(r)
		}
	})
	switch {
	case errors.Is(err, errBatch):
		return Request{}, Errorf(CodeInvalid, "a batch may hold %d requests", maxBatch)
	case errors.Is(err, jsontext.ErrDuplicateName):
		return Request{}, Errorf(CodeInvalid, "two members of one name")
	case err != nil:
		return Request{}, Errorf(CodeParse, "not JSON")
	case len(req.Calls) == 0:
		return Request{}, Errorf(CodeInvalid, "empty batch")
	}
	return req, nil
}

var errBatch = errors.New("batch too large")

func (req *Request) add(r *Reader) error {
	req.Calls = append(req.Calls, Call{})
	c := &req.Calls[len(req.Calls)-1]
	if r.Kind() != '{' {
		c.Refuse(CodeInvalid, "a request is an object")
		_, _, err := r.Value()
		return err
	}
	version := false
	if err := r.Members(func(name []byte) error { return c.member(r, name, &version) }); err != nil {
		return err
	}
	if !version {
		c.Refuse(CodeInvalid, `jsonrpc must be "2.0"`)
	}
	if c.Method == "" {
		c.Refuse(CodeInvalid, "method must be a string")
	}
	return nil
}

// member reads one member of a call. Those that JSON-RPC does not know are read and left out.
func (c *Call) member(r *Reader, name []byte, version *bool) error {
	kind := r.Kind()
	raw, _, err := r.Value()
	if err != nil {
		return err
	}
	switch string(name) {
	case "jsonrpc":
		*version = string(raw) == `"2.0"`
	case "method":
		if kind == '"' {
			c.Method = string(Unquote(raw))
		}
	case "id":
		c.setID(kind, raw)
	case "params":
		c.setParams(kind, raw)
	}
	return nil
}

// Refuse keeps the first thing found wrong. What is no valid call is answered even without an id (JSON-RPC 2.0,
// section 5.1).
func (c *Call) Refuse(code int, text string) {
	if c.Bad == nil {
		c.Bad = &Error{Code: code, Message: text}
	}
	if c.ID == nil && code == CodeInvalid {
		c.ID = []byte("null")
	}
}

func (c *Call) setID(kind jsontext.Kind, raw []byte) {
	switch kind {
	case '"', '0', 'n':
		if len(raw) <= maxID {
			c.ID = raw
			return
		}
		c.Refuse(CodeInvalid, fmt.Sprintf("id is longer than %d bytes", maxID))
	default:
		c.Refuse(CodeInvalid, "id must be a string, a number or null")
	}
}

func (c *Call) setParams(kind jsontext.Kind, raw []byte) {
	switch kind {
	case '[':
		c.Params = raw
	case 'n':
	default:
		c.Refuse(CodeParams, "params must be an array")
	}
}

// Encode writes the call anew, under the given id. Its method must need no escapes, as none does that is on a list of
// methods allowed.
func (c *Call) Encode(id []byte) []byte {
	out := make([]byte, 0, len(c.Params)+len(c.Method)+len(id)+48)
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = append(out, id...)
	out = append(out, `,"method":"`...)
	out = append(out, c.Method...)
	out = append(out, `","params":`...)
	if c.Params == nil {
		out = append(out, "[]"...)
	} else {
		out = append(out, c.Params...)
	}
	return append(out, '}')
}

// Quantity writes n as the execution API writes numbers: hex behind 0x without leading zeros.
func Quantity(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }

// Clip quotes what a caller made up, for an error's text, and shortens it.
func Clip(s string) string {
	if len(s) <= 64 {
		return strconv.Quote(s)
	}
	return strconv.Quote(s[:64]) + "…"
}
