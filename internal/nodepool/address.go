package nodepool

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/firstseen/firstseen/schema"
)

// address is where a node is and what it is called. The URL may hold credentials anywhere (user, path, query), so it is
// for dialing only: logs, errors and metrics say the name.
type address struct {
	name    string
	url     string   // of calls
	ws      string   // of newHeads; empty: there are none
	secrets []string // parts of the URLs that must not come back in an error's text
}

// parseNodes reads node addresses: "url" or "name=url", each optionally with "|url" behind it, the WebSocket URL of a
// node that is called over HTTP. Nodes without a name are called by host and port.
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

// CheckAddress says what is wrong with a node's address, in words that do not repeat it.
func CheckAddress(item string) error {
	_, err := parseNode(item)
	return err
}

func parseNode(item string) (address, error) {
	a := address{url: item}
	if name, rest, ok := strings.Cut(item, "="); ok && schema.ValidName(name) {
		a.name, a.url = name, rest
	}
	var second bool
	a.url, a.ws, second = strings.Cut(a.url, "|")
	u, err := parseURL(a.url, "http", "https", "ws", "wss")
	if err != nil {
		return a, err
	}
	a.secrets = secretsOf(u)
	switch ws := u.Scheme == "ws" || u.Scheme == "wss"; {
	case ws && second:
		return a, errors.New("two WebSocket URLs: the one before | is for HTTP")
	case ws:
		a.ws = a.url
	case second:
		w, err := parseURL(a.ws, "ws", "wss")
		if err != nil {
			return a, fmt.Errorf("behind |: %w", err)
		}
		a.secrets = append(a.secrets, secretsOf(w)...)
	}
	if a.name == "" {
		a.name = hostName(u)
	}
	return a, nil
}

func parseURL(text string, schemes ...string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil { // its text would repeat the URL
		return nil, errors.New("not a URL")
	}
	if !slices.Contains(schemes, u.Scheme) {
		return nil, fmt.Errorf("scheme %q: want %s", u.Scheme, orList(schemes))
	}
	if u.Host == "" {
		return nil, errors.New("URL without a host")
	}
	return u, nil
}

func orList(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
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
