package server

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

const docPath = "../docs/WIRE.md"

// fenced returns the content of the one block of docs/WIRE.md that is marked so, and where it is.
func fenced(t *testing.T, mark string) (doc []byte, from, to int) {
	t.Helper()
	doc, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	at := regexp.MustCompile("(?s)\n```"+mark+"\n(.*?)```\n").FindAllSubmatchIndex(doc, -1)
	if len(at) != 1 {
		t.Fatalf("%d blocks marked %s, want one", len(at), mark)
	}
	return doc, at[0][2], at[0][3]
}

// The worked example is the conversation that the block's own bytes have with a real server.
func TestWorkedExampleOfTheDocument(t *testing.T) {
	t.Parallel()
	if *update {
		writeExample(t)
	}
	doc, from, to := fenced(t, "wire")
	r := start(t)
	p := r.dial()
	p.nc.SetDeadline(time.Now().Add(patience))
	lines := joined(string(doc[from:to]))
	if len(lines) < 7 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		raw := []byte(strings.ReplaceAll(line[2:], `\n`, "\n"))
		if line[0] == 'C' {
			p.raw(string(raw))
			continue
		}
		if err := expect(p.nc, raw); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	if err := expectEnd(p.nc); err != nil {
		t.Error(err)
	}
}

// joined puts lines together again that were broken.
func joined(block string) []string {
	var out []string
	for line := range strings.Lines(block) {
		line = strings.TrimSuffix(line, "\n")
		if more, ok := strings.CutPrefix(line, "  "); ok {
			out[len(out)-1] += more
		} else {
			out = append(out, line)
		}
	}
	return out
}

func writeExample(t *testing.T) {
	var block strings.Builder
	say := func(who string, contents ...string) {
		line := strings.ReplaceAll(string(framed(contents)), "\n", `\n`)
		for lead := who + " "; line != ""; lead = "  " {
			cut := min(len(line), 118)
			fmt.Fprintf(&block, "%s%s\n", lead, line[:cut])
			line = line[cut:]
		}
	}
	o := observationAt(1)
	o.Transactions = []schema.Transaction{}
	wrong := o
	wrong.Hash = schema.Hash{0xba, 0xdd}
	say("C", hello)
	say("S", welcomed())
	say("C", dataOf(o, "<p>1</p>\n"))
	say("S", "A1 f")
	say("C", dataOf(wrong, "<p>1</p>\n"))
	say("S", "N2 header the header hashes to "+o.Hash.String())
	say("C", "B")
	doc, from, to := fenced(t, "wire")
	doc = append(append(bytes.Clone(doc[:from]), block.String()...), doc[to:]...)
	if err := os.WriteFile(docPath, doc, 0o644); err != nil {
		t.Fatal(err)
	}
}

// The document's client is a stranger's: it must get by with what the document says.
func TestPythonClientOfTheDocument(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3 in PATH")
	}
	doc, from, to := fenced(t, "python")
	program := doc[from:to]
	if lines := bytes.Count(program, []byte("\n")); lines > 60 {
		t.Errorf("%d lines, promised are 60", lines)
	}
	path := filepath.Join(t.TempDir(), "relay.py")
	if err := os.WriteFile(path, program, 0o600); err != nil {
		t.Fatal(err)
	}
	var entries bytes.Buffer
	enc := json.NewEncoder(&entries)
	var want strings.Builder
	add := func(o schema.Observation, outcome string) {
		if err := enc.Encode(map[string]any{"meta": o, "payload": "<p>é</p>\n"}); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&want, "%d %s\n", strings.Count(want.String(), "\n")+1, outcome)
	}
	for i := range int64(2 * wire.WindowFrames) {
		add(observationAt(i), "first")
	}
	add(observationAt(5), "duplicate")
	bad := observationAt(6)
	bad.Hash = schema.Hash{1}
	add(bad, "refused header the header hashes to "+observationAt(6).Hash.String())

	r := start(t)
	host, port, err := net.SplitHostPort(r.srv.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), python, path, host, port)
	cmd.Stdin = &entries
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	got, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, complaints.Bytes())
	}
	if string(got) != want.String() {
		t.Errorf("printed %d lines, want %d; the last %.200q", bytes.Count(got, []byte("\n")), strings.Count(want.String(), "\n"), got[max(0, len(got)-200):])
	}
}

// The tables of limits and codes name every constant's value.
func TestDocumentNamesEveryLimitAndCode(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(docPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []wire.Code{wire.CodeAuth, wire.CodeVersion, wire.CodeProtocol, wire.CodeSize, wire.CodeBusy,
		wire.CodeStore, wire.CodeTimeout, wire.CodeMeta, wire.CodeHeader, wire.CodeData} {
		if !bytes.Contains(doc, []byte("| `"+string(code)+"` |")) {
			t.Errorf("code %s has no row", code)
		}
	}
	for _, limit := range []string{
		fmt.Sprintf("| %d KiB of content |", wire.MaxHello>>10),
		fmt.Sprintf("| %d MiB (`max_frame`) |", wire.MaxFrame>>20),
		fmt.Sprintf("| %d KiB of content |", wire.MaxStatus>>10),
		fmt.Sprintf("| %d nodes and %d events; their reasons are printable UTF-8 of at most %d bytes |",
			wire.MaxNodes, wire.MaxEvents, wire.MaxText),
		fmt.Sprintf("1,%03d `D` frames and %d MiB", wire.WindowFrames-1000, wire.WindowBytes>>20),
		fmt.Sprintf("| complete within %.0f s", wire.FrameTimeout.Seconds()),
		fmt.Sprintf("| complete within %.0f s, within %.0f s |", proxyTime.Seconds(), handshakeTime.Seconds()),
		fmt.Sprintf("| within %.0f s of HELLO |", wire.WelcomeTimeout.Seconds()),
		fmt.Sprintf("| after %.0f s without a write", wire.PingAfter.Seconds()),
		fmt.Sprintf("| silence | %.0f s;", wire.DeadAfter.Seconds()),
		fmt.Sprintf("at most %d bytes, for people", wire.MaxText),
		fmt.Sprintf("up to %d chain ids", wire.MaxChains),
		fmt.Sprintf("up to %d names", wire.MaxCaps),
		fmt.Sprintf("up to %d visible ASCII", wire.MaxToken),
		fmt.Sprintf("1 to %d printable ASCII", wire.MaxContentType),
		fmt.Sprintf("for at most %.0f s or %d MiB", bareLingerTime.Seconds(), lingerBytes>>20),
		fmt.Sprintf("at most %.0f s, and write the last A and N", settleWait.Seconds()),
		fmt.Sprintf("at most %.0f s; close", lingerTime.Seconds()),
	} {
		if !bytes.Contains(doc, []byte(limit)) {
			t.Errorf("the document does not say %q", limit)
		}
	}
}
