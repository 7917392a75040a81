package jsonrpc

import (
	"encoding/json"
	"fmt"
)

// Failure writes an error as the member "error" of an answer has it.
func Failure(e *Error) []byte {
	quoted, err := json.Marshal(e.Message)
	if err != nil {
		quoted = []byte(`"error"`)
	}
	return fmt.Appendf(nil, `{"code":%d,"message":%s}`, e.Code, quoted)
}

// AppendAnswer writes an answer under the caller's id, nil standing for null. Result and failure are raw JSON; failure
// counts unless it is nil.
func AppendAnswer(dst, id, result, failure []byte) []byte {
	dst = append(dst, `{"jsonrpc":"2.0","id":`...)
	if id == nil {
		id = []byte("null")
	}
	dst = append(dst, id...)
	if failure != nil {
		dst = append(dst, `,"error":`...)
		return append(append(dst, failure...), '}')
	}
	dst = append(dst, `,"result":`...)
	return append(append(dst, result...), '}')
}
