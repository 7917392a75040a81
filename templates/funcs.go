package templates

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// maxText bounds what one function call may build. Without it a loop that doubles a variable takes all memory before
// a single byte is written.
const maxText = 64 << 10

var errText = errors.New("text is too long")

// allowed are the functions that a template may name, in the form that the parser wants; its message for others names
// function and line. Of text/template's own, call would run whatever a value holds; print, println, html, js and
// urlquery build text without a bound, and html/template escapes by itself.
var allowed = map[string]any{
	"and": true, "or": true, "not": true, "eq": true, "ne": true, "lt": true, "le": true, "gt": true, "ge": true,
	"len": true, "index": true, "slice": true, "json": true, "printf": true,
}

// jsonString is the template function json.
func jsonString(s string) (string, error) {
	if len(s) > maxText {
		return "", errText
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false) // other languages do not, and the bytes are to be the same
	if err := enc.Encode(s); err != nil {
		return "", err
	}
	return strings.TrimSuffix(b.String(), "\n"), nil
}

// printf is the template function printf: fmt.Sprintf for plain values, and no directive that makes much of little.
func printf(format string, args ...any) (string, error) {
	if err := checkFormat(format); err != nil {
		return "", err
	}
	size := len(format)
	for _, arg := range args {
		switch v := arg.(type) {
		case string:
			size += 2 * len(v) // %x
		case int, int64, uint32, uint64, bool:
		default:
			return "", fmt.Errorf("%T is neither a number, a string nor a boolean", v)
		}
	}
	if size > maxText {
		return "", errText
	}
	return fmt.Sprintf(format, args...), nil
}

// checkFormat refuses all but %%, %d, %x, %X, %s and %v, with flags and a width of at most maxWidth.
func checkFormat(format string) error {
	for {
		_, directive, found := strings.Cut(format, "%")
		if !found {
			return nil
		}
		rest := strings.TrimLeft(directive, "+-# 0")
		width := 0
		for len(rest) > 0 && rest[0] >= '0' && rest[0] <= '9' && width <= maxWidth {
			width = 10*width + int(rest[0]-'0')
			rest = rest[1:]
		}
		if width > maxWidth || rest == "" || !strings.Contains("%dxXsv", rest[:1]) {
			return fmt.Errorf("%.40q is not a format that templates may use", "%"+directive)
		}
		format = rest[1:]
	}
}

const maxWidth = 64
