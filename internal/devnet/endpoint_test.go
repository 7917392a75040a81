package devnet_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/chain"
	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
)

func post(ctx context.Context, t *testing.T, e *devnet.Endpoint, body string) (*http.Response, string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func TestRepliesGoWrongAsTold(t *testing.T) {
	t.Parallel()
	n := start(t, 1, devnet.Options{Endpoints: 1})
	e := n.Endpoints()[0]
	const ask = `{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber","params":["latest",true]}`
	_, sound, err := post(t.Context(), t, e, ask)
	if err != nil {
		t.Fatal(err)
	}
	for fault, good := range map[string]func(*http.Response, string, error) bool{
		"dark": func(_ *http.Response, _ string, err error) bool { return err != nil },
		"garbage": func(r *http.Response, s string, _ error) bool {
			return r.StatusCode == 200 && strings.Contains(s, "<h1>")
		},
		"truncate": func(r *http.Response, s string, _ error) bool { return s == sound[:len(sound)/2] },
		"limit": func(r *http.Response, s string, _ error) bool {
			return r.StatusCode == 429 && r.Header.Get("Retry-After") == "1"
		},
		"error": func(r *http.Response, _ string, _ error) bool { return r.StatusCode == 500 },
		"null":  func(_ *http.Response, s string, _ error) bool { return strings.Contains(s, `"result":null`) },
		"ahead:30000000": func(_ *http.Response, s string, _ error) bool {
			var answer struct{ Result json.RawMessage }
			h := schema.Header{}
			err := json.Unmarshal([]byte(s), &answer)
			if err == nil {
				h, err = chain.DecodeHead(answer.Result)
			}
			return err == nil && h.Number == 30_000_001
		},
		"slow:1ms": func(_ *http.Response, s string, _ error) bool { return s == sound },
		"chain:5":  func(_ *http.Response, s string, _ error) bool { return s == sound },
		"none":     func(_ *http.Response, s string, _ error) bool { return s == sound },
	} {
		f, err := devnet.ParseFaults(fault)
		if err != nil {
			t.Fatal(err)
		}
		e.Set(f)
		if resp, text, err := post(t.Context(), t, e, ask); !good(resp, text, err) {
			t.Errorf("%s: %v %.80q %v", fault, resp, text, err)
		}
	}
}

func TestEndlessAndDrippingRepliesFlowAsTold(t *testing.T) {
	t.Parallel()
	n := start(t, 1, devnet.Options{Endpoints: 2})
	const ask = `{"jsonrpc":"2.0","id":1,"method":"eth_blockNumber"}`
	for i, reply := range []devnet.Reply{devnet.ReplyHuge, devnet.ReplyDrip} {
		n.Endpoints()[i].Set(devnet.Faults{Reply: reply})
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	read := func(e *devnet.Endpoint, bytes int64) (got int64) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.URL(), strings.NewReader(ask))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, bytes))
		return got
	}
	if got := read(n.Endpoints()[0], 8<<20); got != 8<<20 {
		t.Errorf("huge: %d bytes", got)
	}
	if got := read(n.Endpoints()[1], 1); got != 1 {
		t.Errorf("drip: %d bytes", got)
	}
}

func TestHangingNodeKeepsTheCallerWaiting(t *testing.T) {
	t.Parallel()
	n := start(t, 0, devnet.Options{Endpoints: 1})
	n.Endpoints()[0].Set(devnet.Faults{Reply: devnet.ReplyHang})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := post(ctx, t, n.Endpoints()[0], "{}"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestClaimsOfChainAndSync(t *testing.T) {
	t.Parallel()
	n := start(t, 1, devnet.Options{ChainID: 4242})
	n.Endpoints()[0].Set(devnet.Faults{ChainID: 1, Syncing: true})
	for i, want := range []int64{1, 4242} {
		c := dial(t, n.Endpoints()[i])
		if id, err := c.ChainID(t.Context()); err != nil || id.Int64() != want {
			t.Errorf("endpoint %d: chain %v, %v", i, id, err)
		}
		if p, err := c.SyncProgress(t.Context()); err != nil || (p != nil) != (i == 0) {
			t.Errorf("endpoint %d: syncing %v, %v", i, p, err)
		}
	}
}

func TestRequestsAreJudgedAsJSONRPC(t *testing.T) {
	t.Parallel()
	n := start(t, 0, devnet.Options{Endpoints: 1})
	for body, want := range map[string]int{
		`{"jsonrpc":"2.0","id":1,"method":"debug_setHead","params":["0x0"]}`: -32601,
		`{"jsonrpc":"2.0","id":1,"method":"eth_getBlockByNumber"}`:           -32602,
		`{"jsonrpc":"2.0","id":1}`:                                           -32600,
		`[]`:                                                                 -32600,
		`{"jsonrpc":`:                                                        -32700,
	} {
		var reply struct{ Error struct{ Code int } }
		_, text, err := post(t.Context(), t, n.Endpoints()[0], body)
		if err != nil || json.Unmarshal([]byte(text), &reply) != nil || reply.Error.Code != want {
			t.Errorf("%s: %s %v, want %d", body, text, err, want)
		}
	}
	_, text, err := post(t.Context(), t, n.Endpoints()[0],
		`[{"id":1,"method":"eth_blockNumber"},{"id":2,"method":"eth_chainId","params":[]}]`)
	if err != nil || text != `[{"jsonrpc":"2.0","id":1,"result":"0x0"},{"jsonrpc":"2.0","id":2,"result":"0x539"}]` {
		t.Errorf("batch: %s %v", text, err)
	}
}

func TestUnknownFaultsAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"lag", "lag:x", "slow:5", "dank", "lag:1,,stall", "chain:-1"} {
		if _, err := devnet.ParseFaults(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	got, err := devnet.ParseFaults("lag:5, slow:200ms,limit,stall,lie,null,syncing,chain:9")
	want := devnet.Faults{
		Lag: 5, Delay: 200 * time.Millisecond, Reply: devnet.ReplyLimit,
		Stall: true, Lie: true, Null: true, Syncing: true, ChainID: 9,
	}
	if err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}
