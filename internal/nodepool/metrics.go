package nodepool

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/schema"
)

// metrics are the pool's figures. Nodes are named, never located: URLs hold keys.
type metrics struct {
	pool                                                *Pool
	transitions, probes, repairs                        *prometheus.CounterVec
	seconds                                             *prometheus.HistogramVec
	state, usable, height, lag, cordoned, peers, faults *prometheus.Desc
	tip, corroborated, frozen, overflow                 *prometheus.Desc
}

func newMetrics(p *Pool, registerer prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firstseen_" + name, Help: help}, labels)
	}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("firstseen_"+name, help, labels, nil)
	}
	m := &metrics{
		pool:        p,
		transitions: counter("node_transitions_total", "Changes of a node's state, by the new one.", "node", "state"),
		probes:      counter("node_probes_total", "Looks at a node's head, by how they went.", "node", "outcome"),
		repairs:     counter("node_repairs_total", "Restarts of a node, by how they went.", "node", "outcome"),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "firstseen_node_probe_seconds",
			Help: "How long a node took to give its head.", Buckets: prometheus.ExponentialBuckets(0.001, 2, 13)}, []string{"node"}),
		state:        desc("node_state", "1 for the state that a node is in.", "node", "state"),
		usable:       desc("node_usable", "1 for a node that may be used.", "node"),
		height:       desc("node_height", "Height of a node's head. Absent while unknown.", "node"),
		lag:          desc("node_lag_blocks", "Blocks that a node is behind the tip. Absent while unknown.", "node"),
		cordoned:     desc("node_cordoned", "1 for a node that an operator keeps out.", "node"),
		peers:        desc("node_peers", "Peers of a node, as it says. Absent while unknown.", "node"),
		faults:       desc("node_faults_total", "How often a node could not be probed or used.", "node"),
		tip:          desc("pool_tip_height", "Height of the tip. Absent while unknown."),
		corroborated: desc("pool_tip_corroborated", "1 while as many nodes as needed, or the reference, have the tip."),
		frozen:       desc("pool_tip_frozen_seconds", "Since a majority of nodes was near the tip."),
		overflow:     desc("pool_events_dropped_total", "Transitions that were forgotten before they could be reported."),
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m, m.transitions, m.probes, m.repairs, m.seconds} {
		if err := registerer.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) transition(node string, to schema.NodeState) {
	m.transitions.WithLabelValues(node, string(to)).Inc()
}

func (m *metrics) took(node string, d time.Duration) {
	m.seconds.WithLabelValues(node).Observe(d.Seconds())
}

// probe counts a look at a node, by a few outcomes: the error's text is the node's to choose.
func (m *metrics) probe(node string, err error) {
	outcome := "failed"
	var asked interface{ RetryAfter() time.Duration }
	switch {
	case err == nil:
		outcome = "good"
	case errors.Is(err, errWrongChain):
		outcome = "wrong_chain"
	case isForged(err):
		outcome = "forged"
	case errors.Is(err, errTooLarge):
		outcome = "too_large"
	case errors.As(err, &asked):
		outcome = "refused"
	}
	m.probes.WithLabelValues(node, outcome).Inc()
}

func (m *metrics) repair(node, outcome string) { m.repairs.WithLabelValues(node, outcome).Inc() }

// Describe implements prometheus.Collector.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.state, m.usable, m.height, m.lag, m.cordoned, m.peers, m.faults, m.tip,
		m.corroborated, m.frozen, m.overflow} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	now := m.pool.o.Now()
	m.pool.mu.Lock()
	defer m.pool.mu.Unlock()
	p := m.pool
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, n := range p.nodes {
		v := p.view(n, now)
		gauge(m.state, 1, n.name, string(n.state))
		gauge(m.usable, boolean(p.usable(n, now)), n.name)
		gauge(m.cordoned, boolean(n.cordoned), n.name)
		if v.Height != nil {
			gauge(m.height, float64(*v.Height), n.name)
		}
		if v.Lag != nil {
			gauge(m.lag, float64(*v.Lag), n.name)
		}
		if n.peers != nil {
			gauge(m.peers, float64(*n.peers), n.name)
		}
		out <- prometheus.MustNewConstMetric(m.faults, prometheus.CounterValue, float64(n.failed), n.name)
	}
	if p.tip != nil {
		gauge(m.tip, float64(p.tip.Number))
	}
	gauge(m.corroborated, boolean(p.tip != nil && p.corroborated))
	gauge(m.frozen, now.Sub(p.agreed).Seconds())
	out <- prometheus.MustNewConstMetric(m.overflow, prometheus.CounterValue, float64(p.overflow))
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
