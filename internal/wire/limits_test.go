package wire_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

func wantCode(t *testing.T, err error, code wire.Code) {
	t.Helper()
	var broken *wire.Error
	if !errors.As(err, &broken) || broken.Code != code {
		t.Errorf("error %v, want code %s", err, code)
	}
}

func TestAppendLeavesDstAloneWhenItFails(t *testing.T) {
	t.Parallel()
	dst := []byte("before")
	for name, call := range map[string]func() ([]byte, error){
		"hello":   func() ([]byte, error) { return wire.AppendHello(dst, wire.Hello{}) },
		"welcome": func() ([]byte, error) { return wire.AppendWelcome(dst, wire.Welcome{}) },
		"data":    func() ([]byte, error) { return wire.AppendData(dst, schema.Observation{}, nil) },
		"status":  func() ([]byte, error) { return wire.AppendStatus(dst, schema.Report{Gaps: []schema.Gap{{}}}) },
	} {
		if out, err := call(); err == nil || string(out) != "before" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

func TestSizesAreExact(t *testing.T) {
	t.Parallel()
	overhead := len(must(t)(wire.AppendData(nil, observation(), nil)))
	full, err := wire.AppendData(nil, observation(), make([]byte, wire.MaxFrame-overhead))
	if err != nil || len(full) != wire.MaxFrame {
		t.Errorf("a frame of MaxFrame: %d bytes, %v", len(full), err)
	}
	_, err = wire.AppendData(nil, observation(), make([]byte, wire.MaxFrame-overhead+1))
	wantCode(t, err, wire.CodeSize)

	empty := len(`S{"later":""}`)
	_, err = wire.ParseStatus([]byte(`S{"later":"` + strings.Repeat("x", wire.MaxStatus-empty) + `"}`))
	if err != nil {
		t.Errorf("a status of MaxStatus: %v", err)
	}
	_, err = wire.ParseStatus([]byte(`S{"later":"` + strings.Repeat("x", wire.MaxStatus-empty+1) + `"}`))
	wantCode(t, err, wire.CodeSize)
}

func TestTextIsCutBetweenCharacters(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("世", 100), strings.Repeat("é", 200), "x" + strings.Repeat("😀", 100), "\xff\x00"} {
		refusal, err := wire.ParseRefusal(wire.AppendRefusal(nil, wire.Refusal{N: 1, Code: wire.CodeData, Text: text}))
		if err != nil || !utf8.ValidString(refusal.Text) || len(refusal.Text) > wire.MaxText || len(refusal.Text) == 0 {
			t.Errorf("%q came back as %q, %v", text, refusal.Text, err)
		}
	}
}

func TestReasonsFromNodesAreMadeToFitAStatus(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("世", 100) + "\n\x1b[2J"
	r := schema.Report{
		Nodes:  []schema.NodeView{{Name: "n", Chain: 1, State: schema.NodeLive, Reason: long, Since: time.Unix(1, 0)}},
		Events: []schema.NodeEvent{{Node: "n", Chain: 1, From: schema.NodeReady, To: schema.NodeLive, Reason: long, At: time.Unix(1, 0)}},
	}
	got, err := wire.ParseStatus(must(t)(wire.AppendStatus(nil, r)))
	if err != nil {
		t.Fatal(err)
	}
	for _, reason := range []string{got.Nodes[0].Reason, got.Events[0].Reason} {
		if reason != strings.Repeat("世", wire.MaxText/len("世")) {
			t.Errorf("reason came back as %q", reason)
		}
	}
	if r.Nodes[0].Reason != long || r.Events[0].Reason != long {
		t.Error("the caller's report was changed")
	}
}

func TestAStatusHoldsAsManyNodesAndEventsAsItsLimits(t *testing.T) {
	t.Parallel()
	content := `S{"nodes":[` + many(wire.MaxNodes, statusNode) + `],"events":[` + many(wire.MaxEvents, statusEvent) + `]}`
	r, err := wire.ParseStatus([]byte(content))
	if err != nil || len(r.Nodes) != wire.MaxNodes || len(r.Events) != wire.MaxEvents {
		t.Errorf("%d nodes, %d events, %v", len(r.Nodes), len(r.Events), err)
	}
}

func TestAStatusWithinItsCountsMayStillExceedItsSize(t *testing.T) {
	t.Parallel()
	r := schema.Report{}
	for range wire.MaxNodes {
		r.Nodes = append(r.Nodes, schema.NodeView{Name: "n", Chain: 1, State: schema.NodeLive,
			Reason: strings.Repeat("<", wire.MaxText), Since: time.Unix(1, 0)})
	}
	for range wire.MaxEvents {
		r.Events = append(r.Events, schema.NodeEvent{Node: "n", Chain: 1, From: schema.NodeReady, To: schema.NodeLive,
			Reason: strings.Repeat("<", wire.MaxText), At: time.Unix(1, 0)})
	}
	_, err := wire.AppendStatus(nil, r)
	wantCode(t, err, wire.CodeSize)
	r.Events = nil
	if content := must(t)(wire.AppendStatus(nil, r)); len(content) > wire.MaxStatus {
		t.Errorf("%d bytes", len(content))
	}
}

func TestDataPayloadAliasesContent(t *testing.T) {
	t.Parallel()
	content := must(t)(wire.AppendData(nil, observation(), []byte("payload")))
	_, payload, err := wire.ParseData(content)
	if err != nil || &payload[0] != &content[len(content)-len("payload")] {
		t.Errorf("payload %q does not alias the content, %v", payload, err)
	}
}

func TestDeepNestingIsRefusedNotFollowed(t *testing.T) {
	t.Parallel()
	deep := `D{"later":` + strings.Repeat("[", 1<<20) + "\n"
	_, _, err := wire.ParseData([]byte(deep))
	wantCode(t, err, wire.CodeMeta)
}

func TestUnknownTypes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		content   string
		skippable bool
	}{{"x", true}, {"a1", true}, {"z", true}, {"X", false}, {"1", false}, {"", false}, {"\xff", false}, {"{", false}} {
		if got := wire.Skippable([]byte(c.content)); got != c.skippable {
			t.Errorf("Skippable(%q) = %v", c.content, got)
		}
	}
}

func TestIsHelloOnlyAsksForThePrefix(t *testing.T) {
	t.Parallel()
	if !wire.IsHello([]byte("<!--firstseen/?")) || wire.IsHello([]byte("<!--firstseen")) || wire.IsHello(nil) ||
		wire.IsHello([]byte(" <!--firstseen/1")) {
		t.Error("IsHello does not follow the prefix")
	}
}

func BenchmarkParseData(b *testing.B) {
	var t testing.T
	content := must(&t)(wire.AppendData(nil, fullObservation(), bytes.Repeat([]byte("x"), 450)))
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := wire.ParseData(content); err != nil {
			b.Fatal(err)
		}
	}
}
