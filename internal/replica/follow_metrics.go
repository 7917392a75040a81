package replica

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/schema"
)

// followMetrics are what a Follower tells of itself.
type followMetrics struct {
	rows, hints, digests, mismatches prometheus.Counter
	segments, waits                  *prometheus.CounterVec
	apply, delay                     prometheus.Histogram
}

func newFollowMetrics(f *Follower) *followMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "firstseen_replica_" + name, Help: help})
	}
	vector := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firstseen_replica_" + name, Help: help}, []string{label})
	}
	m := &followMetrics{
		rows:       counter("rows_total", "Rows of the writer's feed that were applied."),
		hints:      counter("hints_total", "Hints that came from the broker."),
		digests:    counter("digests_total", "Ranges of blocks that were found equal to the writer's."),
		mismatches: counter("digest_mismatches_total", "Ranges of blocks that were found to differ from the writer's."),
		segments:   vector("segments_total", "Segments that were applied, by kind: live or bulk.", "kind"),
		waits:      vector("waits_total", "Looks in vain, by what was wrong: missing, damaged, object_store or database.", "why"),
		apply: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "firstseen_replica_apply_seconds", Help: "Time that the transaction of one segment took.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		delay: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "firstseen_replica_delay_seconds",
			Help:    "From the writer's commit of the last row of a live segment, by its clock, to the commit here, by ours.",
			Buckets: prometheus.ExponentialBuckets(0.005, 2, 14),
		}),
	}
	if f.opts.Registerer != nil {
		f.opts.Registerer.MustRegister(m.rows, m.hints, m.digests, m.mismatches, m.segments, m.waits, m.apply, m.delay,
			&lagCollector{f})
	}
	return m
}

// lagCollector shows the lag as it is when it is asked for. What is not known is left out.
type lagCollector struct{ follower *Follower }

var (
	lagSeconds = prometheus.NewDesc("firstseen_replica_lag_seconds",
		"How long the writer has had rows that are not here; absent while that is not known.", nil, nil)
	lagRows = prometheus.NewDesc("firstseen_replica_lag_rows",
		"Rows that the writer has and this replica does not; absent while that is not known.", nil, nil)
	lagBlocks = prometheus.NewDesc("firstseen_replica_lag_blocks",
		"Heights between this replica's head and the writer's; absent while that is not known.", []string{"chain"}, nil)
	inPhase   = prometheus.NewDesc("firstseen_replica_phase", "1 for the phase that the replica is in, else 0.", []string{"phase"}, nil)
	differing = prometheus.NewDesc("firstseen_replica_differing_ranges",
		"Ranges of blocks that are not as the writer has them.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *lagCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{lagSeconds, lagRows, lagBlocks, inPhase, differing} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *lagCollector) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	st := c.follower.State()
	if st.Lag != nil {
		gauge(lagSeconds, st.Lag.Seconds())
	}
	if st.Lag != nil && st.End != nil {
		gauge(lagRows, float64(*st.End-st.Seq))
	}
	for _, chain := range st.Chains {
		if chain.Lag != nil && st.Lag != nil {
			gauge(lagBlocks, float64(*chain.Lag), strconv.FormatUint(chain.Chain, 10))
		}
	}
	for _, phase := range []schema.ReplicaPhase{schema.ReplicaStarting, schema.ReplicaCatching, schema.ReplicaFollowing,
		schema.ReplicaWaiting, schema.ReplicaHalted} {
		is := 0.0
		if phase == st.Phase {
			is = 1
		}
		gauge(inPhase, is, string(phase))
	}
	gauge(differing, float64(len(st.Differ)))
}
