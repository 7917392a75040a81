package jsonrpc

import (
	"bytes"
	"errors"
	"io"
	"sync"

	"github.com/go-json-experiment/json/jsontext"
)

// Reader reads one JSON text from front to back. Two members of one name in an object and invalid UTF-8 are errors,
// unless Read was told otherwise.
type Reader struct {
	dec  jsontext.Decoder
	src  bytes.Buffer
	text []byte
}

// readers are reused: their insides cost more than reading a usual request does. It is a pool for the process, like the
// heap it spares.
//
//nolint:gochecknoglobals // see above
var readers = sync.Pool{New: func() any { return new(Reader) }}

// Read runs read over text and checks that nothing but white space is left behind it. The Reader is good until read
// returns; what it has given out are parts of text.
func Read(text []byte, read func(*Reader) error, opts ...jsontext.Options) error {
	r, _ := readers.Get().(*Reader)
	r.text, r.src = text, *bytes.NewBuffer(text)
	r.dec.Reset(&r.src, opts...)
	err := read(r)
	if err == nil {
		if _, err = r.dec.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errors.New("more than one value")
		}
	}
	r.text, r.src = nil, bytes.Buffer{}
	r.dec.Reset(&r.src)
	readers.Put(r)
	return err
}

// Kind is the kind of the value that comes next.
func (r *Reader) Kind() jsontext.Kind { return r.dec.PeekKind() }

// Value reads the next value and returns its part of the text, and where that begins.
func (r *Reader) Value() (raw []byte, at int, err error) {
	v, err := r.dec.ReadValue()
	if err != nil {
		return nil, 0, err
	}
	end := int(r.dec.InputOffset())
	return r.text[end-len(v) : end], end - len(v), nil
}

// Members calls each with every name of the object that comes next, decoded; each must read the value. The name is
// valid until then.
func (r *Reader) Members(each func(name []byte) error) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != '}' {
		name, _, err := r.Value()
		if err != nil {
			return err
		}
		if err := each(Unquote(name)); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// Elements calls each with every index of the array that comes next; each must read the element.
func (r *Reader) Elements(each func(i int) error) error {
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; r.dec.PeekKind() != ']'; i++ {
		// After an error the kind is invalid, and reading returns that error.
		if err := each(i); err != nil {
			return err
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// Unquote decodes a string, without a copy where it is written without escapes. What is no string comes back as it is:
// the Reader has refused it.
func Unquote(raw []byte) []byte {
	if len(raw) < 2 || raw[0] != '"' {
		return raw
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	text, err := jsontext.AppendUnquote(nil, raw)
	if err != nil {
		return raw
	}
	return text
}

// maxDepth is how deep arrays and objects may lie within each other in a request; no method's parameters come near it.
const maxDepth = 64

var errTooDeep = errors.New("nested too deep")

// tooDeep tells whether brackets nest deeper than maxDepth, before anything is spent on reading them.
func tooDeep(text []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > maxDepth {
				return true
			}
		case c == ']' || c == '}':
			depth--
		}
	}
	return false
}
