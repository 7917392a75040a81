package gateway

import (
	"regexp"

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

// readAnswer takes a node's reply apart.
func readAnswer(text []byte) (answer, error) {
	a, err := jsonrpc.ReadAnswer(text, ourID)
	return answer{result: a.Result, failure: a.Failure, code: a.Code}, err
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
