package client

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/schema"
)

// front takes TLS off in front of an address until the test ends.
type front struct {
	ln   net.Listener
	to   string
	mu   sync.Mutex // guards open
	open []net.Conn
	all  sync.WaitGroup
}

func serveTLS(t *testing.T, config *tls.Config, to string) *front {
	t.Helper()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{ln: ln, to: to}
	f.all.Go(f.accept)
	t.Cleanup(func() {
		ln.Close()
		f.mu.Lock()
		for _, c := range f.open {
			c.Close()
		}
		f.mu.Unlock()
		f.all.Wait()
	})
	return f
}

func (f *front) addr() string { return f.ln.Addr().String() }

func (f *front) accept() {
	for {
		outer, err := f.ln.Accept()
		if err != nil {
			return
		}
		if outer.(*tls.Conn).Handshake() != nil {
			outer.Close()
			continue
		}
		inner, err := net.Dial("tcp", f.to)
		if err != nil {
			outer.Close()
			continue
		}
		f.mu.Lock()
		f.open = append(f.open, outer, inner)
		f.mu.Unlock()
		f.all.Go(func() { io.Copy(inner, outer); inner.(*net.TCPConn).CloseWrite() })
		f.all.Go(func() { io.Copy(outer, inner); outer.Close() })
	}
}

func tlsServer(ca *testenv.Authority, l testenv.Leaf) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS10, Certificates: []tls.Certificate{ca.Pair(l)}}
}

// trusting is what Options.TLS is for a client of that authority.
func trusting(ca *testenv.Authority) func(string) *tls.Config {
	return func(name string) *tls.Config {
		return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), ServerName: name}
	}
}

func token(t *testing.T) keys.Token {
	t.Helper()
	_, token, err := keys.Mint(schema.ScopeObserve, "watcher", "")
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRelayOverTLSWithAnAccessKey(t *testing.T) {
	t.Parallel()
	ca, key := testenv.NewAuthority(t), token(t)
	d := draw(t).line("a", 0, 10, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	f := serveTLS(t, tlsServer(ca, testenv.Leaf{Hosts: []string{"127.0.0.1"}}), s.addr())
	c := start(t, []string{serveDrawing(t, d).URL}, []string{f.addr()}, func(o *Options) { o.TLS, o.Token = trusting(ca), key })
	c.at(d, "a10")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hellos[0].Token != key.Reveal() {
		t.Errorf("the server is shown %q", s.hellos[0].Token)
	}
	if secret := key.Reveal()[30:]; c.log.has(secret) {
		t.Error("the secret is in the log")
	}
}

func TestAServerThatRefusesTheKeyEndsTheClientWithOneLine(t *testing.T) {
	t.Parallel()
	ca, key := testenv.NewAuthority(t), token(t)
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	s.scripted(func(p *peer, _ []byte) bool {
		return p.drop(wire.AppendFatal(nil, wire.Fatal{Code: wire.CodeAuth, Text: "the access key was revoked"}))
	})
	f := serveTLS(t, tlsServer(ca, testenv.Leaf{Hosts: []string{"127.0.0.1"}}), s.addr())
	c := start(t, []string{serveDrawing(t, d).URL}, []string{f.addr()}, func(o *Options) { o.TLS, o.Token = trusting(ca), key })
	select {
	case <-c.done:
	case <-time.After(testPatience):
		t.Fatal("the client goes on")
	}
	if c.err == nil || !strings.HasSuffix(c.err.Error(), "the access key was revoked") || strings.Contains(c.err.Error(), "\n") ||
		strings.Contains(c.err.Error(), key.Reveal()[30:]) {
		t.Error(c.err)
	}
}

// testPatience bounds every wait; nothing takes nearly so long unless it is broken.
const testPatience = 20 * time.Second

func TestServersWithoutAGoodCertificateAreToldNothing(t *testing.T) {
	t.Parallel()
	ca, foreign, key := testenv.NewAuthority(t), testenv.NewAuthority(t), token(t)
	d := draw(t).line("a", 0, 3, "")
	local := testenv.Leaf{Hosts: []string{"127.0.0.1"}}
	late := testenv.Leaf{Hosts: local.Hosts, Until: time.Now().Add(-time.Minute)}
	old := tlsServer(ca, local)
	old.MaxVersion = tls.VersionTLS11
	mutual := tlsServer(ca, local)
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ca.Pool()
	for name, c := range map[string]struct {
		config *tls.Config // nil: no TLS
		says   string
	}{
		"expired":            {tlsServer(ca, late), "expired"},
		"another's name":     {tlsServer(ca, testenv.Leaf{Hosts: []string{"relay.example", "10.0.0.1"}}), "not 127.0.0.1 (--tls-name"},
		"no name":            {tlsServer(ca, testenv.Leaf{Name: "127.0.0.1"}), "127.0.0.1"},
		"foreign":            {tlsServer(foreign, local), "(--tls-ca names"},
		"TLS 1.1":            {old, "protocol version"},
		"no TLS":             {nil, "does not look like a TLS handshake"},
		"wants a client's":   {mutual, "certificate required"},
		"TLS 1.2, a clients": {func() *tls.Config { c := mutual.Clone(); c.MaxVersion = tls.VersionTLS12; return c }(), "TLS with 127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveRelay(t, d)
			var addr string
			if c.config != nil {
				addr = serveTLS(t, c.config, s.addr()).addr()
			} else {
				addr = chatter(t)
			}
			client := start(t, []string{serveDrawing(t, d).URL}, []string{addr}, func(o *Options) { o.TLS, o.Token = trusting(ca), key })
			wait(t, "the log says "+c.says, func() bool { return client.log.has(c.says) })
			client.end()
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.hellos) != 0 || client.log.has(key.Reveal()[30:]) {
				t.Error("the server, or the log, was told the key")
			}
		})
	}
}

// chatter answers whatever it hears with a line, without TLS.
func chatter(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(testPatience))
			c.Read(make([]byte, 1))
			io.WriteString(c, "220 mail.example\r\n")
			c.Close()
		}
	})
	t.Cleanup(func() { ln.Close(); all.Wait() })
	return ln.Addr().String()
}

func TestTheKeyIsNotSaidWhereNobodyVerifiedTheServer(t *testing.T) {
	t.Parallel()
	ca, key := testenv.NewAuthority(t), token(t)
	heard := make(chan []byte, 2)
	listen := func(config *tls.Config) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if config != nil {
				c = tls.Server(c, config)
			}
			all, _ := io.ReadAll(c)
			heard <- all
		}()
		return ln.Addr().String()
	}
	open, err := net.Dial("tcp", listen(nil))
	if err != nil {
		t.Fatal(err)
	}
	blind, err := tls.Dial("tcp", listen(tlsServer(ca, testenv.Leaf{})), &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{open, blind} {
		_, err := openRelay(t.Context(), conn, wire.Hello{Observer: "watcher", Token: key.Reveal()})
		if err == nil || !strings.Contains(err.Error(), "whose certificate was verified") {
			t.Error(err)
		}
		if got := <-heard; len(got) != 0 {
			t.Errorf("the server hears %q", got)
		}
	}
	o := Options{Name: "watcher", Nodes: []string{"http://127.0.0.1:1"}, Servers: []string{"127.0.0.1:1"}, Template: plain{}, Token: key}
	if err := o.Validate(); err == nil || !strings.Contains(err.Error(), "over TLS only") || strings.Contains(err.Error(), key.Reveal()) {
		t.Error(err)
	}
}

func TestOfServersTheOneWithAGoodCertificateIsUsed(t *testing.T) {
	t.Parallel()
	ca, foreign := testenv.NewAuthority(t), testenv.NewAuthority(t)
	d := draw(t).line("a", 0, 3, "")
	s := serveRelay(t, d)
	s.has(0, "a0")
	local := testenv.Leaf{Hosts: []string{"127.0.0.1"}}
	good, bad := serveTLS(t, tlsServer(ca, local), s.addr()), serveTLS(t, tlsServer(foreign, local), s.addr())
	for _, order := range [][]string{{good.addr(), bad.addr()}, {bad.addr(), good.addr()}} {
		o := dialer{servers: order, rand: func() float64 { return 0.999 }, lookup: net.DefaultResolver.LookupHost,
			connect: tcpDialer.DialContext, tls: trusting(ca)}
		conn, err := o.dial(t.Context(), "")
		if err != nil || conn.RemoteAddr().String() != good.addr() {
			t.Errorf("%v: %v", order, err)
		}
		if conn != nil {
			conn.Close()
		}
	}
	var unknown *tls.CertificateVerificationError
	o := dialer{servers: []string{bad.addr()}, rand: func() float64 { return 0 }, lookup: net.DefaultResolver.LookupHost,
		connect: tcpDialer.DialContext, tls: trusting(ca)}
	if _, err := o.dial(t.Context(), ""); !errors.As(err, &unknown) {
		t.Error(err)
	}
}
