package templates

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/schema"
)

var update = flag.Bool("update", false, "write the golden files in testdata")

var names = []string{"block.html", "block.json", "block.txt"}

func repeat[T ~[32]byte | ~[20]byte](c byte) T {
	var v T
	for i := range len(v) {
		v[i] = c
	}
	return v
}

// sample is an ordinary block: a transfer, and a contract creation whose receipt is known.
func sample() schema.Block {
	to, contract := repeat[schema.Address](0x44), repeat[schema.Address](0x55)
	gas, ok := uint64(53000), uint8(1)
	return schema.Block{
		Chain: 1,
		Header: schema.Header{
			Hash: repeat[schema.Hash](0xab), Parent: repeat[schema.Hash](0xcd), Number: 19000000,
			Time: time.Unix(1705173443, 0), FeeRecipient: repeat[schema.Address](0x11),
		},
		GasLimit:  30000000,
		GasUsed:   12345678,
		BaseFee:   "15123456789",
		ExtraData: schema.Bytes("geth/go1.21/linux"),
		StateRoot: repeat[schema.Hash](0xef),
		Transactions: []schema.Transaction{
			{Hash: repeat[schema.Hash](0x01), From: repeat[schema.Address](0x33), To: &to, Value: "1000000000000000000"},
			{Hash: repeat[schema.Hash](0x02), Index: 1, From: repeat[schema.Address](0x33), Value: "0",
				GasUsed: &gas, Status: &ok, Contract: &contract},
		},
	}
}

// empty has nothing that can be absent, as chains before London and other chains have it.
func empty() schema.Block {
	return schema.Block{Header: schema.Header{Time: time.Unix(0, 0)}}
}

// hostile carries in its extra data what is dangerous to show.
func hostile() schema.Block {
	b := sample()
	b.ExtraData = schema.Bytes("<script>alert('x')</script> &\"\\+`{{.}}\x00\xff\u202e\u2028\r\n\x1b[31m\x7f")
	return b
}

func blocks() map[string]schema.Block {
	return map[string]schema.Block{"sample": sample(), "empty": empty(), "hostile": hostile()}
}

func render(t *testing.T, name string, b schema.Block) []byte {
	t.Helper()
	tmpl, err := Default(name)
	if err != nil {
		t.Fatal(err)
	}
	out, err := tmpl.Render(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for kind, block := range blocks() {
		for _, name := range names {
			golden := filepath.Join("testdata", kind+filepath.Ext(name))
			got := render(t, name, block)
			if *update {
				if err := os.WriteFile(golden, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("%s differs (run the test with -update if that is meant):\n%s", golden, got)
			}
		}
	}
}

func TestOutputIsPlainASCIIInLines(t *testing.T) {
	t.Parallel()
	for kind, block := range blocks() {
		for _, name := range names {
			for i, c := range render(t, name, block) {
				if c != '\n' && (c < ' ' || c > '~') {
					t.Errorf("%s of %s: byte %#x at %d", name, kind, c, i)
				}
			}
			if bytes.HasSuffix(render(t, name, block), []byte("\n")) {
				t.Errorf("%s of %s ends in a newline", name, kind)
			}
		}
	}
}

func TestHostileExtraDataIsNotMarkup(t *testing.T) {
	t.Parallel()
	if out := render(t, "block.html", hostile()); bytes.Contains(out, []byte("<script")) {
		t.Errorf("markup out of extra data:\n%s", out)
	}
}

func TestJSONIsWhatOtherLanguagesPrint(t *testing.T) {
	t.Parallel()
	for kind, block := range blocks() {
		out := render(t, "block.json", block)
		var again bytes.Buffer
		if err := json.Indent(&again, out, "", "  "); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if !bytes.Equal(again.Bytes(), out) {
			t.Errorf("%s is not indented by two spaces:\n%s", kind, out)
		}
	}
}

func TestReceiptsDoNotShow(t *testing.T) {
	t.Parallel()
	with, without := sample(), sample()
	for i := range without.Transactions {
		tx := &without.Transactions[i]
		tx.GasUsed, tx.Status, tx.Contract = nil, nil, nil
	}
	for _, name := range names {
		if !bytes.Equal(render(t, name, with), render(t, name, without)) {
			t.Errorf("%s shows facts that not every observer has", name)
		}
	}
}

func TestAnyBlockFitsTheLimit(t *testing.T) {
	t.Parallel()
	to := repeat[schema.Address](0xff)
	most := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)).String()
	b := sample()
	b.ExtraData = bytes.Repeat([]byte{'\\'}, 4<<10)
	for range 2 * maxTransactions {
		b.Transactions = append(b.Transactions, schema.Transaction{To: &to, Value: most})
	}
	for _, name := range names {
		out := render(t, name, b)
		t.Logf("%s: %d bytes", name, len(out))
		if !bytes.Contains(out, fmt.Append(nil, len(b.Transactions))) {
			t.Errorf("%s does not tell how many transactions there are", name)
		}
	}
}

func TestValuesThatAreNoNumbersAreRefused(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", "01", "-1", "0x1", "1e3", "<b>", strings.Repeat("9", 79)} {
		b := sample()
		b.Transactions[0].Value = value
		tmpl, _ := Default("block.txt")
		if out, err := tmpl.Render(t.Context(), b); err == nil {
			t.Errorf("value %q rendered:\n%s", value, out)
		}
		b = sample()
		b.BaseFee = value
		if out, err := tmpl.Render(t.Context(), b); err == nil && value != "" {
			t.Errorf("base fee %q rendered:\n%s", value, out)
		}
	}
}

func TestTimeBeyondOtherLanguagesClocksIsLeftOut(t *testing.T) {
	t.Parallel()
	b := sample()
	b.Time = time.Unix(1<<40, 0)
	if out := string(render(t, "block.txt", b)); !strings.Contains(out, "time -\ntimestamp 1099511627776\n") {
		t.Error(out)
	}
}

func TestContentTypes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"block.html": "text/html; charset=utf-8", "block.json": "application/json", "block.txt": "text/plain; charset=utf-8",
	} {
		if tmpl, err := Default(name); err != nil || tmpl.ContentType() != want {
			t.Errorf("%s: %v, %v", name, tmpl.ContentType(), err)
		}
	}
	if _, err := Default("block.xml"); err == nil {
		t.Error("block.xml exists")
	}
}

// user returns a user's template that has not been rehearsed.
func user(t *testing.T, name, source string) *Template {
	t.Helper()
	tmpl, err := parseTemplate(name, []byte(source))
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

var long = strings.Repeat("x", 1000)

func TestEndlessTemplatesAreStopped(t *testing.T) {
	t.Parallel()
	doubling := "{{define \"0\"}}{{end}}"
	for i := range 60 {
		doubling += fmt.Sprintf(`{{define "%d"}}{{template "%d"}}{{template "%d"}}{{end}}`, i+1, i, i)
	}
	for name, c := range map[string]struct {
		source string
		want   error
	}{
		"a loop that prints":               {"{{range 1000000000}}" + long + "{{end}}", ErrTooLong},
		"a silent loop":                    {"{{range 1000000000000}}{{end}}", ErrDeadline},
		"a silent loop in an if in a with": {"{{if .Hash}}{{with 1}}{{range 1000000000000}}{{end}}{{end}}{{end}}", ErrDeadline},
		"a silent loop in an else":         {"{{if false}}{{else}}{{range 1000000000000}}{{continue}}{{end}}{{end}}", ErrDeadline},
		"a silent loop in a loop's else":   {`{{range slice .Transactions 0 0}}{{else}}{{range 1000000000000}}{{end}}{{end}}`, ErrDeadline},
		"a loop over the block's number":   {"{{range .Number}}{{range $.Number}}{{end}}{{end}}", ErrDeadline},
		"calls that double silently":       {doubling + `{{template "60"}}`, ErrDeadline},
		"a variable that doubles":          {`{{$s := "xx"}}{{range 100}}{{$s = printf "%s%s" $s $s}}{{end}}`, errText},
		"quoting that doubles":             {`{{$s := "\""}}{{range 100}}{{$s = json $s}}{{end}}`, errText},
	} {
		for _, ext := range []string{".html", ".txt"} {
			t.Run(name+ext, func(t *testing.T) {
				t.Parallel()
				tmpl := user(t, "mine"+ext, c.source)
				tmpl.timeout = time.Minute
				if c.want == ErrDeadline {
					tmpl.timeout = 50 * time.Millisecond
				}
				if out, err := tmpl.Render(t.Context(), sample()); !errors.Is(err, c.want) {
					t.Errorf("%d bytes, error %v, want %v", len(out), err, c.want)
				}
			})
		}
	}
}

func TestCallersContextEndsRendering(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tmpl, _ := Default("block.html")
	if _, err := tmpl.Render(ctx, sample()); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := tmpl.Render(t.Context(), sample()); err != nil {
		t.Errorf("not usable afterwards: %v", err)
	}
}

// The bubble fails the test if a rendering leaves a goroutine behind.
func TestNothingIsLeftRunning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tmpl := user(t, "mine.txt", "{{range 1000000000}}"+long+"{{end}}")
		if _, err := tmpl.Render(t.Context(), sample()); !errors.Is(err, ErrTooLong) {
			t.Errorf("error %v", err)
		}
	})
}

func TestConcurrentRenderingsAgree(t *testing.T) {
	t.Parallel()
	tmpl, _ := Default("block.html")
	want := render(t, "block.html", sample())
	done := make(chan []byte)
	const n = 8
	for range n {
		go func() {
			out, _ := tmpl.Render(t.Context(), sample())
			done <- out
		}()
	}
	for range n {
		if out := <-done; !bytes.Equal(out, want) {
			t.Errorf("got %q", out)
		}
	}
}

func TestTransactionsSeenAreTheFirst(t *testing.T) {
	t.Parallel()
	b := empty()
	for i := range uint32(maxTransactions + 5) {
		b.Transactions = append(b.Transactions, schema.Transaction{Index: i, Value: "0"})
	}
	out, err := user(t, "mine.txt", `{{.TransactionCount}} {{len .Transactions}} {{(index .Transactions 2999).Index}}`).
		Render(t.Context(), b)
	if err != nil || string(out) != "3005 3000 2999" {
		t.Errorf("%q, %v", out, err)
	}
}

func BenchmarkRender(b *testing.B) {
	block := sample()
	for range 200 {
		block.Transactions = append(block.Transactions, block.Transactions[0])
	}
	for _, name := range names {
		b.Run(name, func(b *testing.B) {
			tmpl, err := Default(name)
			if err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := tmpl.Render(b.Context(), block); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
