package statsapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/schema"
)

func names(blocks []Block) string {
	known := map[string]string{}
	for _, n := range []string{
		"b0", "b1", "b2", "b3", "b4", "b4'", "b5", "b6", "x3", "x4", "x5", "x6", "x7", "c1",
	} {
		known[named(n).String()] = n
	}
	out := make([]string, len(blocks))
	for i, b := range blocks {
		out[i] = known[b.Hash]
	}
	return strings.Join(out, " ")
}

func TestBlocksAreListedNewestFirstWithTheirStatus(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: drawn(t).store})
	list := decode[BlockList](s, "/v1/blocks")
	if got := names(list.Data); got != "b6 b5 b4' b4 b3 b2 b1" {
		t.Fatalf("listed %s", got)
	}
	var statuses []string
	for _, b := range list.Data {
		statuses = append(statuses, b.Status)
	}
	const wantStatuses = "canonical canonical non_canonical canonical canonical finalized finalized"
	if got := strings.Join(statuses, " "); got != wantStatuses {
		t.Fatalf("statuses: %s", got)
	}
	want := Block{
		Chain: 5, Number: 3, Hash: named("b3").String(), Parent: named("b2").String(),
		Time: Time{epoch.Truncate(time.Second).Add(-time.Minute)}, Status: "canonical", Observer: "bob", Node: "geth",
		Origin: "head", Server: "server-1", ObservedAt: Time{epoch.Add(2 * time.Second)},
		ReceivedAt: Time{epoch.Add(3 * time.Second)}, ContentType: "text/html; charset=utf-8",
	}
	if d := cmp.Diff(want, list.Data[4]); d != "" {
		t.Error(d)
	}
	if n := list.Data[5].TransactionCount; n != 2 {
		t.Errorf("b2 has %d transactions", n)
	}
	if list.NextCursor != nil || *list.ItemCount != 7 || *list.PageCount != 1 || len(list.Pages) != 1 {
		t.Errorf("page bar: %+v", list)
	}
}

func TestCursorWalksTheWholeListForEveryLimit(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	for n := uint64(3); n <= 7; n++ { // a second chain at the same heights
		w.see("alice", 9, n, fmt.Sprint("x", n), fmt.Sprint("x", n-1))
	}
	s := serve(t, Options{Store: w.store})
	const whole = "x7 b6 x6 b5 x5 b4' b4 x4 b3 x3 b2 b1"
	if got := names(decode[BlockList](s, "/v1/blocks").Data); got != whole {
		t.Fatalf("listed %s, want %s", got, whole)
	}
	for limit := 1; limit <= 13; limit++ {
		var walked []Block
		path := fmt.Sprintf("/v1/blocks?limit=%d", limit)
		for next := path; next != ""; {
			list := decode[BlockList](s, next)
			if len(list.Data) > limit || list.PageBar != nil {
				t.Fatalf("%s: %d rows, page bar %v", next, len(list.Data), list.PageBar)
			}
			walked = append(walked, list.Data...)
			next = ""
			if list.NextCursor != nil {
				next = path + "&cursor=" + *list.NextCursor
			}
		}
		if got := names(walked); got != whole {
			t.Errorf("by %d: %s, want %s", limit, got, whole)
		}
	}
	if got := names(decode[BlockList](s, "/v1/blocks?chain=9").Data); got != "x7 x6 x5 x4 x3" {
		t.Errorf("of chain 9: %s", got)
	}
	if got := decode[BlockList](s, "/v1/blocks?chain=77"); len(got.Data) != 0 || *got.ItemCount != 0 {
		t.Errorf("of a chain that is not stored: %+v", got)
	}
}

func TestCursorIsStableWhileBlocksArrive(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	s := serve(t, Options{Store: w.store})
	first := decode[BlockList](s, "/v1/blocks?limit=3")
	w.see("alice", 5, 7, "b7", "b6")
	second := decode[BlockList](s, "/v1/blocks?limit=9&cursor="+*first.NextCursor)
	if got := names(first.Data) + " " + names(second.Data); got != "b6 b5 b4' b4 b3 b2 b1" {
		t.Fatalf("walked %s", got)
	}
}

func TestPagesLinkToTheirNeighbours(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(95)
	s := serve(t, Options{Store: w.store})
	for query, want := range map[string]string{
		"limit=10":                "1 2 3",
		"limit=10&page=2":         "1 2 3",
		"page=5&limit=10":         "4 5 6",
		"page=10&limit=10":        "8 9 10",
		"page=99&limit=10":        "8 9 10",
		"page=1&limit=50":         "1 2",
		"limit=50&page=2&chain=5": "1 2",
		"limit=95":                "1",
	} {
		list := decode[BlockList](s, "/v1/blocks?"+query)
		var numbers []string
		for _, p := range list.Pages {
			numbers = append(numbers, fmt.Sprint(p.Number))
		}
		if got := strings.Join(numbers, " "); *list.ItemCount != 95 || got != want {
			t.Errorf("%s: %d items, pages %s, want 95 and %s", query, *list.ItemCount, got, want)
		}
	}
	for query, want := range map[string]string{
		"limit=10":                    "/v1/blocks?limit=10&page=2",
		"page=3&limit=10&x=%22%20&y=": "/v1/blocks?page=2&limit=10&x=%22%20&y=",
		"limit=10&page=1&page=7":      "/v1/blocks?limit=10&page=2",
		"":                            "/v1/blocks?page=2",
	} {
		list := decode[BlockList](s, "/v1/blocks?"+query)
		if !slices.Contains(list.Pages, PageLink{2, want}) {
			t.Errorf("%s: %+v, want a link %s", query, list.Pages, want)
		}
	}
	page := decode[BlockList](s, "/v1/blocks?page=3&limit=10")
	if page.Data[0].Number != 75 || page.Data[9].Number != 66 || page.NextCursor == nil {
		t.Errorf("page 3: %d to %d", page.Data[0].Number, page.Data[9].Number)
	}
	if last := decode[BlockList](s, "/v1/blocks?page=10&limit=10"); len(last.Data) != 5 || last.NextCursor != nil {
		t.Errorf("last page: %d rows", len(last.Data))
	}
	for _, far := range []string{"11", "99999999", "18446744073709551615", "99999999999999999999999"} {
		if got := decode[BlockList](s, "/v1/blocks?limit=10&page="+far); len(got.Data) != 0 || *got.PageCount != 10 {
			t.Errorf("page %s: %d rows of %d pages", far, len(got.Data), *got.PageCount)
		}
	}
}

func TestLimitIsClampedAboveAndRefusedBelow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(105)
	s := serve(t, Options{Store: w.store})
	for query, rows := range map[string]int{
		"": 20, "?limit=1": 1, "?limit=100": 100, "?limit=101": 100, "?limit=18446744073709551616": 100, "?limit=007": 7,
	} {
		if got := decode[BlockList](s, "/v1/blocks"+query); len(got.Data) != rows {
			t.Errorf("%q: %d rows, want %d", query, len(got.Data), rows)
		}
	}
	for _, query := range []string{
		"limit=0", "limit=-1", "limit=abc", "limit=1.5", "limit=1e3", "limit=%2B5", "limit=%205", "limit=0x10",
		"limit=%D9%A3", "limit=1_000", "page=0", "page=x", "chain=0", "chain=x", "chain=9223372036854775808",
		"cursor=x", "cursor=!!!!", "cursor=AQ", "cursor=AgEBAQ", "cursor=AQEBAQE", "cursor=Af____________AQEB",
		"cursor=" + encodeCursorOf(1, 2, 3) + "&page=2", "cursor=" + strings.Repeat("A", 5000),
	} {
		got := s.get("/v1/blocks?" + query)
		wantProblem(t, got, http.StatusBadRequest, "")
		if len(got.body) > 1000 {
			t.Errorf("%.40s: an answer of %d bytes", query, len(got.body))
		}
	}
}

func TestBlockIsFoundByHashHeightOrLatest(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: drawn(t).store})
	b4, sibling := named("b4"), named("b4'")
	for id, want := range map[string]string{
		b4.String():                       "b4",
		string(b4.Key()):                  "b4",
		strings.ToUpper(string(b4.Key())): "b4",
		"0X" + string(sibling.Key()):      "b4'",
		"4":                               "b4", // not its sibling
		"004":                             "b4",
		"1":                               "b1",
		"latest":                          "b6",
		"latest?chain=5":                  "b6",
		"4?chain=5":                       "b4",
		string(b4.Key()) + "?chain=5":     "b4",
	} {
		got := decode[BlockDetail](s, "/v1/blocks/"+id)
		if names([]Block{got.Block}) != want {
			t.Errorf("%s: %s, want %s", id, got.Hash, want)
		}
	}
	for id, naming := range map[string]string{
		"7":                       "no block 7 on chain 5",
		"18446744073709551616":    "no block 18446744073709551616 on chain 5",
		"latest?chain=6":          "chain 6",
		"earliest":                "earliest",
		"-1":                      "-1",
		"0x4":                     "0x4",
		"%3Cscript%3E":            "<script>",
		named("b9").String():      named("b9").String(),
		b4.String() + "?chain=6":  "on chain 6",
		strings.Repeat("f", 65):   strings.Repeat("f", 65),
		strings.Repeat("9", 5000): "no block 999",
		"4%2F5":                   "4/5",
	} {
		wantProblem(t, s.get("/v1/blocks/"+id), http.StatusNotFound, naming)
	}
	wantProblem(t, s.get("/v1/blocks/4?chain=x"), http.StatusBadRequest, "chain id")
}

func TestBlockShowsSiblingsObserversAndTransactions(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: drawn(t).store})
	b3 := decode[BlockDetail](s, "/v1/blocks/3")
	want := []Observation{
		{
			Observer: "bob", Node: "geth", Server: "server-1", Origin: "head",
			ObservedAt: Time{epoch.Add(2 * time.Second)}, ReceivedAt: Time{epoch.Add(3 * time.Second)},
		},
		{
			Observer: "alice", Node: "geth", Server: "server-1", Origin: "head", DelaySeconds: 1.5,
			ObservedAt: Time{epoch.Add(3500 * time.Millisecond)}, ReceivedAt: Time{epoch.Add(4500 * time.Millisecond)},
		},
	}
	if d := cmp.Diff(want, b3.Observations); d != "" {
		t.Error(d)
	}
	b4 := decode[BlockDetail](s, "/v1/blocks/4")
	if d := cmp.Diff([]string{named("b4'").String()}, b4.Siblings); d != "" {
		t.Error(d)
	}
	b2 := decode[BlockDetail](s, "/v1/blocks/2")
	to, contract := "0xbb"+strings.Repeat("0", 38), "0xcc"+strings.Repeat("0", 38)
	gas, ok := uint64(21000), uint8(1)
	transactions := []Transaction{
		{
			Hash: named("t1").String(), From: "0xaa" + strings.Repeat("0", 38), To: &to, Value: "1000000000000000000",
			GasUsed: &gas, Status: &ok,
		},
		{Hash: named("t2").String(), Index: 1, From: "0xaa" + strings.Repeat("0", 38), Value: "0", Contract: &contract},
	}
	if d := cmp.Diff(transactions, b2.Transactions); d != "" {
		t.Error(d)
	}
}

func TestHeightWithoutABranchGivesTheBlockStoredFirst(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	w.see("alice", 5, 9, "x5", "unknown") // neither has a known parent
	w.see("alice", 5, 9, "x6", "unknown")
	s := serve(t, Options{Store: w.store})
	got := decode[BlockDetail](s, "/v1/blocks/9")
	if names([]Block{got.Block}) != "x5" || got.Status != "non_canonical" || got.Siblings[0] != named("x6").String() {
		t.Fatalf("%+v", got)
	}
}

func TestSeveralChainsMustBeTold(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	w.see("alice", 9, 1, "c1", "c0")
	w.see("alice", 9, 2, "b2", "c1") // chains that split share blocks
	s := serve(t, Options{Store: w.store})
	for _, path := range []string{
		"/v1/blocks/1", "/v1/blocks/latest", "/v1/blocks/" + named("b2").String(), "/v1/blocks?page=2",
		"/v1/records/" + named("b2").String() + "/payload",
	} {
		wantProblem(t, s.get(path), http.StatusBadRequest, "chains 5, 9")
	}
	if got := decode[BlockDetail](s, "/v1/blocks/latest?chain=9"); got.Number != 2 || got.Chain != 9 {
		t.Errorf("latest of 9: %+v", got.Block)
	}
	if got := decode[BlockDetail](s, "/v1/blocks/"+named("b2").String()+"?chain=9"); got.Chain != 9 {
		t.Errorf("b2 on 9: %+v", got.Block)
	}
	if got := decode[BlockDetail](s, "/v1/blocks/"+named("c1").String()); got.Chain != 9 {
		t.Errorf("c1 is on one chain only: %+v", got.Block)
	}
}

func TestEmptyStoreHasNoBlocks(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	if got := s.get("/v1/blocks"); got.body != "{\"data\":[],\"next_cursor\":null}\n" {
		t.Errorf("list: %s", got.body)
	}
	wantProblem(t, s.get("/v1/blocks/latest"), http.StatusNotFound, "no block is stored yet")
	wantProblem(t, s.get("/v1/blocks/0"), http.StatusNotFound, "no block is stored yet")
}

// wantProblem checks a complete RFC 9457 answer whose text holds naming.
func wantProblem(t *testing.T, got answer, status int, naming string) {
	t.Helper()
	var p huma.ErrorModel
	if err := json.Unmarshal([]byte(got.body), &p); err != nil {
		t.Errorf("%s: %d %s is not JSON: %v", got.Request.URL, got.StatusCode, got.body, err)
		return
	}
	if got.StatusCode != status || p.Status != status || p.Title != http.StatusText(status) || p.Detail == "" ||
		got.Header.Get("Content-Type") != problemType || !strings.Contains(p.Detail, naming) {
		t.Errorf("%s: %d %s, want a problem %d naming %q", clip(got.Request.URL.String()), got.StatusCode, got.body,
			status, naming)
	}
}

func encodeCursorOf(number, chain, id uint64) string {
	return encodeCursor(schema.BlockPlace{Number: number, Chain: chain, ID: id})
}
