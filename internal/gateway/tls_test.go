package gateway

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority issues certificates for a test.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{t, cert, key}
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// issue makes a certificate and its key as PEM.
func (a *authority) issue(serial int64, until time.Time, host string) (cert, key []byte) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if ip := net.ParseIP(host); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{host}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func (a *authority) pair(until time.Time, host string) tls.Certificate {
	a.t.Helper()
	pair, err := tls.X509KeyPair(a.issue(2, until, host))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

// files writes a certificate and its key and returns their paths.
func (a *authority) files(serial int64, until time.Time) (cert, key string) {
	a.t.Helper()
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	a.write(cert, key, serial, until)
	return cert, key
}

func (a *authority) write(cert, key string, serial int64, until time.Time) {
	a.t.Helper()
	c, k := a.issue(serial, until, "127.0.0.1")
	for path, content := range map[string][]byte{cert: c, key: k} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

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
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	cert, key := ca.files(2, hour)
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: "127.0.0.1:0", Cert: cert, Key: key})
	resp, body, err := over(s, &tls.Config{RootCAs: ca.pool()})
	if err != nil || body != `{"jsonrpc":"2.0","id":1,"result":"0x1"}` || resp.ProtoMajor != 2 {
		t.Errorf("%s: %v", body, err)
	}
	if resp, _, err := over(s, &tls.Config{RootCAs: ca.pool(), NextProtos: []string{"http/1.1"}, MaxVersion: tls.VersionTLS12}); err != nil ||
		resp.TLS.Version != tls.VersionTLS12 {
		t.Errorf("TLS 1.2: %v", err)
	}
	for name, config := range map[string]*tls.Config{
		"TLS 1.0":    {RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10},
		"TLS 1.1":    {RootCAs: ca.pool(), MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"foreign CA": {RootCAs: newAuthority(t).pool()},
		"wrong name": {RootCAs: ca.pool(), ServerName: "example.org"},
	} {
		if _, body, err := over(s, config); err == nil {
			t.Errorf("%s: answered %s", name, body)
		}
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	cert, key := ca.files(2, hour)
	caFile := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
	if err := os.WriteFile(caFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: "127.0.0.1:0", Cert: cert, Key: key, ClientCA: caFile})
	with := func(certs ...tls.Certificate) *tls.Config {
		return &tls.Config{RootCAs: ca.pool(), Certificates: certs}
	}
	if _, body, err := over(s, with(ca.pair(hour, "client"))); err != nil {
		t.Errorf("%s: %v", body, err)
	}
	for name, config := range map[string]*tls.Config{
		"none":       with(),
		"expired":    with(ca.pair(time.Now().Add(-time.Minute), "client")),
		"foreign CA": with(newAuthority(t).pair(hour, "client")),
	} {
		if _, body, err := over(s, config); err == nil {
			t.Errorf("%s: answered %s", name, body)
		}
	}
}

func TestCertificateIsReplacedWithoutARestart(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	cert, key := ca.files(2, hour)
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), TLSListen: "127.0.0.1:0", Cert: cert, Key: key, Reload: 5 * time.Millisecond})
	serial := func() string {
		resp, _, err := over(s, &tls.Config{RootCAs: ca.pool()})
		if err != nil {
			return err.Error()
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.String()
	}
	if got := serial(); got != "2" {
		t.Fatal(got)
	}
	ca.write(cert, key, 3, hour)
	await(t, "the new certificate is shown", func() bool { return serial() == "3" })
	// An expired one, and one whose key is another's, do not replace it.
	ca.write(cert, key, 4, time.Now().Add(-time.Minute))
	if _, err := s.gateway.cert.load(time.Now()); err == nil {
		t.Error("an expired certificate was taken")
	}
	_, other := ca.issue(5, hour, "127.0.0.1")
	if err := os.WriteFile(key, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != "3" {
		t.Error(got)
	}
	ca.write(cert, key, 6, hour)
	await(t, "the next good one is shown", func() bool { return serial() == "6" })
}

func TestNodeWithABadCertificateIsNotUsed(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	hour := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		pair tls.Certificate
		max  uint16
		good bool
	}{
		"good":       {ca.pair(hour, "127.0.0.1"), 0, true},
		"expired":    {ca.pair(time.Now().Add(-time.Minute), "127.0.0.1"), 0, false},
		"wrong name": {ca.pair(hour, "node.example"), 0, false},
		"foreign CA": {newAuthority(t).pair(hour, "127.0.0.1"), 0, false},
		"TLS 1.1":    {ca.pair(hour, "127.0.0.1"), tls.VersionTLS11, false},
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
			s.gateway.transport.TLSClientConfig.RootCAs = ca.pool()
			_, result, _ := s.ask("eth_chainId", "[]")
			if good := result == `"0x1"`; good != test.good || (pool.failures("n0") == 0) != test.good {
				t.Errorf("answered %q, %d failures", result, pool.failures("n0"))
			}
		})
	}
}

func tlsFor(ca *authority) *tls.Config { return &tls.Config{RootCAs: ca.pool()} }
