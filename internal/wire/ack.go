package wire

import (
	"bytes"
	"strconv"
)

// The flags of an ack, one per data frame that it newly covers. They are hints: the store's tables are the count.
const (
	FlagFirst     = 'f' // this frame stored the record
	FlagDuplicate = 'd' // the record was stored before
)

// AppendAck appends an A frame: all data frames up to n are settled and durable, and the last len(flags) of them were
// not covered before. There is at least one flag and n is at least len(flags).
func AppendAck(dst []byte, n uint64, flags []byte) []byte {
	dst = strconv.AppendUint(append(dst, TypeAck), n, 10)
	return append(append(dst, ' '), flags...)
}

// ParseAck parses an A frame into n and its flags, which alias content. That n - len(flags) is the mark reached before
// is for the caller to check.
func ParseAck(content []byte) (n uint64, flags []byte, err error) {
	if Type(content) != TypeAck {
		return 0, nil, errorf(CodeProtocol, "not an ack")
	}
	number, flags, ok := bytes.Cut(content[1:], []byte(" "))
	if n, err = parseUint(number); err != nil || !ok {
		return 0, nil, errorf(CodeProtocol, "ack: want A<n> <flags>")
	}
	if len(flags) == 0 || uint64(len(flags)) > n {
		return 0, nil, errorf(CodeProtocol, "ack: %d flags for mark %d", len(flags), n)
	}
	for _, f := range flags {
		if f != FlagFirst && f != FlagDuplicate {
			return 0, nil, errorf(CodeProtocol, "ack: unknown flag")
		}
	}
	return n, flags, nil
}

// Refusal is an N frame: data frame N will never be stored. It moves the mark to N.
type Refusal struct {
	N    uint64 // from 1
	Code Code
	Text string
}

// AppendRefusal appends an N frame. Text that cannot stand in one is cleaned and cut to MaxText.
func AppendRefusal(dst []byte, r Refusal) []byte {
	dst = strconv.AppendUint(append(dst, TypeRefusal), r.N, 10)
	return appendReason(append(dst, ' '), r.Code, r.Text)
}

// ParseRefusal parses an N frame.
func ParseRefusal(content []byte) (Refusal, error) {
	if Type(content) != TypeRefusal {
		return Refusal{}, errorf(CodeProtocol, "not a refusal")
	}
	number, rest, ok := bytes.Cut(content[1:], []byte(" "))
	n, err := parseUint(number)
	if !ok || err != nil || n == 0 {
		return Refusal{}, errorf(CodeProtocol, "refusal: want N<n> <code> <text>")
	}
	code, text, err := parseReason(rest)
	if err != nil {
		return Refusal{}, err
	}
	return Refusal{N: n, Code: code, Text: text}, nil
}
