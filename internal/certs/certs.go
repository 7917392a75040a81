// Package certs keeps TLS configurations whose certificates come from files that may be replaced at any time, so that
// renewing one needs no restart.
package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/quiet"
)

// Options say which files, and how often to look at them. The zero value of the last four means the default.
type Options struct {
	Cert, Key string // PEM files of our certificate chain and its key; both or neither
	CA        string // PEM file of the authorities that the peers' certificates must come from; empty: see Server, Client

	Every      time.Duration         // between looks, 10 s
	Now        func() time.Time      // time.Now
	Log        logrus.FieldLogger    // nil: silence
	Registerer prometheus.Registerer // nil: no metrics
}

// Files is what was last read from the files. All methods are safe for concurrent use.
type Files struct {
	o       Options
	current atomic.Pointer[content]
	until   prometheus.Gauge

	mu   sync.Mutex // guards read, and lets one Reload run at a time
	read []byte     // the content that current was made from
}

// content is never changed, only replaced.
type content struct {
	pair *tls.Certificate // nil: none
	ca   *x509.CertPool   // nil: none
}

// New reads the files. What cannot be read, does not fit or has expired is an error.
func New(o Options) (*Files, error) {
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("a certificate needs its key, and the key its certificate")
	}
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = quiet.Log(o.Log)
	f := &Files{o: o, until: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "firstseen_certificate_expires_timestamp_seconds",
		Help: "When the certificate in use expires, in Unix time; 0 without one.",
	})}
	if o.Registerer != nil {
		if err := o.Registerer.Register(f.until); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	if _, err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Run looks at the files until ctx ends. What cannot be read leaves what is in use, and is logged once. It returns nil.
func (f *Files) Run(ctx context.Context) error {
	ticker := time.NewTicker(f.o.Every)
	defer ticker.Stop()
	var said string
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		_, err := f.Reload()
		if err == nil {
			said = ""
		} else if text := err.Error(); text != said {
			said = text
			f.o.Log.WithError(err).Error("certificates not read again; what was read before stays in use")
		}
	}
}

// Reload reads the files; changed is false when they hold what they held. A pair that does not fit, as in the middle of a
// replacement, or that has expired leaves all that is in use.
func (f *Files) Reload() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all, texts, err := f.readAll()
	if err != nil || f.read != nil && bytes.Equal(all, f.read) {
		return false, err
	}
	c, err := parse(texts, f.o.Now())
	if err != nil {
		return false, err
	}
	f.read = all
	f.current.Store(c)
	log := f.o.Log
	if until := f.Expires(); !until.IsZero() {
		f.until.Set(float64(until.Unix()))
		log = log.WithField("expires", until.UTC().Format(time.RFC3339))
	}
	log.Info("certificates in use")
	return true, nil
}

// pems are the contents of the files; nil where none is named.
type pems struct{ cert, key, ca []byte }

func (f *Files) readAll() (all []byte, texts pems, err error) {
	for _, file := range []struct {
		what, path string
		text       *[]byte
	}{
		{"certificate", f.o.Cert, &texts.cert}, {"key of certificate", f.o.Key, &texts.key}, {"CA", f.o.CA, &texts.ca},
	} {
		if file.path == "" {
			continue
		}
		if *file.text, err = os.ReadFile(file.path); err != nil {
			return nil, pems{}, fmt.Errorf("read %s: %w", file.what, err)
		}
		all = append(append(all, *file.text...), 0)
	}
	return all, texts, nil
}

func parse(texts pems, now time.Time) (*content, error) {
	c := new(content)
	if texts.cert != nil {
		pair, err := tls.X509KeyPair(texts.cert, texts.key)
		if err != nil {
			return nil, fmt.Errorf("read certificate: %w", err)
		}
		if now.After(pair.Leaf.NotAfter) {
			return nil, fmt.Errorf("read certificate: it expired at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
		}
		c.pair = &pair
	}
	if texts.ca != nil {
		c.ca = x509.NewCertPool()
		if !c.ca.AppendCertsFromPEM(texts.ca) {
			return nil, errors.New("read CA: no certificate in the file")
		}
	}
	return c, nil
}

// Expires returns when the certificate in use expires, zero without one.
func (f *Files) Expires() time.Time {
	if pair := f.current.Load().pair; pair != nil {
		return pair.Leaf.NotAfter
	}
	return time.Time{}
}

// Server returns a configuration for a listener: TLS 1.2 or later, the certificate as it is at each handshake, and, with a
// CA, nobody without a certificate of it. Clients of a CA resume no sessions, so that each handshake is held against the
// CA as it is.
func (f *Files) Server(protos ...string) *tls.Config {
	base := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: protos, SessionTicketsDisabled: f.o.CA != "",
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.current.Load().pair, nil }}
	if f.o.CA == "" {
		return base
	}
	base.ClientAuth = tls.RequireAndVerifyClientCert
	out := base.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = f.current.Load().ca
		return now, nil
	}
	return out
}

// Client returns a configuration for one connection to a server of that name: TLS 1.2 or later, the server's certificate
// verified for the name against the CA as it is now, or against the system's authorities without one, and our
// certificate, if there is one, shown to a server that asks.
func (f *Files) Client(name string) *tls.Config {
	c := f.current.Load()
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: name, RootCAs: c.ca}
	if c.pair != nil {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.pair, nil }
	}
	return config
}
