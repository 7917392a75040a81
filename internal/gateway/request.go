package gateway

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// maxID is the length in bytes of the longest id that a request may have.
const maxID = 1024

// call is one JSON-RPC request. Its slices belong to the message that it came in.
type call struct {
	id     []byte // as the caller wrote it; nil for a notification
	name   string // the method, decoded
	params []byte // a JSON array; nil when there are none
	bad    *rpcError
	pinned bool // "latest" was replaced by a height

	*method // nil while it is not known to be allowed
}

// request is what one HTTP body or WebSocket message holds.
type request struct {
	batch bool
	calls []*call
}

// parse reads a request or a batch of them. An error is about the whole text; what is wrong with one request is in its
// call, so that the others of its batch are still answered.
func parse(text []byte, maxBatch int) (request, *rpcError) {
	if tooDeep(text) {
		return request{}, &rpcError{codeInvalid, errTooDeep.Error()}
	}
	var req request
	err := readJSON(text, func(r *jsonReader) error {
		switch r.dec.PeekKind() {
		case '[':
			req.batch = true
			return r.elements(func(i int) error {
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
		return request{}, &rpcError{codeInvalid, fmt.Sprintf("a batch may hold %d requests", maxBatch)}
	case errors.Is(err, jsontext.ErrDuplicateName):
		return request{}, &rpcError{codeInvalid, "two members of one name"}
	case err != nil:
		return request{}, &rpcError{codeParse, "not JSON"}
	case len(req.calls) == 0:
		return request{}, &rpcError{codeInvalid, "empty batch"}
	}
	return req, nil
}

var errBatch = errors.New("batch too large")

func (req *request) add(r *jsonReader) error {
	c := new(call)
	req.calls = append(req.calls, c)
	if r.dec.PeekKind() != '{' {
		c.refuse(codeInvalid, "a request is an object")
		_, _, err := r.value()
		return err
	}
	version := false
	if err := r.members(func(name []byte) error { return c.member(r, name, &version) }); err != nil {
		return err
	}
	if !version {
		c.refuse(codeInvalid, `jsonrpc must be "2.0"`)
	}
	if c.name == "" {
		c.refuse(codeInvalid, "method must be a string")
	}
	return nil
}

// member reads one member of a request. Those that JSON-RPC does not know are read and left out.
func (c *call) member(r *jsonReader, name []byte, version *bool) error {
	kind := r.dec.PeekKind()
	raw, _, err := r.value()
	if err != nil {
		return err
	}
	switch string(name) {
	case "jsonrpc":
		*version = string(raw) == `"2.0"`
	case "method":
		if kind == '"' {
			c.name = string(unquote(raw))
		}
	case "id":
		c.setID(kind, raw)
	case "params":
		c.setParams(kind, raw)
	}
	return nil
}

// refuse keeps the first thing found wrong. What is no valid request is answered even without an id (JSON-RPC 2.0,
// section 5.1).
func (c *call) refuse(code int, text string) {
	if c.bad == nil {
		c.bad = &rpcError{code, text}
	}
	if c.id == nil && code == codeInvalid {
		c.id = []byte("null")
	}
}

func (c *call) setID(kind jsontext.Kind, raw []byte) {
	switch kind {
	case '"', '0', 'n':
		if len(raw) <= maxID {
			c.id = raw
			return
		}
		c.refuse(codeInvalid, fmt.Sprintf("id is longer than %d bytes", maxID))
	default:
		c.refuse(codeInvalid, "id must be a string, a number or null")
	}
}

func (c *call) setParams(kind jsontext.Kind, raw []byte) {
	switch kind {
	case '[':
		c.params = raw
	case 'n':
	default:
		c.refuse(codeParams, "params must be an array")
	}
}

// encode writes the request anew, under the given id.
func (c *call) encode(id []byte) []byte {
	out := make([]byte, 0, len(c.params)+len(c.name)+len(id)+48)
	out = append(out, `{"jsonrpc":"2.0","id":`...)
	out = append(out, id...)
	out = append(out, `,"method":"`...)
	out = append(out, c.name...) // of the allowlist, so there is nothing to escape
	out = append(out, `","params":`...)
	if c.params == nil {
		out = append(out, "[]"...)
	} else {
		out = append(out, c.params...)
	}
	return append(out, '}')
}

// quantity writes n as the execution API writes numbers.
func quantity(n uint64) string { return "0x" + strconv.FormatUint(n, 16) }
