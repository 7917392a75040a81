package certs_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/certs"
	"github.com/firstseen/firstseen/internal/testenv"
)

func loaded(t *testing.T, o certs.Options) *certs.Files {
	t.Helper()
	f, err := certs.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// shake lets a client and a server of these configurations meet and returns what the client sees of the server and what
// either failed with. It reads a byte, because a TLS 1.3 client is told only then that its certificate will not do.
func shake(t *testing.T, server, client *tls.Config) (seen tls.ConnectionState, err error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		nc.SetDeadline(time.Now().Add(20 * time.Second))
		s := tls.Server(nc, server)
		if s.Handshake() == nil {
			s.Write([]byte("x"))
		}
	}()
	defer func() { ln.Close(); <-done }()
	ours, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	ours.SetDeadline(time.Now().Add(20 * time.Second))
	c := tls.Client(ours, client)
	if err := c.Handshake(); err != nil {
		return tls.ConnectionState{}, err
	}
	_, err = c.Read(make([]byte, 1))
	return c.ConnectionState(), err
}

func TestWhoIsTakenAndWhoIsNot(t *testing.T) {
	t.Parallel()
	ca, foreign := testenv.NewAuthority(t), testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"relay.example"}})
	open := loaded(t, certs.Options{Cert: cert, Key: key}).Server()
	mutual := loaded(t, certs.Options{Cert: cert, Key: key, CA: ca.File()}).Server()
	client := func(change func(*certs.Options, *tls.Config)) *tls.Config {
		o := certs.Options{CA: ca.File()}
		change(&o, new(tls.Config))
		c := loaded(t, o).Client("relay.example")
		change(new(certs.Options), c)
		return c
	}
	own := func(a *testenv.Authority) func(*certs.Options, *tls.Config) {
		c, k := a.Files(testenv.Leaf{Name: "paris-1"})
		return func(o *certs.Options, _ *tls.Config) { o.Cert, o.Key = c, k }
	}
	as := func(set func(*tls.Config)) func(*certs.Options, *tls.Config) {
		return func(_ *certs.Options, c *tls.Config) { set(c) }
	}
	late := ca.Pair(testenv.Leaf{Until: time.Now().Add(-time.Minute)})
	for name, c := range map[string]struct {
		server *tls.Config
		client *tls.Config
		fails  string // empty: it does not
	}{
		"good":              {open, client(as(func(*tls.Config) {})), ""},
		"TLS 1.2":           {open, client(as(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 })), ""},
		"TLS 1.1":           {open, client(as(func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })), "version"},
		"wrong name":        {open, client(as(func(c *tls.Config) { c.ServerName = "other.example" })), "not other.example"},
		"foreign server":    {open, client(func(o *certs.Options, _ *tls.Config) { o.CA = foreign.File() }), "unknown authority"},
		"system CAs":        {open, client(func(o *certs.Options, _ *tls.Config) { o.CA = "" }), "certificate"},
		"mutual":            {mutual, client(own(ca)), ""},
		"mutual, none":      {mutual, client(as(func(*tls.Config) {})), "certificate required"},
		"mutual, foreign":   {mutual, client(own(foreign)), "unknown certificate authority"},
		"mutual, expired":   {mutual, client(as(func(c *tls.Config) { c.Certificates = []tls.Certificate{late} })), "expired certificate"},
		"server expired":    {&tls.Config{Certificates: []tls.Certificate{late}}, client(as(func(*tls.Config) {})), "expired"},
		"server at TLS 1.1": {&tls.Config{GetCertificate: open.GetCertificate, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, client(as(func(*tls.Config) {})), "version"},
	} {
		_, err := shake(t, c.server, c.client)
		if (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %v, want %q", name, err, c.fails)
		}
	}
}

func TestFilesThatCannotBeUsedAreNamed(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{})
	_, other := ca.Files(testenv.Leaf{})
	lateCert, lateKey := ca.Files(testenv.Leaf{Until: time.Now().Add(-time.Minute)})
	for want, o := range map[string]certs.Options{
		"needs its key":       {Cert: cert},
		"key its certificate": {Key: key},
		"no such file":        {Cert: cert + ".gone", Key: key},
		"does not match":      {Cert: cert, Key: other},
		"it expired at":       {Cert: lateCert, Key: lateKey},
		"no certificate in":   {CA: key},
		"read CA: open":       {CA: key + ".gone"},
	} {
		_, err := certs.New(o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%+v: %v, want one line with %q", o, err, want)
		}
	}
}

func TestReplacedFilesAreTakenAndBadOnesAreNot(t *testing.T) {
	t.Parallel()
	ca, next := testenv.NewAuthority(t), testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Serial: 2, Hosts: []string{"relay.example"}})
	clients := ca.File()
	f := loaded(t, certs.Options{Cert: cert, Key: key, CA: clients})
	server := f.Server()
	serial := func(own *testenv.Authority) string {
		seen, err := shake(t, server, &tls.Config{RootCAs: ca.Pool(), ServerName: "relay.example",
			Certificates: []tls.Certificate{own.Pair(testenv.Leaf{})}})
		if err != nil {
			return "refused"
		}
		return seen.PeerCertificates[0].SerialNumber.String()
	}
	reload := func(changed, bad bool) {
		t.Helper()
		if got, err := f.Reload(); got != changed || (err != nil) != bad {
			t.Errorf("changed %v: %v", got, err)
		}
	}
	reload(false, false)
	if got := serial(ca) + serial(next); got != "2refused" {
		t.Error(got)
	}
	ca.Replace(cert, key, testenv.Leaf{Serial: 3, Hosts: []string{"relay.example"}})
	reload(true, false)
	if got := serial(ca); got != "3" {
		t.Error(got)
	}
	ca.Replace(cert, key, testenv.Leaf{Serial: 4, Until: time.Now().Add(-time.Minute), Hosts: []string{"relay.example"}})
	reload(false, true)
	if err := os.WriteFile(key, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload(false, true)
	if got := serial(ca); got != "3" {
		t.Error(got)
	}
	// Another authority for clients: those of the old one are strangers from now on.
	text, err := os.ReadFile(next.File())
	if err == nil {
		err = os.WriteFile(clients, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	ca.Replace(cert, key, testenv.Leaf{Serial: 5, Hosts: []string{"relay.example"}})
	reload(true, false)
	if got := serial(ca) + serial(next); got != "refused5" {
		t.Error(got)
	}
}

// lines counts what is logged.
type lines struct{ n atomic.Int64 }

func (l *lines) Write(p []byte) (int, error) {
	l.n.Add(int64(bytes.Count(p, []byte("\n"))))
	return len(p), nil
}

func TestRunTellsOfABrokenFileOnceAndHeals(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{})
	reg := prometheus.NewRegistry()
	log, said := logrus.New(), new(lines)
	log.SetOutput(said)
	f := loaded(t, certs.Options{Cert: cert, Key: key, Every: time.Millisecond, Log: log, Registerer: reg})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	eventually := func(what string, ok func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("still not so: %s", what)
			}
		}
	}
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	eventually("the missing file is told of", func() bool { return said.n.Load() == 2 })
	until := time.Now().Add(3 * time.Hour).Truncate(time.Second)
	ca.Replace(cert, key, testenv.Leaf{Until: until})
	eventually("the new certificate is in use", func() bool { return f.Expires().Equal(until) })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	families, err := reg.Gather()
	if err != nil || len(families) != 1 || families[0].GetMetric()[0].GetGauge().GetValue() != float64(until.Unix()) {
		t.Errorf("%v: %v", families, err)
	}
}
