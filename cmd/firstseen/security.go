package main

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/file"
	"github.com/knadh/koanf/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/internal/certs"
	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/server"
)

// ChainConfig configures what is known of one chain beside its id, which is its key.
type ChainConfig struct {
	Verify string `koanf:"verify"` // header: hashes are recomputed; none: they are believed, of authenticated observers
}

// What ServerConfig.Bare may say beside networks.
const (
	bareAuto = "auto" // off with require_auth, else on
	bareOn   = "on"
	bareOff  = "off"
)

const verifyNone = "none"

func securityFlags(flags *pflag.FlagSet) {
	d := defaults().Server
	for _, f := range []struct{ name, key, value, usage string }{
		{"tls-cert", "server.tls_cert", "", "PEM file of the certificate chain; makes --listen a TLS port; read again when it changes"},
		{"tls-key", "server.tls_key", "", "PEM file of the certificate's key"},
		{"tls-client-ca", "server.tls_client_ca", "", "PEM file; clients must show a certificate of it, which proves an observer's name"},
		{"plain-listen", "server.plain_listen", "", "host:port of a further port without TLS, for original clients (default: none)"},
		{"bare", "server.bare", d.Bare, "who may speak bare mode: on, off, networks such as 10.0.0.0/8,127.0.0.1, or auto: off with --require-auth"},
	} {
		flags.String(f.name, f.value, f.usage)
		bind(flags, f.name, f.key)
	}
	flags.Bool("require-auth", false, "take blocks only from observers with an access key (firstseen keys) or a certificate of their name")
	bind(flags, "require-auth", "server.require_auth")
	flags.StringSlice("proxy-from", nil, "network of proxies that put a PROXY header, version 2, before every connection")
	bind(flags, "proxy-from", "server.proxy_from")
	flags.Float64("accept-rate", d.AcceptRate, "connections accepted a second, further ones wait in the kernel; 0: no limit")
	bind(flags, "accept-rate", "server.accept_rate")
}

func clientTLSFlags(flags *pflag.FlagSet) {
	flags.Bool("tls", false, "speak TLS to servers and verify their certificates")
	bind(flags, "tls", "client.tls")
	for _, f := range []struct{ name, key, usage string }{
		{"tls-ca", "client.tls_ca", "PEM file of the authorities that servers' certificates must come from (default: the system's)"},
		{"tls-cert", "client.tls_cert", "PEM file of this observer's own certificate, for servers that want one; read again when it changes"},
		{"tls-key", "client.tls_key", "PEM file of that certificate's key"},
		{"tls-name", "client.tls_name", "name that servers' certificates must be for (default: the one in --server)"},
	} {
		flags.String(f.name, "", f.usage)
		bind(flags, f.name, f.key)
	}
}

// secureServer fills in what protects the relay port.
func (p *parts) secureServer(o *server.Options, known server.Keys) error {
	c := p.config.Server
	var err error
	if o.NoBare, o.BareFrom, err = c.bare(); err != nil {
		return err
	}
	if o.ProxyFrom, err = parseNetworks("server.proxy_from", c.ProxyFrom); err != nil {
		return err
	}
	o.Keys, o.RequireAuth, o.PlainAddr, o.Unverified = known, c.RequireAuth, c.PlainListen, p.config.unverified()
	if o.AcceptRate = c.AcceptRate; o.AcceptRate == 0 {
		o.AcceptRate = -1
	}
	if c.TLSCert == "" {
		return nil
	}
	files, err := p.certificates("server", certs.Options{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSClientCA})
	if err != nil {
		return err
	}
	o.TLS = files.Server()
	return nil
}

// secureClient fills in how the observer reaches servers and what it shows them.
func (p *parts) secureClient(o *client.Options) error {
	c := p.config.Client
	o.Unverified = p.config.unverified()
	if !c.TLS {
		return nil
	}
	files, err := p.certificates("client", certs.Options{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSCA})
	if err != nil {
		return err
	}
	o.TLS = func(name string) *tls.Config {
		if c.TLSName != "" {
			name = c.TLSName
		}
		return files.Client(name)
	}
	if c.Token != "" {
		o.Token, err = keys.Parse(c.Token)
	}
	return err
}

// certificates reads files and keeps looking at them while the process runs.
func (p *parts) certificates(of string, o certs.Options) (*certs.Files, error) {
	o.Log = p.component(of)
	o.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"of": of}, p.registry)
	files, err := certs.New(o)
	if err != nil {
		return nil, usagef("%s.tls_*: %v", of, err)
	}
	p.group.Add("certificates of "+of, time.Second, files.Run)
	return files, nil
}

func (c ServerConfig) bare() (none bool, from []netip.Prefix, err error) {
	switch strings.TrimSpace(c.Bare) {
	case bareAuto, "":
		return c.RequireAuth, nil, nil
	case bareOn:
		return false, nil, nil
	case bareOff:
		return true, nil, nil
	}
	list := strings.Split(c.Bare, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	from, err = parseNetworks("server.bare", list)
	return false, from, err
}

// unverified lists the chains that are excepted from the check of hashes.
func (c Config) unverified() []uint64 {
	var out []uint64
	for id, chain := range c.Chains {
		if n, err := strconv.ParseUint(id, 10, 63); err == nil && chain.Verify == verifyNone {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out
}

func (c Config) validateSecurity() error {
	s, o := c.Server, c.Client
	switch {
	case (s.TLSCert == "") != (s.TLSKey == ""):
		return usagef("server.tls_cert and server.tls_key belong together: give both")
	case s.TLSCert == "" && (s.TLSClientCA != "" || s.PlainListen != "" || s.RequireAuth):
		return usagef("server.tls_client_ca, server.plain_listen and server.require_auth need TLS: give --tls-cert and --tls-key")
	case s.AcceptRate < 0:
		return usagef("server.accept_rate %v: use 0, for no limit, or more", s.AcceptRate)
	case !o.TLS && (o.TLSCA != "" || o.TLSCert != "" || o.TLSKey != "" || o.TLSName != ""):
		return usagef("client.tls_* is given, but client.tls is off: add --tls")
	case (o.TLSCert == "") != (o.TLSKey == ""):
		return usagef("client.tls_cert and client.tls_key belong together: give both")
	}
	if _, _, err := s.bare(); err != nil {
		return err
	}
	if _, err := parseNetworks("server.proxy_from", s.ProxyFrom); err != nil {
		return err
	}
	return errors.Join(c.validateToken(), c.validateChains())
}

func (c Config) validateToken() error {
	o := c.Client
	if o.Token == "" {
		return nil
	}
	if _, err := keys.Parse(o.Token); err != nil {
		return usagef("client.token: %v", err)
	}
	if !o.TLS || o.Bare {
		return usagef("client.token travels in relay mode and over TLS only: add --tls")
	}
	return nil
}

func (c Config) validateChains() error {
	for id, chain := range c.Chains {
		if n, err := strconv.ParseUint(id, 10, 63); err != nil || n == 0 || strconv.FormatUint(n, 10) != id {
			return usagef("chains.%s: use a chain id, as in chains.8217.verify", id)
		}
		if chain.Verify != verifyNone && chain.Verify != "header" {
			return usagef("chains.%s.verify %q: use header, or none for a chain whose headers cannot be hashed", id, chain.Verify)
		}
	}
	return nil
}

// warnings tells what works and yet should not stay so.
func (c Config) warnings(flags *pflag.FlagSet, environ []string) []string {
	var all []string
	if path := configFile(flags, environ); path != "" {
		all = append(all, plainSecrets(path)...)
	}
	for _, f := range []struct{ key, path string }{
		{"server.tls_key", c.Server.TLSKey}, {"client.tls_key", c.Client.TLSKey}, {"gateway.key", c.Gateway.Key},
	} {
		if f.path != "" && readableByAll(f.path) {
			all = append(all, f.key+" "+f.path+" can be read by every user of this machine: chmod 600")
		}
	}
	host, _, _ := net.SplitHostPort(c.Server.Listen)
	if addr, err := netip.ParseAddr(host); c.Server.TLSCert == "" && host != "localhost" && (err != nil || !addr.IsLoopback()) {
		all = append(all, "server.listen "+c.Server.Listen+" takes blocks from anybody who reaches it, in the clear: "+
			"see --tls-cert and --require-auth")
	}
	return all
}

// plainSecrets finds secrets that stand in the configuration file.
func plainSecrets(path string) []string {
	k := koanf.New(".")
	if k.Load(file.Provider(path), yaml.Parser()) != nil {
		return nil // told of already
	}
	var all []string
	fileOf := func(key string) string {
		return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "__")) + "_FILE"
	}
	for _, key := range []string{"client.token", "admin_token", "api_key"} {
		if k.String(key) != "" {
			all = append(all, key+" stands in "+path+" in the clear: name a file that holds it by "+fileOf(key)+" instead")
		}
	}
	for _, key := range []string{"db", "redis", "import.from", "import.from_redis"} {
		if value := k.String(key); redact(value) != value {
			all = append(all, key+" stands in "+path+" with its password in the clear: use "+fileOf(key)+" instead")
		}
	}
	return all
}

func readableByAll(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o004 != 0
}
