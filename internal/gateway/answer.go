package gateway

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Error codes: JSON-RPC 2.0, section 5.1, and EIP-1474.
const (
	codeParse       = -32700
	codeInvalid     = -32600
	codeNoMethod    = -32601
	codeParams      = -32602
	codeInternal    = -32603
	codeServer      = -32000 // what no other code says
	codeNotFound    = -32001 // the block asked for is not there yet
	codeUnavailable = -32002
	codeTooLarge    = -32003 // geth's code for it
	codeLimit       = -32005
)

// rpcError is an error of the gateway's own.
type rpcError struct {
	code int
	text string
}

func (e *rpcError) Error() string { return e.text }

// answer is what a call came to: exactly one of result and failure is set.
type answer struct {
	node    string // whose answer it is; empty when it is the gateway's own
	result  []byte // raw JSON
	failure []byte // raw JSON of an error object
	code    int    // of failure
	status  int    // of HTTP, where the call came alone; 0 is 200
	newest  uint64 // for the failure to find a node that is high enough: the height of the highest
}

// sorry is the gateway's own error.
func sorry(code int, text string) answer {
	quoted, err := json.Marshal(text)
	if err != nil {
		quoted = []byte(`"error"`)
	}
	failure := fmt.Appendf(nil, `{"code":%d,"message":%s}`, code, quoted)
	return answer{failure: failure, code: code}
}

// withStatus sets the HTTP status of an answer to a single call.
func (a answer) withStatus(status int) answer {
	a.status = status
	return a
}

// size is about how many bytes the answer takes in a reply.
func (a answer) size() int { return len(a.result) + len(a.failure) }

// appendTo writes the answer under the caller's id.
func (a answer) appendTo(dst, id []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	if id == nil {
		id = []byte("null")
	}
	dst = append(dst, id...)
	if a.failure != nil {
		dst = append(dst, `,"error":`...)
		return append(append(dst, a.failure...), '}')
	}
	dst = append(dst, `,"result":`...)
	return append(append(dst, a.result...), '}')
}

// ourID is the id under which nodes are asked: one question, one connection, so there is nothing to tell apart.
const ourID = "1"

var (
	errNotAnswer  = errors.New("not an answer to the question")
	errIncomplete = errors.New("answer is not complete JSON")
)

// readAnswer takes a node's reply apart. All of it must be JSON, so that a cut reply is not mistaken for a whole one;
// what lies within the result is for the caller to judge.
func readAnswer(text []byte) (answer, error) {
	var a answer
	id := false
	err := readJSON(text, func(r *jsonReader) error {
		if r.dec.PeekKind() != '{' {
			return errNotAnswer
		}
		return r.members(func(member []byte) error {
			raw, _, err := r.value()
			switch name := string(member); {
			case err != nil:
				return err
			case name == "id":
				id = string(raw) == ourID
			case name == "result" && a.result == nil:
				a.result = raw
			case name == "error" && a.failure == nil:
				if string(raw) != "null" { // some nodes send both
					a.failure = raw
				}
			case name == "result" || name == "error":
				return errNotAnswer
			}
			return nil
		})
	}, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch {
	case errors.Is(err, errNotAnswer):
		return answer{}, err
	case err != nil:
		return answer{}, errIncomplete
	case !id || (a.result == nil) == (a.failure == nil) && string(a.result) != "null":
		return answer{}, errNotAnswer
	}
	if a.failure != nil {
		a.result = nil
		return a, a.readCode()
	}
	return a, nil
}

// readCode finds the code of a node's error.
func (a *answer) readCode() error {
	var e struct {
		Code    json.Number `json:"code"`
		Message *string     `json:"message"`
	}
	if json.Unmarshal(a.failure, &e) != nil || e.Message == nil {
		return errNotAnswer
	}
	code, err := strconv.Atoi(string(e.Code))
	if err != nil {
		return errNotAnswer
	}
	a.code = code
	return nil
}

// elsewhere tells whether another node may know better: this one is short of something, lacks the block or lacks the
// method.
func (a *answer) elsewhere() bool {
	if a.failure == nil {
		return false
	}
	switch a.code {
	case codeLimit, codeInternal, codeNoMethod, codeUnavailable, codeNotFound:
		return true
	case codeServer:
		return lacksBlock.Match(a.failure)
	}
	return false
}

// lacksBlock are the words that nodes have for a block, or its state, which they do not hold.
var lacksBlock = regexp.MustCompile(`(?i)(header|block|state).{0,40}(not found|not available|unavailable)|missing trie node|unknown block`)
