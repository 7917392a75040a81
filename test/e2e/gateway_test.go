package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// flaky is a proxy in front of a node that fails a share of the calls, the same ones each time.
func flaky(t *testing.T, node string, seed uint64, share float64) string {
	t.Helper()
	target, err := url.Parse(node)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }}
	var mu sync.Mutex                           // guards random
	random := rand.New(rand.NewPCG(seed, seed)) // the same failures each time
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		fails := random.Float64() < share
		mu.Unlock()
		if fails {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

// ask makes one call and tells whether it was answered with a result.
func ask(ctx context.Context, gateway string, i int) error {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"eth_getBlockByNumber","params":["0x0",false]}`, i)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, gateway, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		ID     int
		Result struct{ Hash string }
		Error  json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if resp.StatusCode != http.StatusOK || answer.ID != i || answer.Result.Hash == "" {
		return fmt.Errorf("%s: %+v", resp.Status, answer)
	}
	return nil
}

// Five nodes each fail a fifth of their calls, probes included. Callers of the gateway hardly notice, and no node is
// given up for it.
func TestTheGatewayHidesNodesThatFailAFifthOfTheirCalls(t *testing.T) {
	t.Parallel()
	args := []string{"gateway", "--listen", "127.0.0.1:0"}
	for i, node := range endpoints(t, 5, time.Second) {
		args = append(args, "--node", flaky(t, node, uint64(i)+1, 0.2))
	}
	p := start(t, args...)
	gateway := "http://" + p.Addr(t, "gateway http")
	eventually(t, 20*time.Second, func() error { return ask(t.Context(), gateway, 0) })

	calls, callers := 3000, 16
	if accepting() {
		calls = 20_000
	}
	var failed atomic.Int64
	var last atomic.Value
	next := make(chan int)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := range next {
				if err := ask(t.Context(), gateway, i); err != nil {
					failed.Add(1)
					last.Store(err.Error())
				}
			}
		})
	}
	for i := range calls {
		next <- i + 1
	}
	close(next)
	wg.Wait()
	t.Logf("%d of %d calls failed", failed.Load(), calls)
	if failed.Load()*2000 > int64(calls) { // at least 99.95 % succeed
		t.Errorf("%d of %d calls failed, the last with %v", failed.Load(), calls, last.Load())
	}
	if strings.Contains(p.Log.String(), "calls keep failing") {
		t.Error("a node's breaker opened")
	}
}
