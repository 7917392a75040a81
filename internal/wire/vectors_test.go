package wire_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

var update = flag.Bool("update", false, "rewrite the vectors in schema/testdata")

const vectorsAbout = "Frame contents of the relay protocol (docs/WIRE.md). `hex` is the content, without its netstring " +
	"length and comma; `text` shows it where it is printable. Each good content parses to `fields`; where `canonical` " +
	"is true, encoding the fields gives the same bytes again. Each bad content is refused with `code` when parsed as " +
	"a frame of type `type`. Made by: go test ./internal/wire -update"

type vector struct {
	Name      string          `json:"name"`
	Type      string          `json:"type"`
	Hex       string          `json:"hex"`
	Text      string          `json:"text,omitempty"`
	Fields    json.RawMessage `json:"fields,omitempty"`
	Canonical bool            `json:"canonical,omitempty"`
	Code      wire.Code       `json:"code,omitempty"`
}

type vectorFile struct {
	About string   `json:"about"`
	Good  []vector `json:"good"`
	Bad   []vector `json:"bad"`
}

// The fields of the frames that have no type of their own in the package.
type (
	dataFields struct {
		Observation schema.Observation `json:"observation"`
		PayloadHex  string             `json:"payload_hex"`
		RawHex      string             `json:"raw_hex,omitempty"`
	}
	ackFields struct {
		N     uint64 `json:"n"`
		Flags string `json:"flags"`
	}
	refusalFields struct {
		N    uint64    `json:"n"`
		Code wire.Code `json:"code"`
		Text string    `json:"text"`
	}
	drainFields struct {
		Millis int64 `json:"ms"`
	}
	fatalFields struct {
		Retry bool      `json:"retry"`
		Code  wire.Code `json:"code"`
		Text  string    `json:"text"`
	}
)

// parse parses a content as a frame of the named type and returns its fields and, encoded again, its bytes.
func parse(kind string, content []byte) (fields any, again []byte, err error) {
	switch kind {
	case "hello":
		h, err := wire.ParseHello(content)
		return reencode(h, err, func() ([]byte, error) { return wire.AppendHello(nil, h) })
	case "welcome":
		w, err := wire.ParseWelcome(content)
		return reencode(w, err, func() ([]byte, error) { return wire.AppendWelcome(nil, w) })
	case "data":
		o, payload, err := wire.ParseData(content)
		return reencode(dataFields{o, hex.EncodeToString(payload), hex.EncodeToString(o.Raw)}, err,
			func() ([]byte, error) { return wire.AppendData(nil, o, payload) })
	case "status":
		r, err := wire.ParseStatus(content)
		return reencode(r, err, func() ([]byte, error) { return wire.AppendStatus(nil, r) })
	case "ack":
		n, flags, err := wire.ParseAck(content)
		return reencode(ackFields{n, string(flags)}, err,
			func() ([]byte, error) { return wire.AppendAck(nil, n, flags), nil })
	case "refusal":
		r, err := wire.ParseRefusal(content)
		return reencode(refusalFields{r.N, r.Code, r.Text}, err,
			func() ([]byte, error) { return wire.AppendRefusal(nil, r), nil })
	case "drain":
		d, err := wire.ParseDrain(content)
		return reencode(drainFields{d.Milliseconds()}, err,
			func() ([]byte, error) { return wire.AppendDrain(nil, d), nil })
	case "fatal":
		f, err := wire.ParseFatal(content)
		return reencode(fatalFields{f.Retry, f.Code, f.Text}, err,
			func() ([]byte, error) { return wire.AppendFatal(nil, f), nil })
	case "ping":
		err := wire.ParseBare(content, wire.TypePing)
		return reencode(struct{}{}, err, func() ([]byte, error) { return wire.AppendPing(nil), nil })
	case "pong":
		err := wire.ParseBare(content, wire.TypePong)
		return reencode(struct{}{}, err, func() ([]byte, error) { return wire.AppendPong(nil), nil })
	case "bye":
		err := wire.ParseBare(content, wire.TypeBye)
		return reencode(struct{}{}, err, func() ([]byte, error) { return wire.AppendBye(nil), nil })
	}
	return nil, nil, errors.New("no such type of frame: " + kind)
}

func reencode(fields any, err error, encode func() ([]byte, error)) (any, []byte, error) {
	if err != nil {
		return nil, nil, err
	}
	again, err := encode()
	return fields, again, err
}

func vectorPath(name string) string { return filepath.Join("..", "..", "schema", "testdata", name) }

func TestVectors(t *testing.T) {
	t.Parallel()
	if *update {
		writeVectors(t)
	}
	raw, err := os.ReadFile(vectorPath("wire.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file vectorFile
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, v := range file.Good {
		seen[v.Type] = true
		t.Run("good/"+v.Type+"/"+v.Name, func(t *testing.T) { checkGood(t, v) })
	}
	for _, v := range file.Bad {
		t.Run("bad/"+v.Type+"/"+v.Name, func(t *testing.T) { checkBad(t, v) })
	}
	if len(seen) != 11 {
		t.Errorf("good vectors of %d types, want 11", len(seen))
	}
}

func checkGood(t *testing.T, v vector) {
	fields, again, err := parse(v.Type, unhex(t, v.Hex))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(normal(t, v.Fields), normal(t, marshal(t, fields))); diff != "" {
		t.Errorf("fields (-want +got):\n%s", diff)
	}
	if same := hex.EncodeToString(again) == v.Hex; same != v.Canonical {
		t.Errorf("encoded again it is %q; canonical is %v", again, v.Canonical)
	}
}

func checkBad(t *testing.T, v vector) {
	_, _, err := parse(v.Type, unhex(t, v.Hex))
	var broken *wire.Error
	if !errors.As(err, &broken) {
		t.Fatalf("error %v, want code %s", err, v.Code)
	}
	if broken.Code != v.Code {
		t.Errorf("code %s (%s), want %s", broken.Code, broken.Text, v.Code)
	}
}

// writeVectors makes the file from the contents in cases_test.go, which say by hand what is good, bad and why.
func writeVectors(t *testing.T) {
	file := vectorFile{About: vectorsAbout}
	for _, c := range goodCases(t) {
		fields, again, err := parse(c.kind, c.content)
		if err != nil {
			t.Fatalf("%s/%s: %v", c.kind, c.name, err)
		}
		v := newVector(c)
		v.Fields, v.Canonical = marshal(t, fields), string(again) == string(c.content)
		file.Good = append(file.Good, v)
	}
	for _, c := range badCases() {
		v := newVector(c)
		v.Code = c.code
		file.Bad = append(file.Bad, v)
	}
	writeJSON(t, "wire.json", file)
}

func writeJSON(t *testing.T, name string, v any) {
	t.Helper()
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(vectorPath(name), []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func newVector(c wireCase) vector {
	v := vector{Name: c.name, Type: c.kind, Hex: hex.EncodeToString(c.content)}
	if printable(c.content) {
		v.Text = string(c.content)
	}
	return v
}

func printable(b []byte) bool {
	return len(b) < 1024 && !strings.ContainsFunc(string(b), func(r rune) bool {
		return r == unicode.ReplacementChar || r != '\n' && !unicode.IsPrint(r)
	})
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func marshal(t *testing.T, v any) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// normal decodes JSON so that null and an absent or empty list compare equal.
func normal(t *testing.T, raw json.RawMessage) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	for k, item := range v {
		if list, ok := item.([]any); item == nil || ok && len(list) == 0 {
			delete(v, k)
		}
		if inner, ok := item.(map[string]any); ok {
			v[k] = normal(t, marshal(t, inner))
		}
	}
	return v
}
