// Package nginx starts Debian's nginx with deploy/nginx/nginx.conf before real nodes.
package nginx

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/ethclient"
	"github.com/ethereum/go-ethereum/rpc"

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

const config = "../../deploy/nginx/nginx.conf"

// freePort returns a port that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// certificate writes one for 127.0.0.1 that vouches for itself.
func certificate(t *testing.T, dir string) (cert, key string, trust *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	trust = x509.NewCertPool()
	trust.AppendCertsFromPEM(write(t, cert, "CERTIFICATE", der))
	write(t, key, "PRIVATE KEY", pkcs8)
	return cert, key, trust
}

func write(t *testing.T, path, kind string, der []byte) []byte {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return text
}

// proxy is a running nginx.
type proxy struct {
	http, https, ws string
	trust           *x509.CertPool
}

// start runs nginx with the shipped configuration, its addresses and paths replaced, until the test ends.
func start(t *testing.T, nodes []*devnet.Geth) *proxy {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("needs nginx: run `make test`, which installs it, or apt-get install nginx")
	}
	dir := t.TempDir()
	cert, key, trust := certificate(t, dir)
	plain, secure, socket := freePort(t), freePort(t), freePort(t)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	conf := string(text)
	for old, replacement := range map[string]string{
		"10.0.0.1:8545":           strings.TrimPrefix(nodes[0].URL(), "http://"),
		"10.0.0.2:8545":           strings.TrimPrefix(nodes[1].URL(), "http://"),
		"10.0.0.1:8546":           strings.TrimPrefix(nodes[0].WebSocketURL(), "ws://"),
		"10.0.0.2:8546":           strings.TrimPrefix(nodes[1].WebSocketURL(), "ws://"),
		"listen 8545;":            "listen 127.0.0.1:" + plain + ";",
		"listen 443 ssl http2;":   "listen 127.0.0.1:" + secure + " ssl http2;",
		"listen 8546;":            "listen 127.0.0.1:" + socket + ";",
		"/etc/nginx/tls/cert.pem": cert,
		"/etc/nginx/tls/key.pem":  key,
		"/run/nginx-rpc.pid":      filepath.Join(dir, "pid"),
		"http {\n": "http {\n" + fmt.Sprintf("client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c;"+
			"uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;\n", dir),
	} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("%s holds %q %d times, the test expects it once", config, old, strings.Count(conf, old))
		}
		conf = strings.Replace(conf, old, replacement, 1)
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, "-e", "stderr", "-p", dir, "-c", file, "-g", "daemon off;")
	cmd.Stderr = t.Output()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	await(t, "127.0.0.1:"+plain)
	return &proxy{"http://127.0.0.1:" + plain, "https://127.0.0.1:" + secure, "ws://127.0.0.1:" + socket, trust}
}

func await(t *testing.T, addr string) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			_ = conn.Close()
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("nginx does not listen: %v", err)
		case <-tick.C:
		}
	}
}

func TestShippedConfigurationServesHTTPAndHTTPSAndWebSocket(t *testing.T) {
	t.Parallel()
	geths, err := devnet.StartGeths(t.Context(), devnet.GethOptions{Path: testenv.Geth(t), Seed: 9})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = geths.Close() })
	p := start(t, geths.Nodes())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()

	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.trust}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	secure, err := rpc.DialOptions(ctx, p.https, rpc.WithHTTPClient(&http.Client{Transport: transport}))
	if err != nil {
		t.Fatal(err)
	}
	defer secure.Close()
	plain, err := rpc.DialContext(ctx, p.http)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	for name, c := range map[string]*rpc.Client{"http": plain, "https": secure} {
		var id string
		if err := c.CallContext(ctx, &id, "eth_chainId"); err != nil || id != "0x539" {
			t.Errorf("%s: chain id %q: %v", name, id, err)
		}
	}

	socket, err := ethclient.DialContext(ctx, p.ws)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	heads := make(chan *types.Header, 4)
	sub, err := socket.SubscribeNewHead(ctx, heads)
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Unsubscribe()
	if err := geths.Mine(ctx, 1); err != nil {
		t.Fatal(err)
	}
	select {
	case h := <-heads:
		if schema.Hash(h.Hash()) != geths.Canonical()[1] {
			t.Errorf("head %s", h.Hash())
		}
	case <-ctx.Done():
		t.Fatal("no head over WebSocket")
	}

	if err := geths.Nodes()[0].Kill(); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		var number string
		if err := plain.CallContext(ctx, &number, "eth_blockNumber"); err != nil || number != "0x1" {
			t.Errorf("with one node gone: %q, %v", number, err)
		}
	}
}
