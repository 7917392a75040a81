package wire

import (
	"bytes"
	"errors"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// encode appends v as one line of JSON. Angle brackets and ampersands are escaped, so that no value can end the HTML
// comment that a HELLO is.
func encode(dst []byte, v any) ([]byte, error) {
	text, err := json.Marshal(v, jsontext.EscapeForHTML(true))
	if err != nil {
		return dst, err
	}
	return append(dst, text...), nil
}

// decode reads exactly one JSON object into v. Duplicate names, invalid UTF-8, wrong types and anything behind the
// object are errors; names are matched by case; unknown names are ignored, since later versions may add some.
func decode(text []byte, v any) error {
	if !bytes.HasPrefix(text, []byte("{")) || !bytes.HasSuffix(text, []byte("}")) {
		return errors.New("not a JSON object")
	}
	if err := json.Unmarshal(text, v); err != nil {
		return errors.New(reason(err))
	}
	return nil
}

// reason shortens a JSON error to its rule and place, without Go's type names.
func reason(err error) string {
	var semantic *json.SemanticError
	if errors.As(err, &semantic) {
		if semantic.Err != nil {
			return strings.TrimSpace("JSON at " + string(semantic.JSONPointer) + ": " + semantic.Err.Error())
		}
		return "JSON at " + string(semantic.JSONPointer) + ": wrong type or out of range"
	}
	var syntactic *jsontext.SyntacticError
	if errors.As(err, &syntactic) {
		return "JSON: " + syntactic.Err.Error()
	}
	return "JSON: " + err.Error()
}
