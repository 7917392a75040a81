package chain

import (
	"encoding/hex"
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/schema"
)

var update = flag.Bool("update", false, "rewrite raw.json in schema/testdata")

const rawAbout = "Raw parts of observations (docs/WIRE.md, The raw part): `hex` is one, and `header` and `hash` are those of its " +
	"observation. Good ones open to `block` and `receipts`, byte for byte. Bad ones are refused; those with `roots` only show when " +
	"transactions are encoded and hashed again, or the roots over transactions, withdrawals, uncles or receipts computed. " +
	"Blocks and keys are made up. Made by: go test ./internal/chain -run RawVectors -update"

type rawFile struct {
	About string      `json:"about"`
	Good  []rawVector `json:"good"`
	Bad   []rawVector `json:"bad"`
}

type rawVector struct {
	Name     string       `json:"name"`
	Hash     schema.Hash  `json:"hash"`
	Header   schema.Bytes `json:"header"` // that hashes to it
	Hex      string       `json:"hex"`
	Block    string       `json:"block,omitempty"`
	Receipts string       `json:"receipts,omitempty"` // empty: null
	Roots    bool         `json:"roots,omitempty"`
}

func TestRawVectors(t *testing.T) {
	t.Parallel()
	path := filepath.Join("..", "..", "schema", "testdata", "raw.json")
	if *update {
		writeRawVectors(t, path)
	}
	text, err := os.ReadFile(path)
	var file rawFile
	if err == nil {
		err = json.Unmarshal(text, &file)
	}
	if err != nil || len(file.Good) < 4 || len(file.Bad) < 40 {
		t.Fatalf("%d good and %d bad: %v", len(file.Good), len(file.Bad), err)
	}
	for _, v := range file.Good {
		if got, err := openRaw(t, v); err != nil || string(got.Block) != v.Block || string(got.Receipts) != v.Receipts {
			t.Errorf("%s: %v", v.Name, err)
		}
	}
	for _, v := range file.Bad {
		if _, err := openRaw(t, v); err == nil {
			t.Errorf("%s: accepted", v.Name)
		}
	}
}

func openRaw(t *testing.T, v rawVector) (schema.RawBlock, error) {
	t.Helper()
	packed, err := hex.DecodeString(v.Hex)
	if err != nil {
		t.Fatal(err)
	}
	b, err := UnpackRaw(packed)
	if err == nil {
		err = Verify.VerifyRaw(v.Hash, b)
	}
	return b, err
}

func writeRawVectors(t *testing.T, path string) {
	t.Helper()
	file := rawFile{About: rawAbout}
	good := func(name string, d *drawn, b schema.RawBlock, packed []byte) {
		file.Good = append(file.Good, rawVector{Name: name, Hash: d.hash, Header: d.header, Hex: hex.EncodeToString(packed),
			Block: string(b.Block), Receipts: string(b.Receipts)})
	}
	full, empty, bare, many := draw(t, 5), draw(t, 0), draw(t, 1), draw(t, 130)
	bare.receipts, many.receipts = nil, nil
	unknown := draw(t, 2)
	unknown.tx(1)["type"], unknown.receipt(1)["type"], unknown.tx(1)["later"] = "0x7f", "0x7f", "0x1"
	for name, d := range map[string]*drawn{"a type of transaction that is not known": unknown, "every type of transaction": full, "no transactions": empty, "no receipts": bare, "130 transactions": many} {
		b := d.raw(t)
		packed, err := PackRaw(b)
		if err != nil {
			t.Fatal(err)
		}
		good(name, d, b, packed)
	}
	b := empty.raw(t)
	b.Block = json.RawMessage(strings.Replace(string(b.Block), "{", "{ \"later\\u003c\" : [ 1.50e+2, \"\\ud83d\\ude00\" ],\n\t", 1))
	spaced := " { \"receipts\" : " + string(b.Receipts) + " ,\r\n\t\"block\":" + string(b.Block) + "}\n"
	good("spaces, another order, what nodes add", empty, b, zipped(t, spaced))
	slices.SortFunc(file.Good, func(a, b rawVector) int { return strings.Compare(a.Name, b.Name) })

	bad := func(name string, d *drawn, packed []byte, roots bool) {
		file.Bad = append(file.Bad, rawVector{Name: name, Hash: d.hash, Header: d.header, Hex: hex.EncodeToString(packed), Roots: roots})
	}
	no := noRaws(t, string(empty.raw(t).Block))
	for _, name := range slices.Sorted(maps.Keys(no)) {
		bad(name, empty, no[name], false)
	}
	roots := []string{"a transaction changed", "a withdrawal changed", "withdrawals left out", "uncles", "receipts: one changed",
		"receipts: another type", "receipts: other gas", "receipts: log changed"}
	changes := badRaws()
	for _, name := range slices.Sorted(maps.Keys(changes)) {
		d := draw(t, 3)
		changes[name].change(d)
		packed, err := PackRaw(d.raw(t))
		if err != nil {
			t.Fatal(err)
		}
		bad(name, d, packed, slices.Contains(roots, name))
	}
	var out strings.Builder
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(file); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}
