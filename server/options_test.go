package server

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

func TestNewRefusesOptionsThatCannotWork(t *testing.T) {
	t.Parallel()
	store := newFake()
	defer store.close()
	taken := start(t)
	for name, c := range map[string]struct {
		change func(*Options)
		names  string // what the error must name
	}{
		"no address":        {func(o *Options) { o.Addr = "" }, "Addr"},
		"address in use":    {func(o *Options) { o.Addr = taken.srv.Addr().String() }, taken.srv.Addr().String()},
		"address not local": {func(o *Options) { o.Addr = "192.0.2.1:1" }, "192.0.2.1:1"},
		"no name":           {func(o *Options) { o.Name = "" }, "Name"},
		"bad name":          {func(o *Options) { o.Name = "a b" }, "Name"},
		"no store":          {func(o *Options) { o.Store = nil }, "Store"},
		"negative drain":    {func(o *Options) { o.Drain = -time.Second }, "Drain"},
		"huge connections":  {func(o *Options) { o.MaxConns = math.MaxInt }, "MaxConns"},
		"metrics twice":     {func(o *Options) { o.Registerer, o.Name = taken.reg, "relay-1" }, "metrics"},
	} {
		o := Options{Addr: "127.0.0.1:0", Name: "a", Store: store}
		c.change(&o)
		if _, err := New(o); err == nil || !strings.Contains(err.Error(), c.names) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line that names %s", name, err, c.names)
		}
	}
}

func TestTwoServersShareARegistry(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	for _, name := range []string{"a", "b"} {
		if _, err := newMetrics(reg, name); err != nil {
			t.Errorf("server %s: %v", name, err)
		}
	}
}
