package gateway

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// chainNode is a stub that has blocks up to a height of its own.
func chainNode(t testing.TB, height func() uint64) *stub {
	return newStub(t, func(q question) string {
		var params []json.RawMessage
		_ = json.Unmarshal(q.Params, &params)
		switch q.Method {
		case "eth_getBlockByNumber":
			var tag string
			_ = json.Unmarshal(params[0], &tag)
			n, err := strconv.ParseUint(strings.TrimPrefix(tag, "0x"), 16, 64)
			if err != nil {
				return fmt.Sprintf(`{"number":"unpinned %s"}`, tag)
			}
			if n > height() {
				return "null"
			}
			return fmt.Sprintf(`{"number":"0x%x"}`, n)
		case "eth_getTransactionReceipt":
			return fmt.Sprintf(`{"status":"0x1","blockNumber":"0x%x"}`, height())
		}
		return `"0x0"`
	})
}

func TestHeadComesFromThePoolAndFromANodeThatHasIt(t *testing.T) {
	t.Parallel()
	low, high := chainNode(t, func() uint64 { return 90 }), chainNode(t, func() uint64 { return 100 })
	pool := poolOf(low.URL, high.URL)
	pool.set(100, 90, 100)
	s := serve(t, Options{Pool: pool})
	for range 20 {
		resp, result, _ := s.ask("eth_blockNumber", "[]")
		if result != `"0x64"` || resp.Header.Get(heightHeader) != "100" || resp.Header.Get(nodeHeader) != "n1" {
			t.Fatalf("%s %v", resp.body, resp.Header)
		}
		if resp, result, _ = s.ask("eth_getBlockByNumber", `["latest",false]`); result != `{"number":"0x64"}` {
			t.Fatal(resp.body)
		}
	}
	if low.calls.Load() != 0 {
		t.Error("a node was asked for a block above its height")
	}
}

func TestHeadsNeverGoBackForOneCaller(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	var mu sync.Mutex // guards heights
	heights := []uint64{100, 100, 100}
	var urls []string
	for i := range heights {
		urls = append(urls, chainNode(t, func() uint64 { mu.Lock(); defer mu.Unlock(); return heights[i] }).URL)
	}
	pool := poolOf(urls...)
	s := serve(t, Options{Pool: pool, HeightWait: 20 * time.Millisecond})
	told, lowered, refused := uint64(0), 0, 0
	for range 400 {
		// The pool's tip and each node wander up and, less often, down.
		mu.Lock()
		for i := range heights {
			heights[i] = uint64(max(90, int(heights[i])+random.IntN(6)-2))
		}
		tip := max(min(heights[0], heights[1]), min(heights[1], heights[2]), min(heights[0], heights[2]))
		pool.set(tip, heights...)
		mu.Unlock()
		if tip < told {
			lowered++
		}
		method, params := "eth_blockNumber", "[]"
		if random.IntN(2) == 0 {
			method, params = "eth_getBlockByNumber", `["latest",false]`
		}
		resp, result, code := s.ask(method, params)
		if code == jsonrpc.CodeNotFound && resp.StatusCode == http.StatusServiceUnavailable {
			refused++
			continue
		}
		digits := strings.Trim(strings.TrimPrefix(result, `{"number":`), `"}`)
		head, err := strconv.ParseUint(strings.TrimPrefix(digits, "0x"), 16, 64)
		if err != nil || head < told {
			t.Fatalf("%s: %s after %d was told", method, resp.body, told)
		}
		told = head
	}
	if lowered < 20 {
		t.Errorf("the tip lay below the told head %d times only", lowered)
	}
	t.Logf("told up to %d; the tip was below %d times, refused %d times", told, lowered, refused)
}

func TestHeadMayGoBackForAnotherCallerAndAfterTheSession(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards now
	now := time.Now()
	node := chainNode(t, func() uint64 { return 1000 })
	pool := poolOf(node.URL)
	s := serve(t, Options{Pool: pool, HeightWait: 10 * time.Millisecond, Trusted: anywhere(t), Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	head := func(client string) string {
		_, result, code := s.ask("eth_blockNumber", "[]", "X-Forwarded-For", client)
		return result + fmt.Sprint(code)
	}
	for _, client := range []string{"192.0.2.1", "2001:db8::1"} {
		pool.set(100, 100)
		if got := head(client); got != `"0x64"0` {
			t.Fatal(got)
		}
		pool.set(99, 99)
		if got := head(client); got != "-32001" {
			t.Errorf("%s: %s", client, got)
		}
	}
	if got := head("192.0.2.2"); got != `"0x63"0` {
		t.Errorf("another caller: %s", got)
	}
	if got := head("2001:db8::2"); got != "-32001" {
		t.Errorf("the same network: %s", got)
	}
	mu.Lock()
	now = now.Add(61 * time.Second)
	mu.Unlock()
	if got := head("192.0.2.1"); got != `"0x63"0` {
		t.Errorf("a minute later: %s", got)
	}
}

func TestMinHeight(t *testing.T) {
	t.Parallel()
	a, b := chainNode(t, func() uint64 { return 100 }), chainNode(t, func() uint64 { return 102 })
	pool := poolOf(a.URL, b.URL)
	pool.set(100, 100, 102)
	s := serve(t, Options{Pool: pool, HeightWait: 50 * time.Millisecond})
	for range 10 {
		resp, result, _ := s.ask("eth_gasPrice", "[]", minHeightHeader, "102")
		if resp.Header.Get(nodeHeader) != "n1" || result != `"0x0"` {
			t.Fatalf("rerouted to %s: %s", resp.Header.Get(nodeHeader), resp.body)
		}
	}
	if resp, result, _ := s.ask("eth_getBlockByNumber", `["latest",false]`, minHeightHeader, "0x65"); result != `{"number":"0x65"}` {
		t.Error(resp.body)
	}
	resp, _, code := s.ask("eth_gasPrice", "[]", minHeightHeader, "103")
	if resp.StatusCode != 503 || code != jsonrpc.CodeNotFound || resp.Header.Get(heightHeader) != "102" ||
		!strings.Contains(resp.body, "102") {
		t.Errorf("%d %s, %s %s", resp.StatusCode, resp.body, heightHeader, resp.Header.Get(heightHeader))
	}
	for _, bad := range []string{"-1", "1e3", "0x", "latest", "99999999999999999999", "1,2"} {
		wantCode(t, s.post(`{"jsonrpc":"2.0","id":1,"method":"eth_gasPrice"}`, minHeightHeader, bad), 400, jsonrpc.CodeInvalid)
	}
	// What a caller asked for in vain is not what it was told.
	if _, result, _ := s.ask("eth_blockNumber", "[]"); result != `"0x65"` {
		t.Errorf("head %s after asking for 103", result)
	}
}

func TestMinHeightWaitsForTheBlock(t *testing.T) {
	t.Parallel()
	chain, err := devnet.New(devnet.Options{Endpoints: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = chain.Close() })
	pool := poolOf(chain.URLs()...)
	pool.set(0, 0)
	s := serve(t, Options{Pool: pool, HeightWait: 20 * time.Second})
	mined := time.AfterFunc(100*time.Millisecond, func() {
		if err := chain.Mine(t.Context(), 1); err != nil {
			t.Error(err)
		}
		pool.set(1, 1)
	})
	defer mined.Stop()
	resp, result, _ := s.ask("eth_getBlockByNumber", `["latest",false]`, minHeightHeader, "1")
	var block struct{ Number string }
	if err := json.Unmarshal([]byte(result), &block); err != nil || block.Number != "0x1" {
		t.Errorf("%s: %v", resp.body, err)
	}
}

func TestWhoSawAReceiptSeesTheStateAfterIt(t *testing.T) {
	t.Parallel()
	behind := chainNode(t, func() uint64 { return 100 })
	ahead := chainNode(t, func() uint64 { return 101 })
	pool := poolOf(ahead.URL, behind.URL) // which has not heard of 101
	s := serve(t, Options{Pool: pool, Rand: first})
	if resp, _, code := s.ask("eth_getTransactionReceipt", `["0x1"]`); code != 0 {
		t.Fatal(resp.body)
	}
	for range 5 {
		resp, _, _ := s.ask("eth_getBalance", `["0x1","latest"]`)
		if resp.Header.Get(nodeHeader) != "n0" || string(ahead.last().Params) != `["0x1","0x65"]` {
			t.Fatalf("asked %s for %s", resp.Header.Get(nodeHeader), ahead.last().Params)
		}
	}
}

func TestOneNodeCannotTakeACallersHeadOutOfReach(t *testing.T) {
	t.Parallel()
	liar := chainNode(t, func() uint64 { return 30_000_000 })
	pool := poolOf(liar.URL)
	s := serve(t, Options{Pool: pool, HeightWait: 10 * time.Millisecond})
	s.ask("eth_getTransactionReceipt", `["0x1"]`)
	if resp, result, _ := s.ask("eth_blockNumber", "[]"); result != `"0x64"` {
		t.Error(resp.body)
	}
}

func TestNodeThatLacksTheHeadItSaidToHaveIsPassedOver(t *testing.T) {
	t.Parallel()
	rolledBack, sound := chainNode(t, func() uint64 { return 50 }), chainNode(t, func() uint64 { return 100 })
	s := serve(t, Options{Pool: poolOf(rolledBack.URL, sound.URL), Rand: first})
	if resp, result, _ := s.ask("eth_getBlockByNumber", `["latest",false]`); result != `{"number":"0x64"}` ||
		resp.Header.Get(nodeHeader) != "n1" {
		t.Errorf("%s by %s", resp.body, resp.Header.Get(nodeHeader))
	}
}

func TestNoNodes(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Pool: &fakePool{blind: true}, HeightWait: 10 * time.Millisecond})
	for _, method := range []string{"eth_blockNumber", "eth_gasPrice", "eth_sendRawTransaction"} {
		if resp, _, code := s.ask(method, "[]"); resp.StatusCode != 503 || code != jsonrpc.CodeServer {
			t.Errorf("%s: %d %s", method, resp.StatusCode, resp.body)
		}
	}
	if err := s.gateway.Ready(t.Context()); err == nil {
		t.Error("ready without nodes")
	}
}
