package gateway

import (
	"cmp"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
)

const (
	benchBody  = `{"jsonrpc":"2.0","id":1,"method":"eth_getBalance","params":["0x407d73d8a49eeb85d32cf465507dd71d507100c1","latest"]}`
	benchReply = `{"jsonrpc":"2.0","id":1,"result":"0x234c8a3397aab58"}`
	rounds     = 3
	seconds    = 3
)

// nginxConf is an upstream that answers at once, and a proxy before it.
const nginxConf = `worker_processes 2; pid %[1]s/pid; error_log stderr crit;
events { worker_connections 2048; }
http {
	client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
	access_log off; keepalive_requests 100000000; keepalive_timeout 300s; client_body_buffer_size 64k;
	upstream node { server 127.0.0.1:%[2]s; keepalive 128; keepalive_requests 100000000; }
	server { listen 127.0.0.1:%[2]s; location / { default_type application/json; return 200 '` + benchReply + `'; } }
	server { listen 127.0.0.1:%[3]s; location / { proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://node; } }
}`

func freePort(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// startNginx returns the URLs of the upstream and of the proxy before it.
func startNginx(b *testing.B) (upstream, proxy string) {
	b.Helper()
	dir, node, front := b.TempDir(), freePort(b), freePort(b)
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, dir, node, front), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", conf, "-g", "daemon off;")
	cmd.Stderr = b.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	await(b, "nginx listens", func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+front)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return "http://127.0.0.1:" + node, "http://127.0.0.1:" + front
}

// tunedReverseProxy is httputil.ReverseProxy with what is usually turned up: connections kept and buffers reused.
func tunedReverseProxy(b *testing.B, upstream string) string {
	b.Helper()
	target, err := url.Parse(upstream)
	if err != nil {
		b.Fatal(err)
	}
	transport := newTransport()
	proxy := &httputil.ReverseProxy{
		Rewrite:    func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:  transport,
		BufferPool: new(buffers),
		ErrorLog:   quietLog(),
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: proxy, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
	})
	return "http://" + listener.Addr().String()
}

type buffers struct{ pool sync.Pool }

func (p *buffers) Get() []byte {
	if buf, ok := p.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 32<<10)
}

func (p *buffers) Put(buf []byte) { p.pool.Put(&buf) }

type load struct {
	rate float64 // requests a second
	p99  time.Duration
	cpu  float64 // microseconds of this process for a request; next to nothing where nginx does the work
}

// cpuTime is what this process has used.
func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

var (
	wrkRate  = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)
	wrkP99   = regexp.MustCompile(`99%\s+([0-9.]+)(us|ms|s)`)
	wrkWrong = regexp.MustCompile(`(Non-2xx|Socket errors).*`)
)

// wrk loads a URL over 50 kept connections.
func wrk(b *testing.B, script, target string) load {
	b.Helper()
	before := cpuTime()
	out, err := exec.Command("wrk", "-t2", "-c50", fmt.Sprintf("-d%ds", seconds), "--latency", "-s", script, target).CombinedOutput()
	rate, p99 := wrkRate.FindSubmatch(out), wrkP99.FindSubmatch(out)
	if err != nil || rate == nil || p99 == nil || wrkWrong.Match(out) {
		b.Fatalf("wrk %s: %v\n%s", target, err, out)
	}
	l := load{cpu: float64((cpuTime() - before).Microseconds())}
	l.rate, _ = strconv.ParseFloat(string(rate[1]), 64)
	l.p99, _ = time.ParseDuration(string(p99[1]) + string(p99[2]))
	l.cpu /= l.rate * seconds
	return l
}

// BenchmarkBeside loads, in turns, an upstream that answers at once, nginx before it, a tuned httputil.ReverseProxy and
// the gateway with everything on. What counts is the ratios: they hold on other machines.
func BenchmarkBeside(b *testing.B) {
	for _, tool := range []string{"wrk", "nginx"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skipf("needs %s: run `make bench`, or apt-get install %s", tool, tool)
		}
	}
	upstream, nginx := startNginx(b)
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	site := serve(b, Options{Pool: poolOf(upstream, upstream, upstream), Log: quiet, Registerer: prometheus.NewRegistry(),
		Rate: 1e6, Burst: 1e6})
	if _, result, _ := site.ask("eth_getBalance", `["0x407d73d8a49eeb85d32cf465507dd71d507100c1","latest"]`); result != `"0x234c8a3397aab58"` {
		b.Fatalf("the gateway answers %s", result)
	}
	script := filepath.Join(b.TempDir(), "post.lua")
	if err := os.WriteFile(script, []byte("wrk.method = \"POST\"\nwrk.body = '"+benchBody+
		"'\nwrk.headers[\"Content-Type\"] = \"application/json\"\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	field := []struct{ name, url string }{
		{"upstream", upstream}, {"nginx", nginx}, {"reverseproxy", tunedReverseProxy(b, upstream)}, {"gateway", site.url},
	}
	results := make([][]load, len(field))
	for b.Loop() {
		for range rounds {
			for i, f := range field {
				results[i] = append(results[i], wrk(b, script, f.url))
			}
		}
	}
	middle := func(all []load, less func(x, y load) int) load {
		slices.SortFunc(all, less)
		return all[len(all)/2]
	}
	median := func(all []load) load {
		return load{
			rate: middle(all, func(x, y load) int { return cmp.Compare(x.rate, y.rate) }).rate,
			p99:  middle(all, func(x, y load) int { return cmp.Compare(x.p99, y.p99) }).p99,
			cpu:  middle(all, func(x, y load) int { return cmp.Compare(x.cpu, y.cpu) }).cpu,
		}
	}
	base := median(results[2])
	for i, f := range field {
		l := median(results[i])
		b.Logf("%-13s %8.0f requests/s (%.2f of the reverse proxy), p99 %8s (%.2f), %4.1f µs CPU", f.name, l.rate,
			l.rate/base.rate, l.p99, float64(l.p99)/float64(base.p99), l.cpu)
		b.ReportMetric(l.rate, f.name+"-req/s")
		b.ReportMetric(float64(l.p99.Microseconds()), f.name+"-p99-µs")
	}
	b.ReportMetric(median(results[3]).rate/base.rate, "gateway/reverseproxy")
}
