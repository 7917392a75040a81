package client

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/firstseen/firstseen/schema"
)

// address is where a node is and what it is called. The URL may hold credentials anywhere (user, path, query), so it is
// for dialing only: logs, errors and metrics say the name.
type address struct {
	name    string
	url     string
	secrets []string // parts of the URL that must not come back in an error's text
}

// parseNodes reads node addresses, "url" or "name=url". Nodes without a name are called by host and port.
func parseNodes(list []string) ([]address, error) {
	var (
		out  []address
		used = map[string]bool{}
	)
	for i, item := range list {
		a, err := parseNode(item)
		if err != nil {
			return nil, fmt.Errorf("node %d: %w", i+1, err)
		}
		for base, n := a.name, 2; used[a.name]; n++ {
			a.name = base[:min(len(base), 60)] + "-" + strconv.Itoa(n)
		}
		used[a.name] = true
		out = append(out, a)
	}
	return out, nil
}

func parseNode(item string) (address, error) {
	a := address{url: item}
	if name, rest, ok := strings.Cut(item, "="); ok && schema.ValidName(name) {
		a.name, a.url = name, rest
	}
	u, err := url.Parse(a.url)
	if err != nil { // its text would repeat the URL
		return a, errors.New("not a URL")
	}
	switch u.Scheme {
	case "http", "https", "ws", "wss":
	default:
		return a, fmt.Errorf("scheme %q: want http, https, ws or wss", u.Scheme)
	}
	if u.Host == "" {
		return a, errors.New("URL without a host")
	}
	if a.name == "" {
		a.name = hostName(u)
	}
	a.secrets = secretsOf(u)
	return a, nil
}

// hostName makes a valid name of the URL's host and port.
func hostName(u *url.URL) string {
	name := strings.Map(func(r rune) rune {
		if strings.ContainsRune("._-", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, u.Host)
	name = strings.TrimLeft(name, "-") // the bracket of an IPv6 address
	if name == "" {
		return "node"
	}
	return name[:min(len(name), 64)]
}

// secretsOf lists what of a URL may be a credential: everything but scheme and host. Short parts are left out: "v3" is
// no key, and blotting it out of every text would only garble it.
func secretsOf(u *url.URL) []string {
	var out []string
	keep := func(s string) {
		if len(s) >= 6 {
			out = append(out, s)
		}
	}
	keep(u.RawQuery)
	keep(strings.TrimPrefix(u.EscapedPath(), "/"))
	if u.User != nil {
		keep(u.User.String())
		keep(u.User.Username())
		if p, ok := u.User.Password(); ok && p != "" {
			out = append(out, p)
		}
	}
	for _, part := range strings.Split(u.Path, "/") {
		keep(part)
	}
	for _, values := range u.Query() {
		for _, v := range values {
			keep(v)
		}
	}
	return out
}

// clean makes a text that a node had a hand in fit for a log line: no credentials, no control characters, not long.
func (a address) clean(text string) string {
	for _, s := range a.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\u2028' || r == '\u202e' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	const most = 200
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}
