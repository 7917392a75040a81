package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/firstseen/firstseen/internal/certs"
)

// openCertificate reads certificate, key and the CA of clients for the first time.
func (g *Gateway) openCertificate() error {
	var err error
	g.cert, err = certs.New(certs.Options{Cert: g.opts.Cert, Key: g.opts.Key, CA: g.opts.ClientCA, Now: g.opts.Now, Log: g.log})
	if err == nil {
		g.metrics.certUntil.Set(float64(g.cert.Expires().Unix()))
	}
	return err
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
	changed, err := g.cert.Reload()
	if changed {
		g.metrics.certUntil.Set(float64(g.cert.Expires().Unix()))
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
