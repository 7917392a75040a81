package statsapi

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/store"
)

// echo is a bare net/http server that reads a request and answers what it is told to, whatever was asked.
func echo(b *testing.B, text string) string {
	b.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(text)))
		_, _ = io.WriteString(w, text)
	}))
	b.Cleanup(s.Close)
	return s.URL
}

var wrkFigures = regexp.MustCompile(`(?s)99%\s+([0-9.]+(?:us|ms|s)).*Requests/sec:\s+([0-9.]+)`)

// wrk loads a URL with one request over so many kept connections for so many seconds.
func wrk(b *testing.B, body, target string, connections, seconds int) (rate float64, p99 time.Duration) {
	b.Helper()
	script := filepath.Join(b.TempDir(), "post.lua")
	if err := os.WriteFile(script, fmt.Appendf(nil, "wrk.method = \"POST\"\nwrk.body = [==[%s]==]\n"+
		"wrk.headers[\"Content-Type\"] = \"application/json\"\n", body), 0o600); err != nil {
		b.Fatal(err)
	}
	out, err := exec.Command("wrk", "-t1", fmt.Sprintf("-c%d", connections), fmt.Sprintf("-d%ds", seconds), "--timeout", "30s", "--latency", "-s", script, target).CombinedOutput()
	got := wrkFigures.FindSubmatch(out)
	if err != nil || got == nil || strings.Contains(string(out), "Non-2xx") {
		b.Fatalf("wrk %s: %v\n%s", target, err, out)
	}
	rate, _ = strconv.ParseFloat(string(got[2]), 64)
	p99, _ = time.ParseDuration(string(got[1]))
	return rate, p99
}

// BenchmarkRPC asks a store of 1,000 blocks of some 150 transactions, in turns with a bare net/http
// server that answers the same bytes. What counts is the ratios.
func BenchmarkRPC(b *testing.B) {
	if _, err := exec.LookPath("wrk"); err != nil {
		b.Skip("needs wrk: run `make bench`, or apt-get install wrk")
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	w := shadowOf(b, onDisk(b), devnet.Options{Endpoints: 1, Seed: 5, Transfers: 150})
	w.mine(1000, false)
	s := serve(b, Options{Store: w.store, Log: quiet})
	question := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	}
	head := question("eth_getBlockByNumber", `["latest",true]`)
	batch := make([]string, 100)
	for i := range batch {
		batch[i] = question("eth_getBlockByNumber", fmt.Sprintf(`["0x%x",false]`, 900+i))
	}
	const range1000 = `"fromBlock":"0x1","toBlock":"0x3e8"`
	for _, test := range []struct{ name, body string }{
		{"eth_chainId", question("eth_chainId", `[]`)},
		{"eth_getBlockByNumber-latest", head},
		{"eth_getBlockByNumber-old", question("eth_getBlockByNumber", `["0x1f4",true]`)},
		{"batch-of-100-blocks", "[" + strings.Join(batch, ",") + "]"},
		{"eth_getLogs-1000-none", question("eth_getLogs", `[{`+range1000+`,"address":"0x00000000000000000000000000000000000000ff"}]`)},
		{"eth_getLogs-1000-all", question("eth_getLogs", `[{`+range1000+`}]`)},
	} {
		b.Run(test.name, func(b *testing.B) {
			answer := s.post("/rpc", test.body)
			if answer.StatusCode != http.StatusOK || strings.Contains(answer.body[:min(len(answer.body), 60)], `"error"`) {
				b.Fatalf("%d %.300s", answer.StatusCode, answer.body)
			}
			bare := echo(b, answer.body)
			connections, seconds := 20, 2
			if strings.HasSuffix(test.name, "-all") { // a second or more each
				connections, seconds = 2, 10
			}
			var ours, theirs []float64
			var late time.Duration
			for b.Loop() {
				for range 3 {
					rate, p99 := wrk(b, test.body, s.url+"/rpc", connections, seconds)
					ours, late = append(ours, rate), max(late, p99)
					rate, _ = wrk(b, test.body, bare, connections, seconds)
					theirs = append(theirs, rate)
				}
			}
			slices.Sort(ours)
			slices.Sort(theirs)
			b.ReportMetric(ours[len(ours)/2], "req/s")
			b.ReportMetric(ours[len(ours)/2]/theirs[len(theirs)/2], "of-echo")
			b.ReportMetric(float64(late.Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(len(answer.body)), "answer-bytes")
		})
	}
}

// onDisk is a store in a SQLite file, as replicas have it.
func onDisk(b *testing.B) *world {
	b.Helper()
	s, err := store.Open(b.Context(), store.Options{DSN: "sqlite://" + b.TempDir() + "/bench.db"})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(b.Context()); err != nil {
		b.Fatal(err)
	}
	background(b, s.Run)
	return &world{t: b, store: s, now: epoch}
}
