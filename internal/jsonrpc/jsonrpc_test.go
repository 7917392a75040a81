package jsonrpc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCallsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, id, method, params string }{
		"number as id":   {`{"jsonrpc":"2.0","id":1.0,"method":"a","params":[1]}`, `1.0`, "a", `[1]`},
		"string as id":   {`{"jsonrpc":"2.0","id":"a\u0062\"","method":"a"}`, `"a\u0062\""`, "a", ``},
		"null as id":     {`{"jsonrpc":"2.0","id":null,"method":"a","params":null}`, `null`, "a", ``},
		"notification":   {`{"jsonrpc":"2.0","method":"a"}`, ``, "a", ``},
		"escaped method": {`{"jsonrpc":"2.0","id":1,"m\u0065thod":"eth_\u0063all","params":[ ]}`, `1`, "eth_call", `[ ]`},
		"spaces":         {" {\"id\" : 1 , \"jsonrpc\":\"2.0\",\"method\":\"a\", \"auth\":{}}\n", `1`, "a", ``},
	} {
		req, problem := Parse([]byte(test.text), 1)
		if problem != nil || req.Batch || len(req.Calls) != 1 || req.Calls[0].Bad != nil {
			t.Errorf("%s: %+v %v", name, req, problem)
			continue
		}
		got := []string{string(req.Calls[0].ID), req.Calls[0].Method, string(req.Calls[0].Params)}
		if diff := cmp.Diff([]string{test.id, test.method, test.params}, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestEachCallOfABatchIsRefusedOnItsOwn(t *testing.T) {
	t.Parallel()
	req, problem := Parse([]byte(`[{"jsonrpc":"2.0","id":1,"method":"a"}, 5, {"jsonrpc":"2.0","method":1},
		{"jsonrpc":"2.0","id":2,"method":"a","params":{}}, {"jsonrpc":"2.0","method":"a","params":"x"},
		{"jsonrpc":"2.0","id":[],"method":"a"}, {"id":3,"method":"a"}, []]`), 8)
	if problem != nil || !req.Batch {
		t.Fatal(problem)
	}
	var got []string
	for _, c := range req.Calls {
		line := string(c.ID)
		if c.Bad != nil {
			line += fmt.Sprint(" ", c.Bad.Code)
		}
		got = append(got, line)
	}
	want := []string{"1", "null -32600", "null -32600", "2 -32602", " -32602", "null -32600", "3 -32600", "null -32600"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestWhatCannotBeReadIsRefusedWhole(t *testing.T) {
	t.Parallel()
	one := `{"jsonrpc":"2.0","id":1,"method":"a"}`
	for text, code := range map[string]int{
		``: CodeParse, `{`: CodeParse, one + one: CodeParse, `<html>`: CodeParse, "\ufeff" + one: CodeParse,
		`{"jsonrpc":"2.0","id":1,"method":"a` + "\xff" + `"}`: CodeParse, `["\ud800"]`: CodeParse,
		`[]`: CodeInvalid, `[` + one + `,` + one + `,` + one + `]`: CodeInvalid,
		`{"method":"a","m\u0065thod":"b"}`:                                  CodeInvalid,
		`{"params":[{"a":1,"a":2}]}`:                                        CodeInvalid,
		strings.Repeat("[", 100_000):                                        CodeInvalid,
		strings.Repeat(`{"a":`, 10_000) + "1" + strings.Repeat("}", 10_000): CodeInvalid,
	} {
		if _, problem := Parse([]byte(text), 2); problem == nil || problem.Code != code {
			t.Errorf("%.60q: %v, want %d", text, problem, code)
		}
	}
}

func TestOnlyAPlainPostOfJSONIsRead(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*http.Request)
		status int
	}{
		"good":        {func(*http.Request) {}, 0},
		"parameters":  {func(r *http.Request) { r.Header.Set("Content-Type", "application/json; charset=utf-8") }, 0},
		"GET":         {func(r *http.Request) { r.Method = http.MethodGet }, http.StatusMethodNotAllowed},
		"chunks":      {func(r *http.Request) { r.TransferEncoding = []string{"chunked"} }, http.StatusBadRequest},
		"compressed":  {func(r *http.Request) { r.Header.Set("Content-Encoding", "gzip") }, http.StatusUnsupportedMediaType},
		"large":       {func(r *http.Request) { r.ContentLength = 11 }, http.StatusRequestEntityTooLarge},
		"form":        {func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, http.StatusUnsupportedMediaType},
		"no type":     {func(r *http.Request) { r.Header.Del("Content-Type") }, http.StatusUnsupportedMediaType},
		"cut":         {func(r *http.Request) { r.ContentLength = 9 }, http.StatusBadRequest},
		"large HTTP2": {func(r *http.Request) { r.ContentLength, r.Body = -1, http.NoBody }, 0},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader("12345678"))
		r.Header.Set("Content-Type", "application/json")
		test.change(r)
		w := httptest.NewRecorder()
		status, problem := Screen(w, r, 10)
		if problem == nil {
			_, status, problem = ReadBody(w, r, 10)
		}
		if status != test.status || (problem == nil) != (status == 0) {
			t.Errorf("%s: %d %v, want %d", name, status, problem, test.status)
		}
	}
}

func TestAnswersCarryTheCallersID(t *testing.T) {
	t.Parallel()
	if got := string(AppendAnswer(nil, []byte(`"x"`), []byte(`{}`), nil)); got != `{"jsonrpc":"2.0","id":"x","result":{}}` {
		t.Error(got)
	}
	got := AppendAnswer(nil, nil, nil, Failure(Errorf(CodeServer, "%q\xff", "a")))
	if !json.Valid(got) || !strings.HasPrefix(string(got), `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":`) {
		t.Errorf("%s", got)
	}
	if Quantity(0) != "0x0" || Quantity(255) != "0xff" || len(Clip(strings.Repeat("\x00", 100_000))) > 300 {
		t.Error("quantities or clipped names")
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"jsonrpc":"2.0","id":1,"method":"eth_call","params":[{},"latest"]}`, `[{},5,[]]`, `[[`, `{"id":"\ud800"}`,
		`{"jsonrpc":"2.0","method":"m\u0065"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		req, problem := Parse(text, 100)
		if problem != nil {
			return
		}
		for _, c := range req.Calls {
			if c.ID != nil && !json.Valid(c.ID) || c.Params != nil && (c.Params[0] != '[' || !json.Valid(c.Params)) {
				t.Errorf("%q: id %q, params %q", text, c.ID, c.Params)
			}
		}
	})
}
