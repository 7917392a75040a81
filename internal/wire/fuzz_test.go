package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/firstseen/firstseen/internal/wire"
)

// seed adds the contents of all cases of one kind.
func seed(f *testing.F, kind string) {
	var t testing.T
	for _, c := range append(goodCases(&t), badCases()...) {
		if c.kind == kind && len(c.content) < 8<<10 {
			f.Add(c.content)
		}
	}
}

// steady checks what holds of every parse: an *Error or something that encodes to bytes which parse to the same again.
func steady(t *testing.T, kind string, content []byte) {
	before := bytes.Clone(content)
	_, again, err := parse(kind, content)
	if !bytes.Equal(before, content) {
		t.Fatalf("parsing changed the content")
	}
	if err != nil {
		var broken *wire.Error
		if !errors.As(err, &broken) {
			t.Fatalf("%v is not a *wire.Error", err)
		}
		return
	}
	_, third, err := parse(kind, again)
	if err != nil || !bytes.Equal(again, third) {
		t.Fatalf("%q parsed, but encoded as %q it gives %q, %v", content, again, third, err)
	}
}

func FuzzParseData(f *testing.F) {
	seed(f, "data")
	f.Fuzz(func(t *testing.T, content []byte) { steady(t, "data", content) })
}

func FuzzParseHello(f *testing.F) {
	seed(f, "hello")
	f.Fuzz(func(t *testing.T, content []byte) { steady(t, "hello", content) })
}

func FuzzParseAck(f *testing.F) {
	seed(f, "ack")
	f.Fuzz(func(t *testing.T, content []byte) { steady(t, "ack", content) })
}

func FuzzParseStatus(f *testing.F) {
	seed(f, "status")
	f.Fuzz(func(t *testing.T, content []byte) { steady(t, "status", content) })
}

func FuzzParseFatal(f *testing.F) {
	seed(f, "fatal")
	f.Fuzz(func(t *testing.T, content []byte) { steady(t, "fatal", content) })
}
