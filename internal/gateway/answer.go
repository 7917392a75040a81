package gateway

import (
	"encoding/json"
	"errors"
	"regexp"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

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
	return answer{failure: jsonrpc.Failure(&jsonrpc.Error{Code: code, Message: text}), code: code}
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
	return jsonrpc.AppendAnswer(dst, id, a.result, a.failure)
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
	err := jsonrpc.Read(text, func(r *jsonrpc.Reader) error {
		if r.Kind() != '{' {
			return errNotAnswer
		}
		return r.Members(func(member []byte) error {
			raw, _, err := r.Value()
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
	case jsonrpc.CodeLimit, jsonrpc.CodeInternal, jsonrpc.CodeNoMethod, jsonrpc.CodeUnavailable, jsonrpc.CodeNotFound:
		return true
	case jsonrpc.CodeServer:
		return lacksBlock.Match(a.failure)
	}
	return false
}

// lacksBlock are the words that nodes have for a block, or its state, which they do not hold.
var lacksBlock = regexp.MustCompile(`(?i)(header|block|state).{0,40}(not found|not available|unavailable)|missing trie node|unknown block`)
