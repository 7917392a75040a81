package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/internal/nodepool"
)

// PoolConfig says what nodes are judged by. docs/NODES.md has the meanings.
type PoolConfig struct {
	Quorum   int           `koanf:"quorum"`   // nodes that must have the tip
	Lag      uint64        `koanf:"lag"`      // blocks behind it: out
	Back     uint64        `koanf:"back"`     // blocks behind it: a good probe
	Proof    int           `koanf:"proof"`    // good probes until back in
	Misses   int           `koanf:"misses"`   // failed probes until out
	Stale    time.Duration `koanf:"stale"`    // without a good probe until out; 0: three polls
	Pause    time.Duration `koanf:"pause"`    // between probes of a node that is out, at most
	Breaker  int           `koanf:"breaker"`  // failed calls in a row until left alone
	Patience time.Duration `koanf:"patience"` // without a majority until not ready
}

// RepairConfig says how a node that stays out is restarted.
type RepairConfig struct {
	Restart    []string      `koanf:"restart"`    // command and arguments, or one preset such as systemd:geth@{node}
	Dependants []string      `koanf:"dependants"` // the same, once the node answers again
	Execute    bool          `koanf:"execute"`    // false: only say what would be done
	Grace      time.Duration `koanf:"grace"`
	Cooldown   time.Duration `koanf:"cooldown"`
	Budget     int           `koanf:"budget"` // restarts an hour
	Timeout    time.Duration `koanf:"timeout"`
}

func defaultPool() PoolConfig {
	return PoolConfig{Quorum: 2, Lag: 10, Back: 2, Proof: 3, Misses: 3, Pause: 10 * time.Second, Breaker: 10,
		Patience: 15 * time.Second}
}

func defaultRepair() RepairConfig {
	return RepairConfig{Grace: 5 * time.Minute, Cooldown: 15 * time.Minute, Budget: 4, Timeout: 2 * time.Minute}
}

func (c PoolConfig) thresholds() nodepool.Thresholds {
	return nodepool.Thresholds{Quorum: c.Quorum, Lag: c.Lag, Back: c.Back, Proof: c.Proof, Misses: c.Misses,
		Stale: c.Stale, Pause: c.Pause, Breaker: c.Breaker, Patience: c.Patience}
}

func (c RepairConfig) repair() (nodepool.Repair, error) {
	r := nodepool.Repair{Execute: c.Execute, Grace: c.Grace, Cooldown: c.Cooldown, Budget: c.Budget, Timeout: c.Timeout}
	var err error
	if r.Hook, err = nodepool.ParseHook(c.Restart); err != nil {
		return r, usagef("client.repair.restart: %v", err)
	}
	if r.Dependants, err = nodepool.ParseHook(c.Dependants); err != nil {
		return r, usagef("client.repair.dependants: %v", err)
	}
	return r, nil
}

// pool returns the options of a pool of the configured nodes.
func (c ClientConfig) pool() (nodepool.Options, error) {
	repair, err := c.Repair.repair()
	return nodepool.Options{Nodes: c.Node, Reference: c.Reference, Poll: c.Poll, Thresholds: c.Pool.thresholds(),
		Repair: repair}, err
}

func (c Config) validatePool() error {
	if c.validateNodes() != nil {
		return nil //nolint:nilerr // which has said so
	}
	o, err := c.Client.pool()
	if err != nil {
		return err
	}
	if c.Client.Reference != "" && nodepool.CheckAddress(c.Client.Reference) != nil {
		return usagef("client.reference %q: use a URL such as https://host/path", redactNode(c.Client.Reference))
	}
	o.Pin = c.Client.NodeName
	if err := o.Validate(); err != nil {
		return usagef("client: %s", oneLine(err))
	}
	return nil
}

func referenceFlag(flags *pflag.FlagSet) {
	flags.String("reference", "", "URL of a third party that is asked for the latest block only (default: none)")
	bind(flags, "reference", "client.reference")
}

func nodeNameFlag(flags *pflag.FlagSet) {
	flags.String("node-name", "", "observe this node only; the others confirm the tip (default: whichever is best)")
	bind(flags, "node-name", "client.node_name")
}
