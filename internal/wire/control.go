package wire

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// AppendPing appends a P frame.
func AppendPing(dst []byte) []byte { return append(dst, TypePing) }

// AppendPong appends an O frame.
func AppendPong(dst []byte) []byte { return append(dst, TypePong) }

// AppendBye appends a B frame.
func AppendBye(dst []byte) []byte { return append(dst, TypeBye) }

// ParseBare parses a frame that is nothing but its type: ping, pong or bye.
func ParseBare(content []byte, kind byte) error {
	if Type(content) != kind || len(content) != 1 {
		return errorf(CodeProtocol, "want %c alone", kind)
	}
	return nil
}

// AppendDrain appends a G frame: the server collects for so long, in whole milliseconds, and then closes.
func AppendDrain(dst []byte, within time.Duration) []byte {
	return strconv.AppendInt(append(dst, TypeDrain), max(0, within.Milliseconds()), 10)
}

// ParseDrain parses a G frame. Its error's code is protocol, also for times beyond 2^31-1 ms (24 days).
func ParseDrain(content []byte) (time.Duration, error) {
	if Type(content) != TypeDrain {
		return 0, errorf(CodeProtocol, "not a drain")
	}
	ms, err := parseUint(content[1:])
	if err != nil || ms > math.MaxInt32 {
		return 0, errorf(CodeProtocol, "drain: want G<ms>")
	}
	return time.Duration(ms) * time.Millisecond, nil
}

// Fatal is an E frame, the last that a server sends. Retry tells whether the same client may come back later, here or
// elsewhere; otherwise it must not without a change.
type Fatal struct {
	Retry bool
	Code  Code
	Text  string
}

// Error lets a client return the frame as the reason why its connection ended.
func (f *Fatal) Error() string { return "server: " + string(f.Code) + ": " + f.Text }

// AppendFatal appends an E frame. Text that cannot stand in one is cleaned and cut to MaxText.
func AppendFatal(dst []byte, f Fatal) []byte {
	verb := "stop "
	if f.Retry {
		verb = "retry "
	}
	return appendReason(append(append(dst, TypeFatal), verb...), f.Code, f.Text)
}

// ParseFatal parses an E frame.
func ParseFatal(content []byte) (Fatal, error) {
	if Type(content) != TypeFatal {
		return Fatal{}, errorf(CodeProtocol, "not a fatal frame")
	}
	verb, rest, ok := bytes.Cut(content[1:], []byte(" "))
	if !ok || string(verb) != "retry" && string(verb) != "stop" {
		return Fatal{}, errorf(CodeProtocol, "fatal: want E<retry|stop> <code> <text>")
	}
	code, text, err := parseReason(rest)
	if err != nil {
		return Fatal{}, err
	}
	return Fatal{Retry: string(verb) == "retry", Code: code, Text: text}, nil
}

// appendReason appends "<code> <text>".
func appendReason(dst []byte, code Code, text string) []byte {
	dst = append(append(dst, code...), ' ')
	return append(dst, clean(text)...)
}

// parseReason splits "<code> <text>". The text may be empty, its space may not be missing.
func parseReason(b []byte) (Code, string, error) {
	code, text, ok := strings.Cut(string(b), " ")
	if !ok || !validCode(code) {
		return "", "", errorf(CodeProtocol, "want <code> <text>")
	}
	if len(text) > MaxText || clean(text) != text {
		return "", "", errorf(CodeProtocol, "text is not at most %d bytes of printable UTF-8", MaxText)
	}
	return Code(code), text, nil
}

func validCode(s string) bool {
	for i := range len(s) {
		if c := s[i]; c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}

// clean makes text fit to stand in a frame and to be shown on a terminal: printable, valid UTF-8, at most MaxText bytes.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
	if len(text) <= MaxText {
		return text
	}
	cut := MaxText
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut]
}

// parseUint reads a decimal without sign or leading zeros, up to 2^64-1.
func parseUint(b []byte) (uint64, error) {
	if !decimal(b) {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(string(b), 10, 64)
}

// decimal tells whether b is a number in ASCII digits without leading zeros.
func decimal(b []byte) bool {
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(b) == 1 || len(b) > 1 && b[0] != '0'
}
