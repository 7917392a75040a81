package statsapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/schema"
)

func (b *brokenStore) ListRecords(
	ctx context.Context, f schema.RecordFilter, ascending bool, after *schema.RecordPlace, limit int,
) ([]schema.Record, *schema.RecordPlace, error) {
	if err := b.failure(ctx); err != nil {
		return nil, nil, err
	}
	return b.Store.ListRecords(ctx, f, ascending, after, limit)
}

func (b *brokenStore) PlacesOf(ctx context.Context, hash schema.Hash) ([]schema.PlacedTransaction, error) {
	if err := b.failure(ctx); err != nil {
		return nil, err
	}
	return b.Store.PlacesOf(ctx, hash)
}

func (b *brokenStore) Tally(ctx context.Context, seq, limit uint64) (schema.Tally, error) {
	if err := b.failure(ctx); err != nil {
		return schema.Tally{}, err
	}
	return b.Store.Tally(ctx, seq, limit)
}

func (b *brokenStore) FeedEnd(ctx context.Context) (schema.FeedEnd, error) {
	if err := b.failure(ctx); err != nil {
		return schema.FeedEnd{}, err
	}
	return b.Store.FeedEnd(ctx)
}

// samples is a path of every operation that answers 200 in the drawn world.
func samples() map[string]string {
	key, account := named("b2").String(), schema.Address{0xaa}.String()
	return map[string]string{
		"/v1/stats":                           "/v1/stats",
		"/v1/records":                         "/v1/records",
		"/v1/records/{key}":                   "/v1/records/" + key,
		"/v1/records/{key}/payload":           "/v1/records/" + key + "/payload",
		"/v1/blocks":                          "/v1/blocks",
		"/v1/blocks/{id}":                     "/v1/blocks/1",
		"/v1/blocks/{id}/observations":        "/v1/blocks/3/observations",
		"/v1/transactions/{hash}":             "/v1/transactions/" + named("t1").String(),
		"/v1/accounts/{address}":              "/v1/accounts/" + account,
		"/v1/accounts/{address}/transactions": "/v1/accounts/" + account + "/transactions",
		"/v1/observers":                       "/v1/observers",
		"/v1/feed":                            "/v1/feed",
		"/v1/connections":                     "/v1/connections",
		"/v1/nodes":                           "/v1/nodes",
		"/v1/nodes/{name}":                    "/v1/nodes/geth-1",
		"/v1/replica":                         "/v1/replica",
	}
}

// lists checks operations in forms that their sample does not have.
func (c *contract) lists(s, empty *site) {
	c.t.Helper()
	account := "/v1/accounts/" + schema.Address{0xaa}.String()
	nobody := "/v1/accounts/" + schema.Address{0xee}.String()
	contractAccount := "/v1/accounts/" + schema.Address{0xcc}.String()
	for pattern, paths := range map[string]map[string]int{
		"/v1/records": {
			"?limit=2": 200, "?kind=bare": 200, "?kind=block&sort=received": 200, "?page=2&limit=3": 200, "?kind=x": 400,
			"?observer=nobody&status=safe,orphaned": 200, "?cursor=x": 400, "?since=yesterday": 400, "?sort=number": 400,
		},
		"/v1/records/{key}": {"/" + bareKey("<p>one</p>"): 200, "/nothing": 404, "/" + named("nothing").String(): 404, "/1?chain=x": 404},
		"/v1/blocks": {
			"?status=finalized&min_number=1&max_number=2&sort=number": 200, "?observer=bob&node=geth&server=server-1": 200,
			"?status=x": 400, "?min_number=-1": 400, "?page=2&observer=bob": 400, "?sort=time": 400,
		},
		"/v1/blocks/{id}":              {"/safe": 200, "/finalized": 200, "/latest": 200, "/earliest": 404},
		"/v1/blocks/{id}/observations": {"/99/observations": 404, "/safe/observations": 200},
		"/v1/transactions/{hash}": {
			"/" + named("t2").String(): 200, "/x": 404, "/" + named("t9").String(): 404, "/" + named("t1").String() + "?chain=x": 400,
		},
		"/v1/observers": {"?blocks=2&chain=5": 200, "?chain=9": 200, "?blocks=0": 400},
		"/v1/feed": {
			"?limit=3": 200, "?cursor=4&kind=status&status=safe": 200, "?address=" + schema.Address{0xaa}.String(): 200,
			"?cursor=x": 400, "?kind=x": 400, "?cursor=ab.1": 410, "?cursor=999999": 410,
		},
	} {
		base, _, _ := strings.Cut(pattern, "/{")
		for path, status := range paths {
			c.check(s, pattern, base+path, status)
		}
	}
	for path, status := range map[string]int{
		account: 200, account + "?chain=5": 200, contractAccount: 200, nobody: 404, "/v1/accounts/x": 404, account + "?chain=x": 400,
	} {
		c.check(s, "/v1/accounts/{address}", path, status)
	}
	for path, status := range map[string]int{
		account + "/transactions?limit=1": 200, account + "/transactions?page=1": 200, nobody + "/transactions": 200,
		account + "/transactions?role=sender&to=" + schema.Address{0xbb}.String() + "&min_value=5&status=finalized": 200,
		account + "/transactions?role=x": 400, account + "/transactions?min_value=1e3": 400, account + "/transactions?to=x": 400,
		account + "/transactions?page=2&min_value=1": 400, account + "/transactions?page=999": 400, "/v1/accounts/x/transactions": 404,
	} {
		c.check(s, "/v1/accounts/{address}/transactions", path, status)
	}
	for _, path := range []string{"/v1/records", "/v1/observers", "/v1/feed"} {
		c.check(empty, path, path, 200)
	}
	c.check(empty, "/v1/blocks/{id}", "/v1/blocks/safe", 404)
}

func bareKey(payload string) string { return string(schema.PayloadKey([]byte(payload))) }

func TestListsAreFollowedByLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(7)
	w.see("bob", 5, 7, "b7'", "b6")
	w.bare("<p>one</p>")
	s := serve(t, Options{Store: w.store})
	for path, want := range map[string]int{
		"/v1/blocks?limit=3":                                8,
		"/v1/blocks?limit=3&sort=number&observer=alice":     7,
		"/v1/records?limit=2":                               9,
		"/v1/records?kind=block&limit=3":                    8,
		"/v1/records?kind=bare&limit=1":                     1,
		"/v1/blocks?limit=2&min_number=3&max_number=7":      6,
		"/v1/records?limit=2&until=2026-01-02T03:04:08.00Z": 2,
	} {
		seen, at := map[string]bool{}, path
		for range 20 {
			got := s.get(at)
			if got.StatusCode != http.StatusOK {
				t.Fatalf("%s: %d %s", at, got.StatusCode, got.body)
			}
			var list struct {
				Data []struct{ Hash, Key string } `json:"data"`
			}
			if err := json.Unmarshal([]byte(got.body), &list); err != nil {
				t.Fatal(err)
			}
			for _, row := range list.Data {
				if seen[row.Hash+row.Key] {
					t.Errorf("%s: twice %s", at, row.Hash+row.Key)
				}
				seen[row.Hash+row.Key] = true
			}
			next := linkTo(got.Header.Get("Link"), "next")
			if next == "" {
				break
			}
			at = next
		}
		if len(seen) != want {
			t.Errorf("%s: %d rows, want %d", path, len(seen), want)
		}
	}
	got := s.get("/v1/blocks?limit=2&page=2&x=1").Header.Get("Link")
	want := `</v1/blocks?limit=2&page=1&x=1>; rel="first", </v1/blocks?limit=2&page=1&x=1>; rel="prev", ` +
		`</v1/blocks?limit=2&page=3&x=1>; rel="next", </v1/blocks?limit=2&page=4&x=1>; rel="last"`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// linkTo finds one relation of a Link header.
func linkTo(header, rel string) string {
	for link := range strings.SplitSeq(header, ", ") {
		if target, ok := strings.CutSuffix(link, `>; rel="`+rel+`"`); ok {
			return strings.TrimPrefix(target, "<")
		}
	}
	return ""
}

func TestObserversAreComparedByArrival(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for n := uint64(1); n <= 4; n++ { // each sight is received 1.5 s after the one before
		name, parent := fmt.Sprint("b", n), fmt.Sprint("b", n-1)
		first, second := "alice", "bob"
		if n == 4 {
			first, second = second, first
		}
		w.see(first, 5, n, name, parent)
		w.see(second, 5, n, name, parent)
	}
	late := w.block("carol", 5, 1, "b1", "b0")
	late.Origin = schema.OriginBackfill
	w.offer(late)
	s := serve(t, Options{Store: w.store})
	got := decode[Observers](s, "/v1/observers")
	if got.Blocks != 4 || len(got.Data) != 3 {
		t.Fatalf("%+v", got)
	}
	alice, bob, carol := got.Data[0], got.Data[1], got.Data[2]
	if alice.Total != 3 || alice.Seen != 4 || alice.First != 3 || *alice.DelayP50 != 0 || *alice.DelayP99 != 1.5 {
		t.Errorf("alice %+v", alice)
	}
	if bob.Total != 1 || bob.Seen != 4 || bob.First != 1 || *bob.DelayP50 != 1.5 || len(bob.Nodes) != 1 || bob.Nodes[0].Node != "geth" {
		t.Errorf("bob %+v", bob)
	}
	if carol.Seen != 0 || carol.Backfilled != 1 || carol.DelayP50 != nil || len(carol.Nodes) != 0 {
		t.Errorf("carol %+v", carol)
	}
	if newest := decode[Observers](s, "/v1/observers?blocks=1&chain=5"); newest.Blocks != 1 || newest.Data[1].First != 1 {
		t.Errorf("of the newest: %+v", newest)
	}
}

func TestTransactionsAndAccountsAreFound(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	s := serve(t, Options{Store: w.store})
	tx := decode[TransactionDetail](s, "/v1/transactions/"+named("t1").String())
	if tx.Block.Number != 2 || tx.Block.Status != "finalized" || tx.Value != "1000000000000000000" || len(tx.Others) != 0 {
		t.Errorf("%+v", tx)
	}
	account := decode[Account](s, "/v1/accounts/"+schema.Address{0xaa}.String())
	if len(account.Chains) != 1 || account.Chains[0].Sent != 2 || account.Chains[0].Received != 0 {
		t.Errorf("%+v", account)
	}
	made := decode[Account](s, "/v1/accounts/"+strings.ToUpper(schema.Address{0xcc}.Digits()))
	if by := made.Chains[0].CreatedBy; by == nil || by.Hash != named("t2").String() {
		t.Errorf("%+v", made)
	}
	list := decode[TransactionList](s, "/v1/accounts/"+schema.Address{0xaa}.String()+"/transactions?min_value=1")
	if len(list.Data) != 1 || list.Data[0].Hash != named("t1").String() || list.PageBar != nil {
		t.Errorf("%+v", list)
	}
	page := decode[TransactionList](s, "/v1/accounts/"+schema.Address{0xaa}.String()+"/transactions?page=2&limit=1")
	if len(page.Data) != 1 || *page.ItemCount != 2 || *page.PageCount != 2 || page.NextCursor != nil {
		t.Errorf("%+v", page)
	}
}

func TestFeedIsFollowedToItsEndAndOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(5)
	s := serve(t, Options{Store: w.store})
	var seqs []uint64
	cursor := ""
	follow := func() {
		for {
			got := decode[FeedPage](s, "/v1/feed?limit=2&kind=block&cursor="+cursor)
			for _, e := range got.Data {
				seqs = append(seqs, uint64(e.Seq))
			}
			cursor = got.NextCursor
			if got.NextCursor == got.End {
				return
			}
		}
	}
	follow()
	w.see("alice", 5, 6, "b6", "b5")
	follow()
	if fmt.Sprint(seqs) != "[1 2 3 4 5 6]" {
		t.Errorf("seqs %v", seqs)
	}
}

func TestUnchangedAnswerIsNotSentAgain(t *testing.T) {
	t.Parallel()
	w := drawn(t)
	s := serve(t, Options{Store: w.store})
	first := s.get("/v1/blocks")
	etag := first.Header.Get("Etag")
	if !strings.HasPrefix(etag, `W/"`) {
		t.Fatalf("etag %q", etag)
	}
	for _, header := range []string{etag, `"x", ` + etag, strings.TrimPrefix(etag, "W/"), "*"} {
		got := s.do(http.MethodGet, "/v1/blocks", "If-None-Match", header)
		if got.StatusCode != http.StatusNotModified || got.body != "" || got.Header.Get("Etag") != etag {
			t.Errorf("%s: %d %q %v", header, got.StatusCode, got.body, got.Header)
		}
	}
	w.see("alice", 5, 7, "b7", "b6")
	if got := s.do(http.MethodGet, "/v1/blocks", "If-None-Match", etag); got.StatusCode != http.StatusOK {
		t.Errorf("changed: %d", got.StatusCode)
	}
	if got := s.do(http.MethodGet, "/v1/blocks/99", "If-None-Match", "*"); got.StatusCode != http.StatusNotFound {
		t.Errorf("nothing there: %d", got.StatusCode)
	}
}

func TestLargeAnswersAreCompressedForThoseWhoTakeIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(30)
	s := serve(t, Options{Store: w.store})
	packed := s.do(http.MethodGet, "/v1/blocks", "Accept-Encoding", "gzip")
	plain := s.do(http.MethodGet, "/v1/blocks", "Accept-Encoding", "identity")
	if packed.Header.Get("Content-Encoding") != "gzip" || !strings.Contains(packed.Header.Get("Vary"), "Accept-Encoding") ||
		len(packed.body) >= len(plain.body)/2 || packed.Header.Get("Etag") != plain.Header.Get("Etag") {
		t.Errorf("%d of %d bytes, %v", len(packed.body), len(plain.body), packed.Header)
	}
	if plain.Header.Get("Content-Encoding") != "" {
		t.Errorf("%v", plain.Header)
	}
	if small := s.do(http.MethodGet, "/v1/connections", "Accept-Encoding", "gzip"); small.Header.Get("Content-Encoding") != "" {
		t.Errorf("small: %v", small.Header)
	}
}

func TestOtherOriginsReadOnlyWhenConfigured(t *testing.T) {
	t.Parallel()
	store := drawn(t).store
	open := serve(t, Options{Store: store, Origins: []string{"https://dash.example"}})
	closed := serve(t, Options{Store: store})
	for name, test := range map[string]struct {
		site         *site
		origin, want string
	}{
		"listed": {open, "https://dash.example", "https://dash.example"}, "not listed": {open, "https://evil.example", ""},
		"null": {open, "null", ""}, "none configured": {closed, "https://dash.example", ""},
	} {
		got := test.site.do(http.MethodGet, "/v1/blocks", "Origin", test.origin)
		if allowed := got.Header.Get("Access-Control-Allow-Origin"); allowed != test.want || got.StatusCode != http.StatusOK ||
			got.Header.Get("Access-Control-Allow-Credentials") != "" {
			t.Errorf("%s: %d %v", name, got.StatusCode, got.Header)
		}
	}
	preflight := open.do(http.MethodOptions, "/v1/blocks", "Origin", "https://dash.example",
		"Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "x-min-height")
	if preflight.StatusCode != http.StatusNoContent || preflight.Header.Get("Access-Control-Allow-Origin") == "" ||
		preflight.Header.Get("Access-Control-Allow-Headers") == "" {
		t.Errorf("preflight: %d %v", preflight.StatusCode, preflight.Header)
	}
}

func TestAnswerWaitsForAHeight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(3)
	patient := serve(t, Options{Store: w.store, HeightWait: time.Minute})
	answered := make(chan answer, 1)
	go func() { answered <- patient.do(http.MethodGet, "/v1/blocks/latest", minHeightHeader, "0x4") }()
	w.see("alice", 5, 4, "b4", "b3")
	if got := <-answered; got.StatusCode != http.StatusOK || got.Header.Get(heightHeader) != "4" || !strings.Contains(got.body, `"number":4`) {
		t.Errorf("%d %v %s", got.StatusCode, got.Header, got.body)
	}
	hasty := serve(t, Options{Store: w.store, HeightWait: time.Millisecond})
	got := hasty.do(http.MethodGet, "/v1/stats", minHeightHeader, "5")
	wantProblem(t, got, http.StatusServiceUnavailable, "chain 5 is at height 4 and not yet at 5")
	if got.Header.Get(heightHeader) != "4" || got.Header.Get("Retry-After") != "1" {
		t.Errorf("%v", got.Header)
	}
	for _, bad := range []string{"x", "-1", "0x", "1e3", "99999999999999999999", "0xffffffffffffffff"} {
		wantProblem(t, hasty.do(http.MethodGet, "/v1/stats", minHeightHeader, bad), http.StatusBadRequest, minHeightHeader)
	}
	w.see("alice", 6, 1, "c1", "c0")
	several := serve(t, Options{Store: w.store, HeightWait: time.Millisecond})
	wantProblem(t, several.do(http.MethodGet, "/v1/stats", minHeightHeader, "1"), http.StatusBadRequest, "chain is needed")
	if got := several.do(http.MethodGet, "/v1/stats?chain=6", minHeightHeader, "1"); got.StatusCode != http.StatusOK {
		t.Errorf("named chain: %d %s", got.StatusCode, got.body)
	}
}

func TestPageOfTheAPINeedsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	page := s.get("/docs")
	if page.StatusCode != http.StatusOK || !strings.HasPrefix(page.Header.Get("Content-Type"), "text/html") {
		t.Fatalf("%d %v", page.StatusCode, page.Header)
	}
	for _, banned := range []string{"<script", "http:", "https:", "//", "style=", "onclick"} {
		for line := range strings.SplitSeq(page.body, "\n") {
			if strings.Contains(line, banned) && !strings.Contains(line, "curl -s http://127.0.0.1") {
				t.Errorf("the page has %s: %s", banned, line)
			}
		}
	}
	csp := page.Header.Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "script") || strings.Contains(csp, "unsafe") {
		t.Errorf("CSP %s", csp)
	}
	for pattern := range samples() {
		if !strings.Contains(page.body, "GET "+pattern+"<") {
			t.Errorf("the page does not show %s", pattern)
		}
	}
	if style := s.get("/docs/style.css"); style.StatusCode != http.StatusOK || !strings.HasPrefix(style.Header.Get("Content-Type"), "text/css") {
		t.Errorf("style: %d %v", style.StatusCode, style.Header)
	}
}

func TestRestedAnswersAreGivenAgainForAWhile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRested[int]()
		asked := 0
		slow := func(context.Context) (int, error) { asked++; time.Sleep(time.Second); return asked, nil }
		want := func(name string, want int) {
			t.Helper()
			if got, err := r.get(t.Context(), name, slow); got != want || err != nil {
				t.Errorf("%s: %d, %v, want %d", name, got, err, want)
			}
		}
		want("a", 1)
		want("a", 1)
		want("b", 2)
		time.Sleep(10 * time.Second)
		want("a", 3)
		failed := func(context.Context) (int, error) { return 0, io.ErrUnexpectedEOF }
		if _, err := r.get(t.Context(), "c", failed); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
		for i := range 3 * restedKept {
			want(fmt.Sprint(i), 4+i)
		}
		if len(r.kept) > restedKept {
			t.Errorf("%d answers are kept", len(r.kept))
		}
		r.turn <- struct{}{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.get(ctx, "a", slow); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

func TestHeadersThatTakeTooLongAreCutOff(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	conn, err := net.Dial("tcp", s.api.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: a"); err != nil {
		t.Fatal(err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute)) // the server's own is 5 s
	if answer, err := io.ReadAll(conn); err != nil || strings.Contains(string(answer), "200 OK") {
		t.Errorf("%q, %v", answer, err)
	}
}
