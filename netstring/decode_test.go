package netstring

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

type vector struct {
	Name   string   `json:"name"`
	Max    int      `json:"max"`
	Stream string   `json:"stream"`
	Frames []string `json:"frames"`
	Error  string   `json:"error"`
	Offset int64    `json:"offset"`
}

func (v vector) bytes(t testing.TB) []byte { return unhex(t, v.Stream) }

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func vectors(t testing.TB) (good, bad []vector) {
	t.Helper()
	raw, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Good, Bad []vector }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Good) == 0 || len(file.Bad) == 0 {
		t.Fatal("no vectors")
	}
	return file.Good, file.Bad
}

// decodeAll returns copies of all frames and the error that ended the stream, io.EOF included.
func decodeAll(r io.Reader, limit int) (frames [][]byte, err error) {
	d := NewDecoder(r, limit)
	for {
		content, err := d.Next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, bytes.Clone(content))
	}
}

// check holds what a reader of the vector's stream gives against the vector.
func (v vector) check(t *testing.T, r io.Reader) {
	t.Helper()
	frames, err := decodeAll(r, v.Max)
	if len(frames) != len(v.Frames) {
		t.Fatalf("%d frames, want %d (error %v)", len(frames), len(v.Frames), err)
	}
	for i, f := range frames {
		if hex.EncodeToString(f) != v.Frames[i] {
			t.Fatalf("frame %d is %x, want %s", i, f, v.Frames[i])
		}
	}
	if kind, offset := verdict(t, err); kind != v.Error || kind != "" && offset != v.Offset {
		t.Fatalf("error %v: kind %q at %d, want %q at %d", err, kind, offset, v.Error, v.Offset)
	}
}

// verdict translates an error into the vectors' terms.
func verdict(t *testing.T, err error) (kind string, offset int64) {
	t.Helper()
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		for reason, kind := range map[error]string{
			ErrLength: "length", ErrLeadingZero: "leading_zero", ErrTooLarge: "too_large", ErrComma: "comma",
		} {
			if errors.Is(err, reason) {
				return kind, syntax.Offset
			}
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		_, serr := fmt.Sscanf(err.Error(), "netstring: byte %d:", &offset)
		if serr != nil {
			t.Fatalf("no offset in %q", err)
		}
		return "truncated", offset
	}
	if err != io.EOF {
		t.Fatalf("unexpected error %v", err)
	}
	return "", 0
}

func TestVectors(t *testing.T) {
	t.Parallel()
	good, bad := vectors(t)
	for _, v := range append(good, bad...) {
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			stream := v.bytes(t)
			v.check(t, bytes.NewReader(stream))
			v.check(t, iotest.OneByteReader(bytes.NewReader(stream)))
			v.check(t, iotest.HalfReader(bytes.NewReader(stream)))
			v.check(t, iotest.DataErrReader(bytes.NewReader(stream)))
			for cut := range stream {
				v.check(t, io.MultiReader(bytes.NewReader(stream[:cut]), bytes.NewReader(stream[cut:])))
			}
		})
	}
}

func TestEncodingTheFramesGivesTheStream(t *testing.T) {
	t.Parallel()
	good, _ := vectors(t)
	for _, v := range good {
		var stream []byte
		size := 0
		for _, f := range v.Frames {
			content := unhex(t, f)
			stream = Append(stream, content)
			size += EncodedLen(len(content))
		}
		if hex.EncodeToString(stream) != v.Stream || len(stream) != size {
			t.Errorf("%s: encoded %q, EncodedLen %d", v.Name, stream, size)
		}
	}
}

// quiet fails the test when it is read past its content: a decoder that needs another byte to notice would block.
type quiet struct {
	io.Reader
	t *testing.T
}

func (q quiet) Read(p []byte) (int, error) {
	n, err := q.Reader.Read(p)
	if err == io.EOF {
		q.t.Error("waited for more than the wrong byte")
	}
	return n, err
}

func TestWrongByteIsRefusedWithoutWaitingForMore(t *testing.T) {
	t.Parallel()
	_, bad := vectors(t)
	for _, v := range bad {
		if v.Error == "truncated" {
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			t.Parallel()
			upTo := v.bytes(t)[:v.Offset+1]
			v.check(t, quiet{iotest.OneByteReader(bytes.NewReader(upTo)), t})
		})
	}
}

func TestErrorsAreFinal(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for name, r := range map[string]io.Reader{
		"end":       strings.NewReader("1:a,"),
		"syntax":    strings.NewReader("1:a,x1:b,"),
		"truncated": strings.NewReader("1:a,1:"),
		"reader":    io.MultiReader(strings.NewReader("1:a,1"), iotest.ErrReader(boom), strings.NewReader(":b,")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(r, 10)
			if content, err := d.Next(); err != nil || string(content) != "a" {
				t.Fatalf("first frame %q, %v", content, err)
			}
			_, first := d.Next()
			if first == nil {
				t.Fatal("no error")
			}
			if name == "reader" && !errors.Is(first, boom) {
				t.Errorf("error %v hides the reader's", first)
			}
			for range 3 {
				if content, err := d.Next(); content != nil || err != first {
					t.Errorf("Next again: %q, %v, want %v", content, err, first)
				}
				if err := d.Wait(); err != first {
					t.Errorf("Wait again: %v, want %v", err, first)
				}
			}
		})
	}
}

// stuck returns neither bytes nor an error.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func TestReaderWithoutProgressIsGivenUp(t *testing.T) {
	t.Parallel()
	if _, err := NewDecoder(stuck{}, 10).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("error %v", err)
	}
}

func TestWaitReturnsAtTheFirstByte(t *testing.T) {
	t.Parallel()
	r, w := io.Pipe()
	d := NewDecoder(r, 10)
	go func() {
		_, _ = w.Write([]byte("3"))
		_, _ = w.Write([]byte(":abc,3:de"))
		_ = w.Close()
	}()
	for i, want := range []string{"abc", ""} {
		if err := d.Wait(); err != nil {
			t.Fatalf("Wait %d: %v", i, err)
		}
		content, err := d.Next()
		if string(content) != want || (err != nil) != (want == "") {
			t.Fatalf("Next %d: %q, %v", i, content, err)
		}
	}
}

func TestContentCannotBeAppendedInto(t *testing.T) {
	t.Parallel()
	d := NewDecoder(strings.NewReader("1:a,1:b,"), 10)
	first, _ := d.Next()
	_ = append(first, "XXXXXX"...)
	if second, err := d.Next(); err != nil || string(second) != "b" {
		t.Errorf("second frame %q, %v", second, err)
	}
}

func TestNegativeMaximumIsZero(t *testing.T) {
	t.Parallel()
	frames, err := decodeAll(strings.NewReader("0:,1:a,"), -5)
	if len(frames) != 1 || !errors.Is(err, ErrTooLarge) {
		t.Errorf("%d frames, %v", len(frames), err)
	}
}
