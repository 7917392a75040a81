package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
)

// certificate is a pair of PEM files and what was last read from them.
type certificate struct {
	cert, key string
	read      []byte // the content that current was made from
	current   atomic.Pointer[tls.Certificate]
}

// load reads the files; changed is false when they hold what they held. A pair that does not fit, as in the middle of a
// replacement, or that has expired leaves the one in use.
func (c *certificate) load(now time.Time) (changed bool, err error) {
	cert, err := os.ReadFile(c.cert)
	if err != nil {
		return false, fmt.Errorf("read certificate: %w", err)
	}
	key, err := os.ReadFile(c.key)
	if err != nil {
		return false, fmt.Errorf("read key of certificate: %w", err)
	}
	both := append(append(cert[:len(cert):len(cert)], 0), key...)
	if bytes.Equal(both, c.read) {
		return false, nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return false, fmt.Errorf("read certificate: %w", err)
	}
	if now.After(pair.Leaf.NotAfter) {
		return false, fmt.Errorf("read certificate: it expired at %s", pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	c.read = both
	c.current.Store(&pair)
	return true, nil
}

// tlsConfig presents the certificate in use at each handshake, so that a new one needs no restart.
func (c *certificate) tlsConfig(clientCA string) (*tls.Config, error) {
	config := &tls.Config{
		MinVersion:     tls.VersionTLS12,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current.Load(), nil },
	}
	if clientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(clientCA)
	if err != nil {
		return nil, fmt.Errorf("read CA of clients: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("read CA of clients: no certificate in the file")
	}
	config.ClientAuth = tls.RequireAndVerifyClientCert
	return config, nil
}

// reload looks at the files of certificate and keys until ctx ends. What cannot be read leaves what is in use, and is
// logged once.
func (g *Gateway) reload(ctx context.Context) {
	if g.cert == nil && g.opts.Keys == "" {
		return
	}
	ticker := time.NewTicker(g.opts.Reload)
	defer ticker.Stop()
	var said string
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := errors.Join(g.loadCertificate(), g.loadKeys())
		if err == nil {
			said = ""
		} else if text := err.Error(); text != said {
			said = text
			g.log.WithError(err).Error("files not read again; what was read before stays in use")
		}
	}
}

func (g *Gateway) loadCertificate() error {
	if g.cert == nil {
		return nil
	}
	changed, err := g.cert.load(g.opts.Now())
	if changed {
		leaf := g.cert.current.Load().Leaf
		g.metrics.certUntil.Set(float64(leaf.NotAfter.Unix()))
		g.log.WithField("expires", leaf.NotAfter.UTC().Format(time.RFC3339)).Info("certificate in use")
	}
	return err
}

func (g *Gateway) loadKeys() error {
	if g.opts.Keys == "" {
		return nil
	}
	ring, err := readKeys(g.opts.Keys)
	if err == nil {
		g.keys.Store(&ring)
	}
	return err
}
