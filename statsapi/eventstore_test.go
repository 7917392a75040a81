package statsapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/schema"
)

// eventWorld is a drawn world whose block 2 names who is paid, with a failed transaction in block 7.
func eventWorld(t *testing.T) *world {
	w := drawn(t)
	failed, gas := uint8(0), uint64(51000)
	paid := w.block("alice", 5, 7, "b7", "b6", schema.Transaction{
		Hash: named("t3"), From: schema.Address{0xaa}, To: &schema.Address{0xbb}, Value: "5", GasUsed: &gas, Status: &failed,
	})
	paid.Header.FeeRecipient = schema.Address{0xfe}
	w.offer(paid)
	return w
}

func TestEventStoreRoutesKeepTheirForm(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: eventWorld(t).store})
	sender := schema.Address{0xaa}.String()
	for name, path := range map[string]string{
		"event_block":           "/block/" + named("b7").String(),
		"event_block_empty":     "/block/" + string(named("b3").Key()),
		"event_blocks":          "/blocks?limit=2&page=2",
		"event_blocks_default":  "/blocks",
		"event_deploy":          "/deploy/" + named("t1").String(),
		"event_deploy_failed":   "/deploy/" + named("t3").String(),
		"event_deploy_unknown":  "/deploy/" + named("t2").String(),
		"event_account":         "/accountDeploys/" + sender,
		"event_account_page":    "/accountDeploys/" + sender + "?x=1&limit=1&page=2",
		"event_account_nothing": "/accountDeploys/" + schema.Address{0xdd}.String(),
	} {
		got := s.get(path)
		if got.StatusCode != http.StatusOK || got.Header.Get("Content-Type") != "application/json; charset=utf-8" ||
			got.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %s", path, got.StatusCode, got.Header)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, []byte(got.body), "", "  "); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".golden", pretty.String())
	}
}

func TestEventStoreErrorsAreItsOwnText(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: eventWorld(t).store})
	nothing := strings.Repeat("0", 64)
	for path, want := range map[string]string{
		"/block/" + nothing: "404 " + noEventBlock,
		"/block/x":          "404 " + noEventBlock,
		"/block/" + named("b7").String() + "?chain=6":  "404 " + noEventBlock,
		"/block/" + named("b7").String() + "?chain=x":  "404 " + noEventBlock,
		"/deploy/" + nothing:                           "404 " + noEventDeploy,
		"/deploy/%27%20OR%201=1":                       "404 " + noEventDeploy,
		"/deploy/" + named("t1").String() + "?chain=6": "404 " + noEventDeploy,
		"/block":               "400 " + badEventRoute,
		"/block/":              "400 " + badEventRoute,
		"/block/a/b":           "400 " + badEventRoute,
		"/blocks/1":            "400 " + badEventRoute,
		"/deploy":              "400 " + badEventRoute,
		"/accountDeploys":      "400 " + badEventRoute,
		"/accountDeploys/a/b/": "400 " + badEventRoute,
	} {
		got := s.get(path)
		if text := fmt.Sprint(got.StatusCode, " ", got.body); text != want || got.Header.Get("Content-Type") != textType ||
			got.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %q %v", path, text, got.Header)
		}
	}
	wantProblem(t, s.get("/blocked"), http.StatusNotFound, "nothing is served at /blocked")
}

func TestEventStorePagesAreReadAsItReadsThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(95)
	s := serve(t, Options{Store: w.store})
	for query, want := range map[string]string{
		"":                           "10 rows from 95, 10 pages: 1 2 3",
		"?limit=20":                  "20 rows from 95, 5 pages: 1 2 3",
		"?limit=1000&page=5":         "15 rows from 15, 5 pages: 3 4 5",
		"?page=4":                    "10 rows from 65, 10 pages: 3 4 5",
		"?page=10":                   "5 rows from 5, 10 pages: 8 9 10",
		"?page=11":                   "0 rows, 10 pages: 8 9 10",
		"?page=18446744073709551616": "0 rows, 10 pages: 8 9 10",
		"?page=0&limit=0":            "10 rows from 95, 10 pages: 1 2 3",
		"?page=-1&limit=x":           "10 rows from 95, 10 pages: 1 2 3",
		"?chain=6":                   "0 rows, 0 pages:",
		"?chain=-6":                  "0 rows, 0 pages:",
	} {
		page := decode[struct {
			Data      []eventBlock
			PageCount int
			ItemCount int
			Pages     []PageLink
		}](s, "/blocks"+query)
		got := fmt.Sprintf("%d rows", len(page.Data))
		if len(page.Data) > 0 {
			got += fmt.Sprintf(" from %d", page.Data[0].Height)
		}
		got += fmt.Sprintf(", %d pages:", page.PageCount)
		for _, p := range page.Pages {
			got += fmt.Sprint(" ", p.Number)
		}
		if got != want || page.Data == nil || page.Pages == nil {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	links := decode[eventPage](s, "/blocks?x=%201&limit=50&page=2&y=&limit=3").Pages
	if links[2].URL != "/blocks?x=%201&limit=20&page=3&y=" {
		t.Errorf("links %v", links)
	}
}

func TestATransactionIsShownInTheBlockOnItsBranch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.see("alice", 5, 1, "a1", "a0")
	w.see("alice", 5, 2, "off", "x", schema.Transaction{Hash: named("t"), Value: "1"})
	w.see("alice", 5, 2, "on", "a1", schema.Transaction{Hash: named("t"), Value: "1"})
	s := serve(t, Options{Store: w.store})
	if got := decode[eventDeploy](s, "/deploy/"+named("t").String()); got.BlockHash != named("on").String() ||
		got.State != string(schema.StatusCanonical) || got.Cost != nil || got.ErrorMessage != nil {
		t.Errorf("%+v", got)
	}
}

func TestEventStoreAnswersErrorsOfTheStoreAsProblems(t *testing.T) {
	t.Parallel()
	broken := &brokenStore{Store: newWorld(t).store}
	broken.fail(errSecret)
	s := serve(t, Options{Store: broken})
	wantProblem(t, s.get("/blocks"), http.StatusInternalServerError, "internal error")
	wantProblem(t, s.get("/block/"+strings.Repeat("0", 64)), http.StatusInternalServerError, "internal error")
}

func TestBrowsersOfAnyOriginMayAskTheEventStoresRoutes(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store})
	got := s.do(http.MethodOptions, "/block/x", "Origin", "https://other.example", "Access-Control-Request-Method", "GET")
	if got.StatusCode != http.StatusNoContent || got.Header.Get("Access-Control-Allow-Origin") != "*" ||
		got.Header.Get("Access-Control-Allow-Methods") != "GET, HEAD" {
		t.Errorf("%d %v", got.StatusCode, got.Header)
	}
	if got := s.do(http.MethodPost, "/blocks"); got.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", got.StatusCode)
	}
}

func TestEpochsAreThoseOfSlotsWhereSlotsAreKnown(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		chain uint64
		h     schema.Header
		want  uint64
	}{
		{"mainnet, the first block after the merge", 1, schema.Header{Number: 15537394, Time: time.Unix(1663224179, 0)}, 146875},
		{"mainnet, before the merge", 1, schema.Header{Number: 15537393, Time: time.Unix(1663224162, 0)}, 485543},
		{"another chain", 5, schema.Header{Number: 64, Time: time.Unix(1663224179, 0)}, 2},
	} {
		if got := epochOf(c.chain, c.h); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
