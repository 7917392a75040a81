package main

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

func poolFlags(t *testing.T, args ...string) *pflag.FlagSet {
	t.Helper()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	observerFlags(flags)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	return flags
}

func TestPoolIsConfiguredByFlagAndEnvironment(t *testing.T) {
	t.Parallel()
	c, err := load(poolFlags(t, "--node", "a=http://h:1|ws://h:2", "--node", "b=http://h:3", "--node-name", "b",
		"--reference", "https://third.example/v3/s3cr3t-k3y"),
		[]string{"FIRSTSEEN_CLIENT__POOL__LAG=20", "FIRSTSEEN_CLIENT__REPAIR__RESTART=systemd:geth@{node}",
			"FIRSTSEEN_CLIENT__REPAIR__DEPENDANTS=systemctl,restart,watch@{node}", "FIRSTSEEN_CLIENT__REPAIR__GRACE=1m"})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	o, err := c.Client.pool()
	if err != nil {
		t.Fatal(err)
	}
	if o.Lag != 20 || o.Quorum != 2 || o.Repair.Execute || o.Repair.Grace != time.Minute || c.Client.NodeName != "b" ||
		!slices.Equal(o.Repair.Hook, []string{"systemctl", "restart", "geth@{node}"}) ||
		!slices.Equal(o.Repair.Dependants, []string{"systemctl", "restart", "watch@{node}"}) {
		t.Errorf("%+v", o)
	}
	text, err := dumpYAML(c)
	if err != nil || strings.Contains(string(text), "s3cr3t-k3y") || !strings.Contains(string(text), "third.example") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestPoolSettingsAreRefusedInWords(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		`no node is called "x"`:      func(c *Config) { c.Client.NodeName = "x" },
		"client.reference":           func(c *Config) { c.Client.Reference = "ftp://key" },
		"must be smaller":            func(c *Config) { c.Client.Pool.Back = 10 },
		"client.repair.restart":      func(c *Config) { c.Client.Repair.Restart = []string{"kubectl:x"} },
		"name the node's command":    func(c *Config) { c.Client.Repair.Dependants = []string{"true"} },
		"counts must not be":         func(c *Config) { c.Client.Pool.Misses = -1 },
		"must not depend on the nod": func(c *Config) { c.Client.Repair.Restart = []string{"{node}"} },
	} {
		c := defaults()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
}
