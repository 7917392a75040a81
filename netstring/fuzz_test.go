package netstring

import (
	"bytes"
	"errors"
	"io"
	"math/big"
	"testing"
	"testing/iotest"
)

// reference is the slow and plain reading of the specification that FuzzDecode holds the decoder against: whole
// input, arbitrary-precision lengths. It returns the frames and the reason of the first error, nil at a clean end.
func reference(stream []byte, limit int) (frames [][]byte, reason error) {
	for len(stream) > 0 {
		digits := 0
		for digits < len(stream) && stream[digits] >= '0' && stream[digits] <= '9' {
			digits++
			if digits > 1 && stream[0] == '0' {
				return frames, ErrLeadingZero
			}
			if n, _ := new(big.Int).SetString(string(stream[:digits]), 10); n.Cmp(big.NewInt(int64(limit))) > 0 {
				return frames, ErrTooLarge
			}
		}
		if digits == len(stream) {
			return frames, io.ErrUnexpectedEOF
		}
		if digits == 0 || stream[digits] != ':' {
			return frames, ErrLength
		}
		n, _ := new(big.Int).SetString(string(stream[:digits]), 10)
		rest := stream[digits+1:]
		size := int(n.Int64())
		if len(rest) <= size {
			return frames, io.ErrUnexpectedEOF
		}
		if rest[size] != ',' {
			return frames, ErrComma
		}
		frames, stream = append(frames, rest[:size]), rest[size+1:]
	}
	return frames, nil
}

func equal(a, b [][]byte) bool {
	return len(a) == len(b) && bytes.Equal(bytes.Join(a, []byte{0}), bytes.Join(b, []byte{0}))
}

// FuzzDecode: no input panics, and every split of the input gives what the reference gives.
func FuzzDecode(f *testing.F) {
	good, bad := vectors(f)
	for _, v := range append(good, bad...) {
		f.Add(v.bytes(f), uint16(v.Max))
	}
	f.Fuzz(func(t *testing.T, stream []byte, limit uint16) {
		want, reason := reference(stream, int(limit))
		for name, r := range map[string]io.Reader{
			"whole":   bytes.NewReader(stream),
			"bytes":   iotest.OneByteReader(bytes.NewReader(stream)),
			"halves":  iotest.HalfReader(bytes.NewReader(stream)),
			"dataerr": iotest.DataErrReader(bytes.NewReader(stream)),
		} {
			got, err := decodeAll(r, int(limit))
			if !equal(got, want) {
				t.Fatalf("%s: frames %q, want %q", name, got, want)
			}
			if reason == nil && err != io.EOF || reason != nil && !errors.Is(err, reason) {
				t.Fatalf("%s: error %v, want %v", name, err, reason)
			}
		}
	})
}

// FuzzRoundTrip: what is encoded is decoded unchanged, whatever follows it.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("hello world!"), []byte(""), 3)
	f.Add([]byte(""), []byte("12:x,"), 1)
	f.Add(bytes.Repeat([]byte("x"), 5000), bytes.Repeat([]byte(","), 70), 64)
	f.Fuzz(func(t *testing.T, a, b []byte, step int) {
		stream := Append(Append(nil, a), b)
		if len(stream) != EncodedLen(len(a))+EncodedLen(len(b)) {
			t.Fatalf("%d bytes for %d and %d", len(stream), len(a), len(b))
		}
		r := &slowly{stream: stream, step: max(step, 1), look: func(int) {}}
		got, err := decodeAll(r, max(len(a), len(b)))
		if err != io.EOF || !equal(got, [][]byte{a, b}) {
			t.Fatalf("%q, %v", got, err)
		}
	})
}
