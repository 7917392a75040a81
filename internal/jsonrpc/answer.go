package jsonrpc

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
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

// Answer is what a node says to a call: exactly one of Result and Failure is set, raw JSON.
type Answer struct {
	Result  []byte
	Failure []byte
	Code    int // of Failure
}

var (
	// ErrNotAnswer reports JSON that is no answer to the call.
	ErrNotAnswer = errors.New("not an answer to the question")
	// ErrIncomplete reports what is no JSON, or is cut off.
	ErrIncomplete = errors.New("answer is not complete JSON")
)

// ReadAnswer takes a node's reply to a call of that id apart. All of it must be JSON, so that a cut reply is not mistaken
// for a whole one; what lies within the result is for the caller to judge.
func ReadAnswer(text []byte, id string) (Answer, error) {
	var a Answer
	ours := false
	err := Read(text, func(r *Reader) error {
		if r.Kind() != '{' {
			return ErrNotAnswer
		}
		return r.Members(func(member []byte) error {
			raw, _, err := r.Value()
			switch name := string(member); {
			case err != nil:
				return err
			case name == "id":
				ours = string(raw) == id
			case name == "result" && a.Result == nil:
				a.Result = raw
			case name == "error" && a.Failure == nil:
				if string(raw) != "null" { // some nodes send both
					a.Failure = raw
				}
			case name == "result" || name == "error":
				return ErrNotAnswer
			}
			return nil
		})
	}, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch {
	case errors.Is(err, ErrNotAnswer):
		return Answer{}, err
	case err != nil:
		return Answer{}, ErrIncomplete
	case !ours || (a.Result == nil) == (a.Failure == nil) && string(a.Result) != "null":
		return Answer{}, ErrNotAnswer
	}
	if a.Failure == nil {
		return a, nil
	}
	a.Result = nil
	return a, a.readCode()
}

// readCode finds the code of a node's error.
func (a *Answer) readCode() error {
	var e struct {
		Code    json.Number `json:"code"`
		Message *string     `json:"message"`
	}
	if json.Unmarshal(a.Failure, &e) != nil || e.Message == nil {
		return ErrNotAnswer
	}
	code, err := strconv.Atoi(string(e.Code))
	if err != nil {
		return ErrNotAnswer
	}
	a.Code = code
	return nil
}
