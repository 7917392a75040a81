package callers

import (
	"fmt"
	"net/http"
	"net/netip"
	"testing"
	"time"
)

func TestClientAddress(t *testing.T) {
	t.Parallel()
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for name, test := range map[string]struct {
		remote string
		hops   []string
		want   string
	}{
		"direct":                    {"192.0.2.1:1", nil, "192.0.2.1"},
		"spoofed":                   {"192.0.2.1:1", []string{"198.51.100.1"}, "192.0.2.1"},
		"by a proxy":                {"10.0.0.1:1", []string{"192.0.2.1"}, "192.0.2.1"},
		"by two proxies":            {"10.0.0.1:1", []string{"192.0.2.1, 10.0.0.2"}, "192.0.2.1"},
		"spoofed through a proxy":   {"10.0.0.1:1", []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"},
		"spoofed in another header": {"10.0.0.1:1", []string{"198.51.100.1", "192.0.2.1"}, "192.0.2.1"},
		"proxies only":              {"10.0.0.1:1", []string{"10.0.0.3, 10.0.0.2"}, "10.0.0.3"},
		"proxy without the header":  {"10.0.0.1:1", nil, "10.0.0.1"},
		"nonsense":                  {"10.0.0.1:1", []string{"192.0.2.1, <script>"}, "10.0.0.1"},
		"IPv4 as IPv6":              {"[::ffff:192.0.2.1]:1", nil, "192.0.2.1"},
		"IPv6":                      {"[2001:db8::1]:1", nil, "2001:db8::1"},
		"IPv6 proxy":                {"[fd00::1]:1", []string{"2001:db8::2"}, "2001:db8::2"},
	} {
		r := &http.Request{RemoteAddr: test.remote, Header: http.Header{"X-Forwarded-For": test.hops}}
		if got := Address(r, trusted).String(); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

func TestFloodOfCallersCostsBoundedMemory(t *testing.T) {
	t.Parallel()
	now := time.Now()
	g := NewGenerations[int](100, time.Minute, func() time.Time { return now })
	for i := range 10_000 {
		g.Use(fmt.Sprint(i), true, func(v *int, _ time.Time) { *v = i })
		g.Use("regular", true, func(v *int, _ time.Time) { *v++ })
	}
	if n := len(g.younger) + len(g.elder); n > 200 {
		t.Errorf("%d are remembered", n)
	}
	g.Use("regular", true, func(v *int, _ time.Time) {
		if *v != 10_000 {
			t.Errorf("the regular caller was forgotten: %d", *v)
		}
	})
	now = now.Add(3 * time.Minute)
	g.Use("regular", false, func(*int, time.Time) { t.Error("remembered after three minutes") })
}
