package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own.
type metrics struct {
	offers   *prometheus.CounterVec
	queued   prometheus.Gauge
	commit   prometheus.Histogram
	failures prometheus.Counter
	known    prometheus.Counter
	yields   prometheus.Counter
	splits   prometheus.Counter
	pruned   *prometheus.CounterVec
	switches prometheus.Counter
	halts    prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	m := &metrics{
		offers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_store_offers_total", Help: "Offers settled, by outcome.",
		}, []string{"outcome"}),
		queued: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firstseen_store_queued_offers", Help: "Offers not settled yet, those that wait for room in the queue too.",
		}),
		commit: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "firstseen_store_commit_seconds", Help: "Time that the transaction of one batch took.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_store_failures_total", Help: "Transactions that failed and were retried.",
		}),
		known: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_store_known_total", Help: "Offers of records that were known to be committed.",
		}),
		yields: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_store_yields_total",
			Help: "Transactions that were given up while they waited for their turn, and done again in it.",
		}),
		splits: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_store_splits_total", Help: "Batches halved to find what the database refuses.",
		}),
		pruned: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_store_pruned_total", Help: "Rows that retention removed or emptied, by what they held.",
		}, []string{"what"}),
		switches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_store_switches_total", Help: "Changes of a chain's branch by the judge.",
		}),
		halts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_store_halts_total", Help: "Chains halted because something contradicts a finalized block.",
		}),
	}
	if r != nil {
		m.offers = register(r, m.offers)
		m.queued = register(r, m.queued)
		m.commit = register(r, m.commit)
		m.failures = register(r, m.failures)
		m.known = register(r, m.known)
		m.yields = register(r, m.yields)
		m.splits = register(r, m.splits)
		m.pruned = register(r, m.pruned)
		m.switches = register(r, m.switches)
		m.halts = register(r, m.halts)
	}
	return m
}

// register returns the collector that is in force: two stores of one process share theirs.
func register[C prometheus.Collector](r prometheus.Registerer, c C) C {
	var already prometheus.AlreadyRegisteredError
	if errors.As(r.Register(c), &already) {
		if same, ok := already.ExistingCollector.(C); ok {
			return same
		}
	}
	return c
}
