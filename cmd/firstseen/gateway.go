package main

import (
	"context"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/internal/gateway"
	"github.com/firstseen/firstseen/internal/health"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/schema"
)

// GatewayConfig configures the JSON-RPC gateway. Its nodes are the client's.
type GatewayConfig struct {
	Listen     string   `koanf:"listen"`
	TLSListen  string   `koanf:"tls_listen"`
	WSListen   string   `koanf:"ws_listen"`
	Cert       string   `koanf:"cert"` // paths of PEM files
	Key        string   `koanf:"key"`
	ClientCA   string   `koanf:"client_ca"`
	Allow      []string `koanf:"allow"` // methods beside the usual ones
	Keys       string   `koanf:"keys"`  // path of a file of API keys' hashes
	RequireKey bool     `koanf:"require_key"`
	Rate       float64  `koanf:"rate"`    // calls a second for one caller; 0: no limit
	Trusted    []string `koanf:"trusted"` // addresses or networks of proxies
	Origins    []string `koanf:"origins"` // hosts whose pages may open WebSockets
}

func gatewayCommand(environ []string) *cobra.Command {
	cmd := command("gateway", "Serve JSON-RPC to anyone, from the nodes that are ready",
		`Answers Ethereum JSON-RPC over HTTP, HTTPS and WebSocket from a pool of nodes: reads are asked of another node when one
fails or is slow, transactions are sent once, only reading methods and eth_sendRawTransaction are let through, and the
head never goes back for one caller. docs/GATEWAY.md has the headers, limits and metrics.`, environ,
		func(ctx context.Context, _ *cobra.Command, p *parts) error {
			if err := p.addGateway(ctx); err != nil {
				return err
			}
			return p.addAdmin(ctx)
		})
	cmd.Example = `  firstseen gateway --node http://10.0.0.1:8545 --node http://10.0.0.2:8545 --listen 127.0.0.1:8545
  firstseen gateway --node 'a=http://10.0.0.1:8545|ws://10.0.0.1:8546' --listen :8545 --ws-listen :8546
  firstseen gateway --node http://10.0.0.1:8545 --tls-listen :443 --cert cert.pem --key key.pem --rate 50`
	flags := cmd.Flags()
	d := defaults()
	flags.StringSlice("node", d.Client.Node, "URL, or name=URL, of a node; |URL behind it is its WebSocket; give it again for more")
	bind(flags, "node", "client.node")
	flags.Duration("poll", d.Client.Poll, "time between looks at each node's latest block")
	bind(flags, "poll", "client.poll")
	referenceFlag(flags)
	flags.String("listen", d.Gateway.Listen, "host:port for HTTP; empty: none")
	bind(flags, "listen", "gateway.listen")
	gatewayFlags(flags)
	adminFlag(flags)
	return cmd
}

func gatewayFlags(flags *pflag.FlagSet) {
	for _, f := range []struct{ name, key, usage string }{
		{"tls-listen", "gateway.tls_listen", "host:port for HTTPS and WebSocket over TLS (default: none)"},
		{"ws-listen", "gateway.ws_listen", "host:port for WebSocket (default: none)"},
		{"cert", "gateway.cert", "PEM file of the certificate chain; read again when it changes"},
		{"key", "gateway.key", "PEM file of the certificate's key"},
		{"client-ca", "gateway.client_ca", "PEM file; callers over TLS must show a certificate of it"},
		{"keys", "gateway.keys", "file of API keys, a line each: name, SHA-256 in hex, calls a second"},
	} {
		flags.String(f.name, "", f.usage)
		bind(flags, f.name, f.key)
	}
	flags.Bool("require-key", false, "refuse callers without an API key")
	bind(flags, "require-key", "gateway.require_key")
	flags.Float64("rate", 0, "calls a second for one caller: an API key, else an address; 0: no limit")
	bind(flags, "rate", "gateway.rate")
	flags.StringSlice("allow", nil, "further method to let through; give it again for more")
	bind(flags, "allow", "gateway.allow")
	flags.StringSlice("trusted", nil, "address or network of a proxy whose X-Forwarded-For is believed")
	bind(flags, "trusted", "gateway.trusted")
	flags.StringSlice("origin", nil, "host whose pages may open WebSockets, as *.example.org (default: its own)")
	bind(flags, "origin", "gateway.origins")
}

// addGateway adds a pool of nodes and the gateway that serves from it.
func (p *parts) addGateway(ctx context.Context) error {
	c := p.config.Gateway
	if err := p.config.validateGateway(); err != nil {
		return err
	}
	trusted, err := parseNetworks("gateway.trusted", c.Trusted)
	if err != nil {
		return err
	}
	o, err := p.config.Client.pool()
	if err != nil {
		return err
	}
	o.Unverified, o.Log, o.Registerer = p.config.unverified(), p.component("nodes"), p.registry
	pool, err := nodepool.New(o)
	if err != nil {
		return usageError{err.Error()}
	}
	g, err := gateway.New(ctx, gateway.Options{
		Listen: c.Listen, TLSListen: c.TLSListen, WSListen: c.WSListen, Pool: &servedNodes{pool: pool}, Allow: c.Allow,
		Cert: c.Cert, Key: c.Key, ClientCA: c.ClientCA, Keys: c.Keys, RequireKey: c.RequireKey, Rate: c.Rate,
		Trusted: trusted, Origins: c.Origins, Log: p.component("gateway"), Registerer: p.registry,
	})
	if err != nil {
		return err
	}
	p.nodes = pool
	p.group.Add("nodes", 5*time.Second, pool.Run)
	p.group.Add("gateway", 10*time.Second, g.Run)
	p.checks = append(p.checks, health.Check{Name: "nodes", Ready: pool.Ready},
		health.Check{Name: "gateway", Ready: g.Ready})
	for _, name := range []string{"http", "https", "websocket"} {
		if addr := g.AddrOf(name); addr != nil {
			p.listening("gateway "+name, addr)
		}
	}
	return nil
}

// validateGateway checks what only a gateway needs.
func (c Config) validateGateway() error {
	for _, a := range []struct{ key, addr string }{{"gateway.listen", c.Gateway.Listen},
		{"gateway.tls_listen", c.Gateway.TLSListen}, {"gateway.ws_listen", c.Gateway.WSListen}} {
		if _, port, err := net.SplitHostPort(a.addr); a.addr != "" && (err != nil || port == "") {
			return usagef("%s %q: use host:port, as in 127.0.0.1:8545", a.key, a.addr)
		}
	}
	for _, node := range c.Client.Node {
		if name, rest, ok := strings.Cut(node, "="); ok && schema.ValidName(name) {
			node = rest
		}
		address, _, _ := strings.Cut(node, "|")
		u, err := url.Parse(address)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" {
			return usagef("client.node %q: a gateway needs a node's HTTP URL; its WebSocket URL may follow, behind a |",
				redactNode(node))
		}
		if u.Host == c.Gateway.Listen {
			return usagef("gateway.listen %q is the address of a node: choose another (--listen)", c.Gateway.Listen)
		}
	}
	return nil
}

// parseNetworks reads the networks of a key, and addresses as networks of one.
func parseNetworks(key string, list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, text := range list {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			addr, err := netip.ParseAddr(text)
			if err != nil {
				return nil, usagef("%s %q: use an address or a network, as in 10.0.0.0/8", key, text)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		out = append(out, prefix)
	}
	return out, nil
}

// servedNodes is a pool in the gateway's words.
type servedNodes struct {
	pool *nodepool.Pool

	mu   sync.Mutex // guards what follows
	at   time.Time
	last []gateway.Upstream
}

// servedFor is for how long a list of nodes is good: the pool sorts them anew each time, and requests come by the
// thousand.
const servedFor = 20 * time.Millisecond

// Upstreams implements gateway.Pool.
func (s *servedNodes) Upstreams() []gateway.Upstream {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := time.Now(); now.Sub(s.at) > servedFor {
		serving := s.pool.Serving()
		s.at, s.last = now, make([]gateway.Upstream, len(serving))
		for i, u := range serving {
			s.last[i] = gateway.Upstream{Name: u.Name, URL: u.URL, WebSocket: u.WS, Header: u.Header, Height: u.Height,
				Latency: u.Latency}
		}
	}
	return s.last
}

// Tip implements gateway.Pool.
func (s *servedNodes) Tip() (uint64, bool) {
	tip, _, ok := s.pool.Tip()
	return tip.Number, ok
}

// Report implements gateway.Pool.
func (s *servedNodes) Report(node string, err error) { s.pool.Report(node, err) }
