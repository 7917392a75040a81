package replica

import (
	"github.com/prometheus/client_golang/prometheus"
)

// shipMetrics are what a Shipper tells of itself.
type shipMetrics struct {
	rows, bytes, adopted, healed, deleted prometheus.Counter
	segments, failures                    *prometheus.CounterVec
	lagRows, lagSeconds, writer           prometheus.GaugeFunc
}

// The kinds of segments, as metrics and logs name them.
const (
	kindLive = "live"
	kindBulk = "bulk"
)

func newShipMetrics(s *Shipper) *shipMetrics {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	gauge := func(name, help string, value func(shipState) float64) prometheus.GaugeFunc {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(s.look()) })
	}
	m := &shipMetrics{
		rows:    counter("firstseen_ship_rows_total", "Rows of the feed that were shipped."),
		bytes:   counter("firstseen_ship_bytes_total", "Bytes of segments and records that were stored, compressed."),
		adopted: counter("firstseen_ship_adopted_total", "Segments found where one was to be stored, and taken as they are."),
		healed:  counter("firstseen_ship_healed_total", "Objects found damaged, and replaced."),
		deleted: counter("firstseen_ship_deleted_total", "Live segments deleted, since a bulk one holds their rows."),
		segments: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_ship_segments_total", Help: "Segments that were stored, by kind: live or bulk.",
		}, []string{"kind"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_ship_failures_total", Help: "Attempts that failed and are made again, by what was tried.",
		}, []string{"what"}),
		lagRows: gauge("firstseen_ship_lag_rows", "Rows of the feed that are not shipped yet.", func(st shipState) float64 {
			return float64(st.end.Seq - min(st.seq, st.end.Seq))
		}),
		lagSeconds: gauge("firstseen_ship_lag_seconds", "Age of the oldest row that is not shipped yet; 0 if there is none.",
			func(st shipState) float64 {
				if st.behind.IsZero() {
					return 0
				}
				return max(0, s.opts.Now().Sub(st.behind).Seconds())
			}),
		writer: gauge("firstseen_ship_epoch", "Fencing number of this writer; 0 until it is the writer.",
			func(st shipState) float64 { return float64(st.epoch) }),
	}
	if s.opts.Registerer != nil {
		s.opts.Registerer.MustRegister(m.rows, m.bytes, m.adopted, m.healed, m.deleted, m.segments, m.failures, m.lagRows,
			m.lagSeconds, m.writer)
	}
	return m
}
