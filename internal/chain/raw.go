package chain

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/klauspost/compress/gzip"

	"github.com/firstseen/firstseen/schema"
)

// MaxRaw is the largest raw part that is opened, in bytes after decompression.
const MaxRaw = 32 << 20

// maxNames is how many different names of members a block and its receipts may have between them. Nodes use some 80; the
// bound keeps names that nobody knows from filling the memory.
const maxNames = 512

var (
	// ErrTooLong reports a raw part above MaxRaw.
	ErrTooLong = fmt.Errorf("%w: raw JSON above %d bytes", ErrMalformed, MaxRaw)
	// ErrRoot reports a list of a block that is not the one under the root in its header.
	ErrRoot = errors.New("does not match the root in the block's header")
)

// PackRaw makes a raw part of what a node answered (docs/WIRE.md, "The raw part"). It looks at sizes only: what is
// packed should have passed VerifyRaw.
func PackRaw(b schema.RawBlock) ([]byte, error) {
	receipts := b.Receipts
	if receipts == nil {
		receipts = json.RawMessage("null")
	}
	if len(b.Block)+len(receipts) > MaxRaw-64 {
		return nil, ErrTooLong
	}
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	for _, part := range [][]byte{[]byte(`{"block":`), b.Block, []byte(`,"receipts":`), receipts, []byte("}")} {
		if _, err := w.Write(part); err != nil {
			return nil, fmt.Errorf("compress raw JSON: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compress raw JSON: %w", err)
	}
	return out.Bytes(), nil
}

// UnpackRaw opens a raw part. One that is not a single gzip member (RFC 1952) of one JSON object with the members block
// and receipts and no others gives ErrMalformed, one above MaxRaw ErrTooLong; nothing more is decompressed than that.
// What is in the members is VerifyRaw's to check.
func UnpackRaw(packed []byte) (schema.RawBlock, error) {
	text, err := gunzip(packed)
	if err != nil {
		return schema.RawBlock{}, err
	}
	return splitRaw(text)
}

func gunzip(packed []byte) ([]byte, error) {
	in := bytes.NewReader(packed) // which is read byte by byte, so that what is behind the member stays in it
	r, err := gzip.NewReader(in)
	if err != nil {
		return nil, fmt.Errorf("%w: raw part: %w", ErrMalformed, err)
	}
	r.Multistream(false)
	var out bytes.Buffer
	out.Grow(min(6*len(packed), MaxRaw) + bytes.MinRead) // JSON of blocks shrinks to a fourth or fifth
	n, err := out.ReadFrom(io.LimitReader(r, MaxRaw+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: raw part: %w", ErrMalformed, err)
	case n > MaxRaw:
		return nil, ErrTooLong
	case in.Len() > 0:
		return nil, fmt.Errorf("%w: raw part: %d bytes behind the gzip member", ErrMalformed, in.Len())
	}
	return out.Bytes(), nil
}

// splitRaw finds the members; they share text's memory.
func splitRaw(text []byte) (b schema.RawBlock, err error) {
	d := jsontext.NewDecoder(bytes.NewBuffer(text), jsontext.AllowDuplicateNames(true)) // found out in checkNames
	bad := func(what string) (schema.RawBlock, error) {
		return schema.RawBlock{}, fmt.Errorf("%w: raw part: %s", ErrMalformed, what)
	}
	if start, err := d.ReadToken(); err != nil || start.Kind() != '{' {
		return bad("not a JSON object")
	}
	for d.PeekKind() == '"' {
		name, err := d.ReadToken()
		if err != nil {
			return bad(err.Error())
		}
		into := map[string]*json.RawMessage{"block": &b.Block, "receipts": &b.Receipts}[name.String()]
		if into == nil || *into != nil {
			return bad("a member that is neither block nor receipts, or one twice")
		}
		value, err := d.ReadValue()
		if err != nil {
			return bad(err.Error())
		}
		end := d.InputOffset()
		*into = text[end-int64(len(value)) : end : end]
	}
	if _, err := d.ReadToken(); err != nil || b.Block == nil || b.Receipts == nil {
		return bad("not one JSON object with block and receipts")
	}
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return bad("more than one JSON object")
	}
	if isNull(b.Receipts) {
		b.Receipts = nil
	}
	return b, nil
}

// elements passes the elements of a JSON list on, one after the other.
func elements(list json.RawMessage, each func(i int, text json.RawMessage) error) error {
	d := jsontext.NewDecoder(bytes.NewBuffer(list), jsontext.AllowDuplicateNames(true)) // found out in checkNames
	if start, err := d.ReadToken(); err != nil || start.Kind() != '[' {
		return fmt.Errorf("%w: not a list", ErrMalformed)
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		text, err := d.ReadValue()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrMalformed, err)
		}
		if err := each(i, json.RawMessage(text)); err != nil {
			return err
		}
	}
	return nil
}

// checkNames makes sure that everybody who reads the JSON reads the same: no name stands twice in an object, and no two
// names differ in case only, since some decoders take one for the other. No list of a block or its receipts has a null in
// it; one of many would be a cheap way to make a decoder allocate.
func checkNames(texts ...json.RawMessage) error {
	written := map[string]string{} // as it was met first, by its lower case
	for _, text := range texts {
		d := jsontext.NewDecoder(bytes.NewBuffer(text))
		for {
			token, err := d.ReadToken()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return fmt.Errorf("%w: %w", ErrMalformed, err)
			}
			kind, n := d.StackIndex(d.StackDepth())
			if kind == '[' && token.Kind() == 'n' {
				return fmt.Errorf("%w: null in a list", ErrMalformed)
			}
			if kind != '{' || n%2 == 0 || token.Kind() != '"' {
				continue // not a member's name
			}
			name := token.String()
			first, ok := written[strings.ToLower(name)]
			switch {
			case ok && first != name:
				return fmt.Errorf("%w: members named %q and %q", ErrMalformed, first, name)
			case !ok && len(written) == maxNames:
				return fmt.Errorf("%w: members of more than %d names", ErrMalformed, maxNames)
			case !ok:
				written[strings.ToLower(name)] = name
			}
		}
	}
	return nil
}
