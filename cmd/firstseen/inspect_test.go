package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

func hashOf(name string) schema.Hash { return sha256.Sum256([]byte(name)) }

// inspected serves a real stats API over blocks 1 to 3 of chain 5 and a sibling of 3, with one transaction in block 2.
func inspected(t *testing.T, change func(*statsapi.Options, *store.Store)) (api string) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: "memory", Now: func() time.Time { return since }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	gas, ok := uint64(21000), uint8(1)
	tx := schema.Transaction{Hash: hashOf("tx"), From: schema.Address{0xaa}, To: &schema.Address{0xbb}, Value: "5", GasUsed: &gas, Status: &ok}
	err = committing(t.Context(), s, func(ctx context.Context) error {
		for _, o := range []*schema.Offer{ // one after the other: within a batch, none is first
			seen("alice", 1, "b1", "b0"), seen("alice", 2, "b2", "b1", tx), seen("bob", 3, "b3", "b2"), seen("alice", 3, "rival", "b2"),
		} {
			if err := offerAll(ctx, s, []*schema.Offer{o}, &imported{}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	o := statsapi.Options{Addr: "127.0.0.1:0", Store: s, Now: func() time.Time { return since }}
	if change != nil {
		change(&o, s)
	}
	served, err := statsapi.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- served.Run(t.Context()) }() // which ends just before cleanups run
	t.Cleanup(func() {
		if err := <-ran; err != nil {
			t.Error(err)
		}
	})
	return "http://" + served.Addr().String()
}

func seen(observer string, number uint64, name, parent string, txs ...schema.Transaction) *schema.Offer {
	h := &schema.Header{Hash: hashOf(name), Parent: hashOf(parent), Number: number, Time: since}
	return &schema.Offer{
		Chain: 5, Key: h.Hash.Key(), Header: h, ContentType: "text/plain", Payload: []byte(name), Observer: observer, Node: "geth",
		Origin: schema.OriginHead, Server: "s1", Remote: "192.0.2.1", ObservedAt: since, ReceivedAt: since.Add(time.Duration(number) * time.Second),
		Transactions: txs,
	}
}

func TestWhatTheAPIKnowsIsShownAsTables(t *testing.T) {
	t.Parallel()
	total := 3
	api := inspected(t, func(o *statsapi.Options, _ *store.Store) {
		o.Presence = snapshot{Known: true, Total: total, Servers: []presence.Server{{Server: "s1", Count: 3, Age: time.Second, Address: "h:1"}}}
	})
	b2, b3, rival, tx := hashOf("b2").String(), hashOf("b3").String(), hashOf("rival").String(), hashOf("tx").String()
	account := schema.Address{0xaa}.String()
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"blocks", "--limit", "2", "--observer", "alice"}, fmt.Sprintf(`CHAIN  NUMBER  HASH%[1]s  STATUS         TXS  OBSERVER  NODE  RECEIVED
5      3       %[2]s  non_canonical  0    alice     geth  2026-01-02T03:04:08.000Z
5      2       %[3]s  canonical      1    alice     geth  2026-01-02T03:04:07.000Z
`, strings.Repeat(" ", 62), rival, b2)},
		{[]string{"block", "3"}, fmt.Sprintf(`hash     %s
parent   %s
number   3
chain    5
status   canonical
time     2026-01-02T03:04:05.000Z
sibling  %s

OBSERVER  NODE  SERVER  ORIGIN  RECEIVED                  BEHIND
bob       geth  s1      head    2026-01-02T03:04:08.000Z  0s
`, b3, b2, rival)},
		{[]string{"tx", tx}, fmt.Sprintf(`hash      %s
from      %s
to        %s
wei       5
gas used  21000
status    ok
contract  -
block     2 %s canonical on chain 5
`, tx, account, schema.Address{0xbb}, b2)},
		{[]string{"connections"}, `SERVER   CONNECTIONS  AGE  ADDRESS
s1       3            1s   h:1
(total)  3                 
`},
		{[]string{"observers"}, `OBSERVER  NODE  SEEN  FIRST  P50  P99  FIRST-EVER  BACKFILLED
alice           3     3      0s   0s   3           0
          geth  3     3      0s   0s               
bob             1     1      0s   0s   1           0
          geth  1     1      0s   0s               
`},
	} {
		out, errs, code := firstseen(t, nil, append(c.args, "--api", api)...)
		if d := cmp.Diff(c.want, out); d != "" || code != exitOK || errs != "" {
			t.Errorf("%v: %d %q %s", c.args, code, errs, d)
		}
	}
	out, _, code := firstseen(t, []string{"FIRSTSEEN_API=" + api}, "account", account)
	if code != exitOK || !strings.Contains(out, tx) || !strings.Contains(out, "ok canonical") {
		t.Errorf("%d %s", code, out)
	}
}

type snapshot presence.Snapshot

func (s snapshot) Snapshot() presence.Snapshot { return presence.Snapshot(s) }

func TestWhatTheAPIKnowsIsShownAsJSON(t *testing.T) {
	t.Parallel()
	api := inspected(t, nil)
	for _, args := range [][]string{
		{"blocks"}, {"block", "latest"}, {"tx", hashOf("tx").String()}, {"account", schema.Address{0xaa}.String()}, {"observers"}, {"connections"},
	} {
		out, errs, code := firstseen(t, nil, append(args, "--api", api, "--output", "json")...)
		var value map[string]any
		if err := json.Unmarshal([]byte(out), &value); err != nil || len(value) == 0 || code != exitOK && args[0] != "connections" {
			t.Errorf("%v: %d %q %q %v", args, code, out, errs, err)
		}
	}
}

func TestExitCodesTellScriptsWhatHappened(t *testing.T) {
	t.Parallel()
	api := inspected(t, nil)
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"block", "99"}, exitMissing, "no block 99"},
		{[]string{"block", "nonsense"}, exitMissing, "nonsense"},
		{[]string{"tx", hashOf("nothing").String()}, exitMissing, "no block with transaction"},
		{[]string{"account", schema.Address{0x99}.String()}, exitMissing, "0x99"},
		{[]string{"connections"}, exitUnready, "not known"},
		{[]string{"connections", "--strong"}, exitUnready, "not known"},
		{[]string{"connections", "--by", "colour"}, exitUsage, "must be server, ip or observer"},
		{[]string{"block"}, exitUsage, "name one ID"},
		{[]string{"block", "1", "2"}, exitUsage, "name one ID"},
		{[]string{"tx", ""}, exitUsage, "name one HASH"},
		{[]string{"blocks", "1"}, exitUsage, "unknown argument"},
		{[]string{"blocks", "--limit", "0"}, exitUsage, "--limit 0"},
		{[]string{"blocks", "--status", "good"}, exitUsage, "canonical"},
		{[]string{"blocks", "--output", "xml"}, exitUsage, "table or json"},
		{[]string{"blocks", "--api", "127.0.0.1"}, exitUsage, "--api"},
		{[]string{"blocks", "--api", "http://127.0.0.1:1"}, exitFailure, "--api"},
		{[]string{"tail", "--count", "-1"}, exitUsage, "--count -1"},
	} {
		out, errs, code := firstseen(t, []string{"FIRSTSEEN_API=" + api}, c.args...)
		if code != c.code || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) || out != "" && c.code != exitUnready {
			t.Errorf("%v: %d, want %d: %q %q", c.args, code, c.code, out, errs)
		}
	}
	for _, command := range []string{"blocks", "block", "tx", "account", "nodes", "connections", "observers", "tail"} {
		if out, _, code := firstseen(t, nil, command, "--help"); code != exitOK || !strings.Contains(out, "Exit codes: 0 success, 1 ") {
			t.Errorf("%s --help: %d %s", command, code, out)
		}
	}
}

func TestAnAccessKeyIsShownToTheAPIAndToNobodyElse(t *testing.T) {
	t.Parallel()
	var token keys.Token
	api := inspected(t, func(o *statsapi.Options, s *store.Store) {
		key, minted, err := keys.Mint(schema.ScopeRead, "", "")
		if err == nil {
			_, err = s.CreateKey(t.Context(), key)
		}
		if err != nil {
			t.Fatal(err)
		}
		token, o.Access = minted, statsapi.Access{Mode: statsapi.AccessKeys, Keys: s}
	})
	if _, errs, code := firstseen(t, nil, "blocks", "--api", api); code != exitFailure || !strings.Contains(errs, "FIRSTSEEN_API_KEY") {
		t.Errorf("without a key: %d %q", code, errs)
	}
	file := write(t, "key", token.Reveal()+"\n")
	if out, errs, code := firstseen(t, []string{"FIRSTSEEN_API_KEY_FILE=" + file}, "blocks", "--api", api); code != exitOK || out == "" {
		t.Errorf("with a key: %d %q", code, errs)
	}
	if _, errs, code := firstseen(t, []string{"FIRSTSEEN_API_KEY=" + token.Reveal()[:30]}, "blocks", "--api", api); code != exitFailure ||
		strings.Contains(errs, token.Reveal()[:30]) {
		t.Errorf("with half a key: %d %q", code, errs)
	}
	if out, _, code := firstseen(t, []string{"FIRSTSEEN_API_KEY=" + token.Reveal()}, "config", "dump"); code != exitOK ||
		strings.Contains(out, token.Reveal()) || !strings.Contains(out, "api_key: "+hidden) {
		t.Errorf("%d %s", code, out)
	}
	thief := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer thief.Close()
	turns := httptest.NewServer(http.RedirectHandler(thief.URL, http.StatusFound))
	defer turns.Close()
	if _, _, code := firstseen(t, []string{"FIRSTSEEN_API_KEY=" + token.Reveal()}, "blocks", "--api", turns.URL); code != exitFailure {
		t.Errorf("redirected: %d", code)
	}
}

// stream is an API whose stream breaks after each script.
func stream(t *testing.T, scripts ...string) (api string, asked *[]string) {
	t.Helper()
	asked = &[]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := len(*asked)
		*asked = append(*asked, r.URL.RequestURI()+" after "+r.Header.Get("Last-Event-ID"))
		if n >= len(scripts) {
			http.Error(w, `{"detail":"no more"}`, http.StatusGone)
			return
		}
		fmt.Fprint(w, scripts[n])
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestTailComesBackAfterTheLastEventItShowed(t *testing.T) {
	t.Parallel()
	block := func(id, hash string) string {
		return "id: " + id + `
data: {"type":"event","cursor":"` + id + `","seq":1,"kind":"status","chain":5,"number":7,"hash":"` + hash + `","status":"orphaned","was":"canonical","at":"2026-01-02T03:04:05.000000Z"}

`
	}
	api, asked := stream(t,
		"retry: 1000\nid: e:1\n: welcome\n\n"+block("e:2", "0xaa\u202e")+"id: e:3\ndata: {\"broken",
		"id: e:4\nevent: gap\ndata: {\"type\":\"gap\",\"cursor\":\"e:4\",\"reason\":\"another database\"}\n\n",
		"id: e:5\n: still here\n\n",
		"id: e:6\nevent: close\ndata: too slow\n\n",
		block("e:7", "0xbb")+block("e:8", "0xcc"))
	out, errs, code := firstseen(t, nil, "tail", "--api", api, "--kind", "status,gap", "--chain", "5", "--count", "3")
	const want = `AT                        KIND    CHAIN     NUMBER        STATUS                      HASH
2026-01-02T03:04:05.000Z  status  5         7             canonical > orphaned        0xaa?
-- a part of the feed is missing: another database
2026-01-02T03:04:05.000Z  status  5         7             canonical > orphaned        0xbb
`
	if d := cmp.Diff(want, out); d != "" || code != exitOK || strings.Count(errs, "trying again") != 4 {
		t.Errorf("%d %q %s", code, errs, d)
	}
	const path = "/v1/stream?chain=5&kind=status%2Cgap after "
	if d := cmp.Diff([]string{path, path + "e:2", path + "e:4", path + "e:5", path + "e:5"}, *asked); d != "" {
		t.Error(d)
	}
}

func TestTailEndsWhereComingBackIsOfNoUse(t *testing.T) {
	t.Parallel()
	api, asked := stream(t)
	if out, errs, code := firstseen(t, nil, "tail", "--api", api); code != exitFailure || out != "" || len(*asked) != 1 || !strings.Contains(errs, "no more") {
		t.Errorf("%d %q %q", code, out, errs)
	}
	api, _ = stream(t, "id: e:1\ndata: {\"seq\":1}\n\n")
	out, _, code := firstseen(t, nil, "tail", "--api", api, "--output", "json", "--count", "1")
	if code != exitOK || out != "{\"seq\":1}\n" {
		t.Errorf("%d %q", code, out)
	}
}
