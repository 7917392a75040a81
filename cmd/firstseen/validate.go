package main

import (
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/firstseen/firstseen/client"
	"github.com/firstseen/firstseen/internal/nodepool"
	"github.com/firstseen/firstseen/internal/presence"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/statsapi"
)

// Validate checks what can be checked without starting anything, and names the first key to change.
func (c Config) Validate() error {
	if all := c.problems(); len(all) > 0 {
		return all[0]
	}
	return nil
}

// problems lists what Validate would find, one for each group of settings.
func (c Config) problems() []error {
	var all []error
	for _, check := range []func() error{
		c.validateLog, c.validateServices, c.validateNames, c.validateAddresses, c.validateNodes, c.validatePool, c.validateNumbers,
		c.validateAdmin, c.validateSecurity, c.validateStats, c.validateObjects, c.validateKafka, c.validateFollow, c.validateShip,
	} {
		if err := check(); err != nil {
			all = append(all, err)
		}
	}
	return all
}

func (c Config) validateLog() error {
	_, err := newLog(c.Log, io.Discard)
	return err
}

// validateServices looks at the form of addresses, and at the template, which is a file.
func (c Config) validateServices() error {
	if err := store.CheckDSN(c.DB); err != nil {
		return usagef("db: %v", err)
	}
	if c.Redis != "" {
		client, err := presence.Dial(c.Redis)
		if err != nil {
			return usagef("redis (--redis): %v", err)
		}
		_ = client.Close() // it was not connected
	}
	_, err := loadTemplate(c.Client.Template)
	return err
}

func (c Config) validateNames() error {
	for _, n := range []struct{ key, name string }{{"client.name", c.Client.Name}, {"server.name", c.Server.Name}} {
		if n.name != "" && !schema.ValidName(n.name) {
			return usagef("%s %q: use 1 to 64 of the characters A-Z a-z 0-9 . _ -", n.key, n.name)
		}
	}
	return nil
}

func (c Config) validateAddresses() error {
	type address struct{ key, addr string }
	all := []address{{"server.listen", c.Server.Listen}, {"stats.listen", c.Stats.Listen}}
	if c.Server.PlainListen != "" {
		all = append(all, address{"server.plain_listen", c.Server.PlainListen})
	}
	if c.Admin != "" {
		all = append(all, address{"admin", c.Admin})
	}
	for _, server := range c.Client.Server {
		all = append(all, address{"client.server", server})
	}
	for _, a := range all {
		_, port, err := net.SplitHostPort(a.addr)
		if err == nil && a.key == "client.server" && port == "0" {
			err = strconv.ErrRange
		}
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			return usagef("%s %q: use host:port, as in 127.0.0.1:9999", a.key, a.addr)
		}
	}
	if len(c.Client.Server) == 0 {
		return usagef("client.server is empty: name at least one server (--server host:port)")
	}
	return nil
}

func (c Config) validateNodes() error {
	if len(c.Client.Node) == 0 {
		return usagef("client.node is empty: name at least one node (--node http://host:8545)")
	}
	for _, node := range c.Client.Node {
		if err := nodepool.CheckAddress(node); err != nil {
			return usagef("client.node %q: %v; use a URL such as http://127.0.0.1:8545, or name=URL", redactNode(node), err)
		}
	}
	return nil
}

// mostConnections is beyond what one machine holds, and well within what the server can count.
const mostConnections = 1 << 20

func (c Config) validateNumbers() error {
	switch {
	case c.Server.Connections < 1 || c.Server.Connections > mostConnections:
		return usagef("server.connections %d: use 1 to %d", c.Server.Connections, mostConnections)
	case c.Server.Drain < 0:
		return usagef("server.drain %s: use 0s or more", c.Server.Drain)
	case c.Client.Drain < 0:
		return usagef("client.drain %s: use 0s or more", c.Client.Drain)
	case c.Server.Beat < 100*time.Millisecond:
		return usagef("server.beat %s: use at least 100ms", c.Server.Beat)
	case c.Client.Poll <= 0:
		return usagef("client.poll %s: use a duration above 0, as in 1s", c.Client.Poll)
	case c.Client.Receipts != "auto" && c.Client.Receipts != "off":
		return usagef("client.receipts %q: use auto or off", c.Client.Receipts)
	case !client.ValidStart(c.Client.Start):
		return usagef("client.start %q: use tip, earliest, or a height", c.Client.Start)
	case c.Client.SpoolBytes < 1<<20:
		return usagef("client.spool_bytes %d: use at least 1048576", c.Client.SpoolBytes)
	}
	return nil
}

func (c Config) validateStats() error {
	switch mode := statsapi.AccessMode(c.Stats.Access); {
	case mode != statsapi.AccessAuto && mode != statsapi.AccessOpen && mode != statsapi.AccessKeys:
		return usagef("stats.access %q: use auto, open or keys", c.Stats.Access)
	case !(c.Stats.Rate >= 0 && c.Stats.Rate <= 1e6):
		return usagef("stats.rate %v: use 0 to 1000000 requests a second", c.Stats.Rate)
	case c.Stats.Burst < 0:
		return usagef("stats.burst %d: use 0 or more", c.Stats.Burst)
	}
	if text := c.Stats.RPCUpstream; text != "" {
		if u, err := url.Parse(text); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return usagef("stats.rpc_upstream: use a URL of http or https") // without it: it may hold a key
		}
	}
	_, err := parseNetworks("stats.trusted", c.Stats.Trusted)
	return err
}

// minToken keeps a token from being guessed, with nothing between it and the network that counts attempts.
const minToken = 16

func (c Config) validateAdmin() error {
	invisible := func(r rune) bool { return r < '!' || r > '~' }
	if c.AdminToken == "" || len(c.AdminToken) >= minToken && !strings.ContainsFunc(c.AdminToken, invisible) {
		return nil
	}
	return usagef("admin_token: use at least %d visible ASCII characters, such as `openssl rand -hex 16` prints", minToken)
}

var notInNames = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// hostName is what a process is called that was given no name: the machine's, cut to what names may hold.
func hostName() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "localhost"
	}
	host = notInNames.ReplaceAllString(host, "-")
	return host[:min(len(host), 48)]
}
