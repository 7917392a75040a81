package netstring

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// Why a byte was refused. Each arrives inside a *SyntaxError; ask with errors.Is.
var (
	// ErrLength means that a length was expected and something else came: a sign, a space, a letter, no digit at all.
	ErrLength = errors.New("not a decimal length")
	// ErrLeadingZero means that a digit followed a length's leading 0.
	ErrLeadingZero = errors.New("length has a leading zero")
	// ErrTooLarge means that the length exceeds the decoder's maximum.
	ErrTooLarge = errors.New("length exceeds the maximum")
	// ErrComma means that the content was not followed by a comma.
	ErrComma = errors.New("no comma after the content")
)

// SyntaxError reports the first byte of a stream that cannot be part of an acceptable netstring.
type SyntaxError struct {
	Offset int64 // of the refused byte, from the start of the stream
	Err    error // one of ErrLength, ErrLeadingZero, ErrTooLarge, ErrComma
}

// Error names the reason and the offset, never the peer's bytes.
func (e *SyntaxError) Error() string { return fmt.Sprintf("netstring: byte %d: %v", e.Offset, e.Err) }

// Unwrap returns the reason.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Decoder reads netstrings from a stream. It is not safe for concurrent use.
type Decoder struct {
	r     io.Reader
	limit uint64
	err   error // what every further call returns
	rerr  error // came with the last bytes read; due once they are used up

	buf      []byte // small, or the bytes of box
	box      *box   // nil while buf is small
	pos, end int    // buf[pos:end] is read and not yet handed out
	base     int64  // offset of buf[0] in the stream
	filled   bool   // the last read took all the room it was offered, so more is likely there
	small    [64]byte
}

// NewDecoder returns a decoder for the netstrings in r whose content is at most limit bytes long; a limit below 0
// counts as 0. It reads ahead: after the last frame more of r may have been consumed than the frames took.
func NewDecoder(r io.Reader, limit int) *Decoder {
	// The margin keeps the encoded length of the longest frame within an int.
	d := &Decoder{r: r, limit: uint64(min(max(limit, 0), math.MaxInt-slack))}
	d.buf = d.small[:]
	return d
}

// Wait blocks until at least one byte of the next frame is there, or the stream ends or fails, with the same errors
// as Next. A reader that bounds the time of a begun frame sets that deadline between Wait and Next. Wait ends the
// validity of the content returned last.
//
// A deadline of the reader that passes between frames (os.ErrDeadlineExceeded) is the one error that is not final:
// nothing is lost by it, and Wait may be called again.
func (d *Decoder) Wait() error {
	if d.err == nil && d.pos == d.end {
		d.idle()
		d.fill()
	}
	if err := d.err; d.pos == d.end && errors.Is(err, os.ErrDeadlineExceeded) {
		d.err = nil
		return err
	}
	return d.err
}

// Next returns the content of the next frame. It is valid until the next call of Next or Wait: its memory is then used
// again, also by other decoders, so whoever keeps it copies it.
//
// Errors are final, but for the one that Wait names. io.EOF, unwrapped, means that the stream ended between frames; io.ErrUnexpectedEOF (by errors.Is)
// that it ended inside one; *SyntaxError that the peer broke the format or the maximum. Any other error is the
// reader's, wrapped with the offset at which it came.
func (d *Decoder) Next() ([]byte, error) {
	if err := d.Wait(); err != nil {
		return nil, err
	}
	for {
		content, need, err := d.scan(d.buf[d.pos:d.end])
		if err != nil {
			return nil, d.fail(err)
		}
		if content != nil {
			d.pos += need
			return content, nil
		}
		d.makeRoom(need)
		if d.fill(); d.err != nil {
			return nil, d.err
		}
	}
}

// scan looks for one whole frame at the start of b. It returns its content, never nil, and its encoded length; or nil
// and the encoded length as far as it is known, 0 while the header is incomplete.
func (d *Decoder) scan(b []byte) (content []byte, need int, err error) {
	n, head, err := parseHeader(b, d.limit)
	if err != nil {
		return nil, 0, d.refuse(head, err)
	}
	if head == 0 {
		return nil, 0, nil
	}
	comma := head + n
	if comma >= len(b) {
		return nil, comma + 1, nil
	}
	if b[comma] != ',' {
		return nil, 0, d.refuse(comma, ErrComma)
	}
	return b[head:comma:comma], comma + 1, nil
}

// parseHeader reads "<digits>:" and returns the length and the size of the header, 0 while it is incomplete. With an
// error, head is the index of the refused byte.
func parseHeader(b []byte, limit uint64) (n, head int, err error) {
	var v uint64
	for i, c := range b {
		digit := uint64(c - '0')
		switch {
		case digit <= 9:
			if i > 0 && v == 0 {
				return 0, i, ErrLeadingZero
			}
			// v <= limit here, so that neither side of the test can overflow.
			if v > limit/10 || v*10+digit > limit {
				return 0, i, ErrTooLarge
			}
			v = v*10 + digit
		case c == ':' && i > 0:
			return int(v), i + 1, nil
		default:
			return 0, i, ErrLength
		}
	}
	return 0, 0, nil
}

func (d *Decoder) refuse(at int, reason error) error {
	return &SyntaxError{Offset: d.base + int64(d.pos+at), Err: reason}
}

// fill reads once into the room behind buf[:end], which must not be empty, and fails the decoder if the reader did.
func (d *Decoder) fill() {
	if d.rerr != nil {
		_ = d.fail(d.ended(d.rerr))
		return
	}
	for range maxEmptyReads {
		n, err := d.r.Read(d.buf[d.end:])
		d.end += n
		d.filled = d.end == len(d.buf)
		if n > 0 {
			d.rerr = err
			return
		}
		if err != nil {
			_ = d.fail(d.ended(err))
			return
		}
	}
	_ = d.fail(d.ended(io.ErrNoProgress))
}

// maxEmptyReads is how often in a row a reader may return neither bytes nor an error, as in package bufio.
const maxEmptyReads = 100

// ended says what a reader's error means where the stream stands.
func (d *Decoder) ended(err error) error {
	if err == io.EOF { //nolint:errorlint // a wrapped one is a reader's failure, not the end of the stream
		if d.pos == d.end {
			return io.EOF
		}
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("netstring: byte %d: %w", d.base+int64(d.end), err)
}

// fail makes err final and lets the buffer go.
func (d *Decoder) fail(err error) error {
	d.err = err
	d.pos, d.end = 0, 0
	d.swap(nil)
	return err
}
