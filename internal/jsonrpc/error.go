package jsonrpc

import "fmt"

// Error codes: JSON-RPC 2.0, section 5.1, and EIP-1474.
const (
	CodeParse       = -32700
	CodeInvalid     = -32600
	CodeNoMethod    = -32601
	CodeParams      = -32602
	CodeInternal    = -32603
	CodeServer      = -32000 // what no other code says
	CodeNotFound    = -32001 // the block asked for is not there yet
	CodeUnavailable = -32002
	CodeTooLarge    = -32003 // geth's code for it
	CodeLimit       = -32005
	CodePruned      = 4444 // history that is not kept; geth's code for it
)

// Error is an error that a caller is told.
type Error struct {
	Code    int
	Message string
}

// Errorf makes an Error.
func Errorf(code int, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string { return e.Message }
