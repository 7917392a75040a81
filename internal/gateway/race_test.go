package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/faults"
	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// first makes the gateway try nodes in the pool's order.
func first(int) int { return 0 }

// atRandom fails a share of the requests to a node, each in one of the ways in which nodes fail.
func atRandom(share float64, seed uint64, next http.Handler) http.Handler {
	var mu sync.Mutex // guards random
	random := rand.New(rand.NewPCG(seed, seed))
	whole := `{"jsonrpc":"2.0","id":1,"result":"0x539"}`
	ways := []http.Handler{
		faults.Answer(http.StatusInternalServerError, "text/plain", "internal server error"),
		faults.Answer(http.StatusTooManyRequests, "application/json", `{"error":{"code":-32005}}`),
		faults.Answer(http.StatusOK, "text/html", "<h1>It works!</h1>"),
		faults.Answer(http.StatusOK, "application/json", whole[:len(whole)/2]),
		faults.Answer(http.StatusOK, "application/json", `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"busy"}}`),
		faults.Truncate(whole, len(whole)/2),
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fails, way := random.Float64() < share, random.IntN(len(ways))
		mu.Unlock()
		if fails {
			ways[way].ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func TestTwentyThousandRequestsOverNodesThatFailOneInFive(t *testing.T) {
	t.Parallel()
	requests := 20_000
	if testing.Short() {
		requests = 2_000
	}
	var urls []string
	for i := range 5 {
		node := newStub(t, func(question) string { return `"0x539"` })
		node.Config.Handler = atRandom(0.2, uint64(i), node.Config.Handler)
		urls = append(urls, node.URL)
	}
	pool := poolOf(urls...)
	s := serve(t, Options{Pool: pool})
	var succeeded atomic.Int64
	var callers sync.WaitGroup
	for caller := range 16 {
		callers.Go(func() {
			for i := caller; i < requests; i += 16 {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"eth_chainId","params":[]}`, i)
				resp, err := s.client.Post(s.url, "application/json", strings.NewReader(body))
				if err != nil {
					continue
				}
				text, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err == nil && string(text) == fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":"0x539"}`, i) {
					succeeded.Add(1)
				}
			}
		})
	}
	callers.Wait()
	failed := 0
	for i := range urls {
		failed += pool.failures(fmt.Sprint("n", i))
	}
	share := 100 * float64(succeeded.Load()) / float64(requests)
	t.Logf("%d of %d requests succeeded (%.3f %%) while nodes failed %d calls", succeeded.Load(), requests, share, failed)
	if share < 99.95 {
		t.Errorf("%.3f %% succeeded, want 99.95 %%", share)
	}
	if failed < requests/8 {
		t.Errorf("only %d calls failed: the faults did not fire", failed)
	}
}

func TestReadsAreAnsweredByAnotherNodeWhenOneFails(t *testing.T) {
	t.Parallel()
	for _, fault := range []devnet.Reply{devnet.ReplyDark, devnet.ReplyHang, devnet.ReplyGarbage, devnet.ReplyTruncate,
		devnet.ReplyLimit, devnet.ReplyError, devnet.ReplyHuge, devnet.ReplyDrip} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			net, err := devnet.New(devnet.Options{Endpoints: 2})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = net.Close() })
			net.Endpoints()[0].Set(devnet.Faults{Reply: fault})
			pool := poolOf(net.URLs()...)
			s := serve(t, Options{Pool: pool, Rand: first, HedgeAfter: 100 * time.Millisecond, MaxAnswer: 4 << 20,
				AttemptTimeout: 2 * time.Second})
			start := time.Now()
			resp, result, code := s.ask("eth_chainId", "[]")
			if result != `"0x539"` || code != 0 || resp.Header.Get(nodeHeader) != "n1" {
				t.Errorf("answered %q, code %d, by %q", result, code, resp.Header.Get(nodeHeader))
			}
			t.Logf("answered after %s", time.Since(start).Round(time.Millisecond))
		})
	}
}

func TestFailuresAreReportedToThePoolWithTheWishToBeLeftAlone(t *testing.T) {
	t.Parallel()
	limited := newRawStub(t, func(w http.ResponseWriter, _ *http.Request, _ question) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	sound := newStub(t, func(question) string { return `"0x1"` })
	pool := poolOf(limited.URL, sound.URL)
	s := serve(t, Options{Pool: pool, Rand: first})
	if _, result, _ := s.ask("eth_gasPrice", "[]"); result != `"0x1"` {
		t.Fatal(result)
	}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	var wish interface{ RetryAfter() time.Duration }
	if got := pool.reports["n0"]; len(got) != 1 || !errors.As(got[0], &wish) || wish.RetryAfter() != 7*time.Second {
		t.Errorf("n0: %v", got)
	}
	if got := pool.reports["n1"]; len(got) != 1 || got[0] != nil {
		t.Errorf("n1: %v", got)
	}
}

func TestAnswersThatAreNoneAreNotBelieved(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"another id":          `{"jsonrpc":"2.0","id":2,"result":"0xbad"}`,
		"id as a string":      `{"jsonrpc":"2.0","id":"1","result":"0xbad"}`,
		"no id":               `{"jsonrpc":"2.0","result":"0xbad"}`,
		"result and error":    `{"jsonrpc":"2.0","id":1,"result":"0xbad","error":{"code":1,"message":"x"}}`,
		"neither":             `{"jsonrpc":"2.0","id":1}`,
		"two results":         `{"jsonrpc":"2.0","id":1,"result":"0xbad","result":"0xbad"}`,
		"error is a string":   `{"jsonrpc":"2.0","id":1,"error":"0xbad"}`,
		"error without code":  `{"jsonrpc":"2.0","id":1,"error":{"message":"0xbad"}}`,
		"a batch":             `[{"jsonrpc":"2.0","id":1,"result":"0xbad"}]`,
		"something behind it": `{"jsonrpc":"2.0","id":1,"result":"0xbad"}{}`,
		"nested without end":  `{"jsonrpc":"2.0","id":1,"result":` + strings.Repeat("[", 20_000),
		"empty":               ``,
		"a word":              `null`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			liar := newRawStub(t, func(w http.ResponseWriter, _ *http.Request, _ question) { _, _ = io.WriteString(w, text) })
			sound := newStub(t, func(question) string { return `"0x1"` })
			pool := poolOf(liar.URL, sound.URL)
			s := serve(t, Options{Pool: pool, Rand: first})
			if _, result, code := s.ask("eth_gasPrice", "[]"); result != `"0x1"` {
				t.Errorf("answered %q, code %d", result, code)
			}
			if pool.failures("n0") == 0 {
				t.Error("the pool was not told")
			}
		})
	}
}

func TestCompressedAnswerThatNobodyAskedForIsAFailure(t *testing.T) {
	t.Parallel()
	bomb := newRawStub(t, func(w http.ResponseWriter, r *http.Request, _ question) {
		if r.Header.Get("Accept-Encoding") != "" {
			t.Errorf("asked for %s", r.Header.Get("Accept-Encoding"))
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = io.WriteString(w, "\x1f\x8b")
	})
	sound := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(bomb.URL, sound.URL), Rand: first})
	if _, result, _ := s.ask("eth_gasPrice", "[]"); result != `"0x1"` {
		t.Error(result)
	}
}

func TestErrorsOfTheQuestionAreAnswersAndThoseOfTheNodeAreNot(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		failure string
		asked   int64 // how often the second node is asked as well
	}{
		"reverted":         {`{"code":3,"message":"execution reverted","data":"0x08c379a0"}`, 0},
		"nonce too low":    {`{"code":-32000,"message":"nonce too low"}`, 0},
		"bad parameters":   {`{"code":-32602,"message":"invalid argument 0"}`, 0},
		"limit":            {`{"code":-32005,"message":"limit exceeded"}`, 1},
		"internal":         {`{"code":-32603,"message":"internal error"}`, 1},
		"method missing":   {`{"code":-32601,"message":"the method eth_gasPrice does not exist"}`, 1},
		"state is missing": {`{"code":-32000,"message":"missing trie node 5f (path )"}`, 1},
		"header is":        {`{"code":-32000,"message":"header not found"}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			answer := func(w http.ResponseWriter, _ *http.Request, _ question) {
				_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"error":`+test.failure+`}`)
			}
			a, b := newRawStub(t, answer), newRawStub(t, answer)
			pool := poolOf(a.URL, b.URL)
			s := serve(t, Options{Pool: pool, Rand: first})
			got := s.post(`{"jsonrpc":"2.0","id":7,"method":"eth_gasPrice"}`)
			if want := `{"jsonrpc":"2.0","id":7,"error":` + test.failure + `}`; got.body != want || got.StatusCode != 200 {
				t.Errorf("%d %s", got.StatusCode, got.body)
			}
			if a.calls.Load() != 1 || b.calls.Load() != test.asked || pool.failures("n0") != 0 {
				t.Errorf("asked %d and %d times, %d failures", a.calls.Load(), b.calls.Load(), pool.failures("n0"))
			}
		})
	}
}

func TestWritesAreSentOnce(t *testing.T) {
	t.Parallel()
	const send = "eth_sendRawTransaction"
	for name, fault := range map[string]http.Handler{
		"cut":     http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"500":     faults.Answer(http.StatusInternalServerError, "text/plain", ""),
		"429":     faults.Answer(http.StatusTooManyRequests, "text/plain", ""),
		"garbage": faults.Answer(http.StatusOK, "text/html", "<h1>"),
		"hang":    faults.Hang(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var urls []string
			var sent atomic.Int64
			for range 3 {
				node := newStub(t, func(question) string { return `"0x1"` })
				inner := node.Config.Handler
				node.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					body, _ := io.ReadAll(r.Body)
					r.Body = io.NopCloser(bytes.NewReader(body))
					if strings.Contains(string(body), send) {
						sent.Add(1)
						fault.ServeHTTP(w, r)
						return
					}
					inner.ServeHTTP(w, r)
				})
				urls = append(urls, node.URL)
			}
			s := serve(t, Options{Pool: poolOf(urls...), HedgeAfter: 10 * time.Millisecond, AttemptTimeout: 300 * time.Millisecond})
			for range 6 {
				s.ask("eth_gasPrice", "[]") // so that there are kept connections to send over
			}
			resp, _, code := s.ask(send, `["0x02"]`)
			if code != jsonrpc.CodeServer || resp.StatusCode != http.StatusBadGateway || !strings.Contains(resp.body, "accepted") {
				t.Errorf("%d %s", resp.StatusCode, resp.body)
			}
			if sent.Load() != 1 {
				t.Errorf("sent %d times", sent.Load())
			}
		})
	}
}

func TestWriteGoesToAnotherNodeWhereNoConnectionIsHad(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "http://" + listener.Addr().String()
	_ = listener.Close()
	node := newStub(t, func(question) string { return `"0xhash"` })
	s := serve(t, Options{Pool: poolOf(closed, node.URL), Rand: first})
	if resp, result, _ := s.ask("eth_sendRawTransaction", `["0x02"]`); result != `"0xhash"` ||
		resp.Header.Get(nodeHeader) != "n1" {
		t.Errorf("%d %s", resp.StatusCode, resp.body)
	}
}

func TestSecondNodeIsAskedWhenTheFirstIsSlow(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	slow := newRawStub(t, func(_ http.ResponseWriter, r *http.Request, _ question) {
		<-r.Context().Done() // the loser is told to stop
		close(gone)
	})
	quick := newStub(t, func(question) string { return `"0x1"` })
	pool := poolOf(slow.URL, quick.URL)
	s := serve(t, Options{Pool: pool, Rand: first, HedgeAfter: 30 * time.Millisecond})
	resp, result, _ := s.ask("eth_gasPrice", "[]")
	if result != `"0x1"` || resp.Header.Get(nodeHeader) != "n1" {
		t.Errorf("%s", resp.body)
	}
	<-gone
	if pool.failures("n0") != 0 {
		t.Error("the slow node was blamed for being beaten")
	}
}

func TestAllNodesDown(t *testing.T) {
	t.Parallel()
	node := newRawStub(t, func(http.ResponseWriter, *http.Request, question) { panic(http.ErrAbortHandler) })
	s := serve(t, Options{Pool: poolOf(node.URL), Attempts: 3})
	resp, _, code := s.ask("eth_gasPrice", "[]")
	if code != jsonrpc.CodeServer || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("%d %s", resp.StatusCode, resp.body)
	}
	if n := node.calls.Load(); n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
	if strings.Contains(resp.body, "127.0.0.1") {
		t.Errorf("the node's address is shown: %s", resp.body)
	}
}

func TestLargeAnswersAreCappedAndWaitForAPlace(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("a", 2<<20)
	var at, most atomic.Int64
	node := newRawStub(t, func(w http.ResponseWriter, _ *http.Request, q question) {
		if q.Method == "eth_getLogs" {
			_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"`+strings.Repeat("a", 5<<20)+`"}`)
			return
		}
		for n, m := at.Add(1), most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		defer at.Add(-1)
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":"`+large+`"}`)
	})
	s := serve(t, Options{Pool: poolOf(node.URL), MaxAnswer: 4 << 20, MaxLarge: 2})
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			if resp, result, _ := s.ask("eth_getBlockReceipts", `["0x1"]`); result != `"`+large+`"` {
				t.Errorf("%d %.100s", resp.StatusCode, resp.body)
			}
		})
	}
	callers.Wait()
	if _, _, code := s.ask("eth_getLogs", `[{}]`); code != jsonrpc.CodeTooLarge {
		t.Errorf("code %d, want %d", code, jsonrpc.CodeTooLarge)
	}
	got := s.post(`[{"jsonrpc":"2.0","id":1,"method":"eth_getBlockReceipts","params":["0x1"]},
		{"jsonrpc":"2.0","id":2,"method":"eth_getBlockReceipts","params":["0x1"]},
		{"jsonrpc":"2.0","id":3,"method":"eth_getBlockReceipts","params":["0x1"]}]`)
	if n := strings.Count(got.body, large); n != 1 {
		t.Errorf("%d large answers in one batch of %d bytes, want one", n, len(got.body))
	}
	await(t, "all places are free again", func() bool { return len(s.gateway.places) == 0 })
}
