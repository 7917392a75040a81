package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
)

// over posts one request over TLS on a connection of its own.
func over(s *site, config *tls.Config) (resp *http.Response, body string, err error) {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost,
		"https://"+s.gateway.AddrOf("https").String(), bytes.NewReader([]byte(`{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`)))
	if err != nil {
		return nil, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if resp, err = client.Do(req); err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

func TestTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"127.0.0.1"}})
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: "127.0.0.1:0", Cert: cert, Key: key})
	resp, body, err := over(s, &tls.Config{RootCAs: ca.Pool()})
	if err != nil || body != `{"jsonrpc":"2.0","id":1,"result":"0x1"}` || resp.ProtoMajor != 2 {
		t.Errorf("%s: %v", body, err)
	}
	if resp, _, err := over(s, &tls.Config{RootCAs: ca.Pool(), NextProtos: []string{"http/1.1"}, MaxVersion: tls.VersionTLS12}); err != nil ||
		resp.TLS.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v", err)
	}
	for name, config := range map[string]*tls.Config{
		"TLS 1.0":    {RootCAs: ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"TLS 1.1":    {RootCAs: ca.Pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"foreign CA": {RootCAs: testenv.NewAuthority(t).Pool()},
		"wrong name": {RootCAs: ca.Pool(), ServerName: "example.org"},
	} {
		if _, body, err := over(s, config); err == nil {
			t.Errorf("%s: answered %s", name, body)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"127.0.0.1"}})
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: "127.0.0.1:0", Cert: cert, Key: key, ClientCA: ca.File()})
	with := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ca.Pool(), Certificates: certs}
	}
	if _, body, err := over(s, with(ca.Pair(testenv.Leaf{}))); err != nil {
		t.Errorf("%s: %v", body, err)
	}
	for name, config := range map[string]*tls.Config{
		"none":       with(),
		"expired":    with(ca.Pair(testenv.Leaf{Until: time.Now().Add(-time.Minute)})),
		"foreign CA": with(testenv.NewAuthority(t).Pair(testenv.Leaf{})),
	} {
		if _, body, err := over(s, config); err == nil {
			t.Errorf("%s: answered %s", name, body)
		}
	}
}

func TestCertificateIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	local := []string{"127.0.0.1"}
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"127.0.0.1"}})
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: "127.0.0.1:0", Cert: cert, Key: key, Reload: 5 * time.Millisecond})
	serial := func() string {
		resp, _, err := over(s, &tls.Config{RootCAs: ca.Pool()})
		if err != nil {
			return err.Error()
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	if got := serial(); got != "2" {
		t.Fatal(got)
	}
	ca.Replace(cert, key, testenv.Leaf{Serial: 3, Hosts: local})
	await(t, "the new certificate is shown", func() bool { return serial() == "3" })
	// An expired one, and one whose key is another's, do not replace it.
	ca.Replace(cert, key, testenv.Leaf{Serial: 4, Until: time.Now().Add(-time.Minute)})
	if _, err := s.gateway.cert.Reload(); err == nil {
		t.Error("an expired certificate was taken")
	}
	_, other := ca.Issue(testenv.Leaf{Serial: 5, Hosts: local})
	if err := os.WriteFile(key, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != "3" {
		t.Error(got)
	}
	ca.Replace(cert, key, testenv.Leaf{Serial: 6, Hosts: local})
	await(t, "the next good one is shown", func() bool { return serial() == "6" })
}

func TestNodeWithABadCertificateIsNotUsed(t *testing.T) {
	t.Parallel()
	local := testenv.Leaf{Hosts: []string{"127.0.0.1"}}
	ca := testenv.NewAuthority(t)
	for name, test := range map[string]struct {
		pair tls.Certificate
		max  uint16
		good bool
	}{
		"good":       {ca.Pair(local), 0, true},
		"expired":    {ca.Pair(testenv.Leaf{Hosts: local.Hosts, Until: time.Now().Add(-time.Minute)}), 0, false},
		"wrong name": {ca.Pair(testenv.Leaf{Hosts: []string{"node.example"}}), 0, false},
		"foreign CA": {testenv.NewAuthority(t).Pair(local), 0, false},
		"TLS 1.1":    {ca.Pair(local), tls.VersionTLS11, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{test.pair},
				MinVersion: tls.VersionTLS10, MaxVersion: test.max})
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{ReadHeaderTimeout: time.Second, ErrorLog: nil, Handler: http.HandlerFunc(
				func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":"0x1"}`) })}
			server.ErrorLog = quietLog()
			go func() { _ = server.Serve(listener) }()
			t.Cleanup(func() { _ = server.Close() })
			pool := poolOf("https://" + listener.Addr().String())
			s := serve(t, Options{Pool: pool, Attempts: 1})
			s.gateway.transport.TLSClientConfig.RootCAs = ca.Pool()
			_, result, _ := s.ask("eth_chainId", "[]")
			if good := result == `"0x1"`; good != test.good || (pool.failures("n0") == 0) != test.good {
				t.Errorf("answered %q, %d failures", result, pool.failures("n0"))
			}
		})
	}
}

func tlsFor(ca *testenv.Authority) *tls.Config { return &tls.Config{RootCAs: ca.Pool()} }
