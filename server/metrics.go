package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/schema"
)

// metrics is what a server counts. Frames are counted when they are complete, refusals when they are found.
type metrics struct {
	connections prometheus.Gauge
	modes       *prometheus.GaugeVec   // mode
	frames      *prometheus.CounterVec // mode, type
	bytes       *prometheus.CounterVec // mode
	refused     *prometheus.CounterVec // reason
	fatals      *prometheus.CounterVec // code
	settlements *prometheus.CounterVec // mode, outcome
	settling    prometheus.Histogram
	inflight    prometheus.Gauge
	turnedAway  *prometheus.CounterVec // reason
	logins      *prometheus.CounterVec // by, result
	raws        *prometheus.CounterVec // result
	held        prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, server string) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "firstseen_server_" + name, Help: help}, labels)
	}
	gauge := func(name, help string) prometheus.GaugeOpts {
		return prometheus.GaugeOpts{Name: "firstseen_server_" + name, Help: help}
	}
	m := &metrics{
		connections: prometheus.NewGauge(gauge("connections", "Open connections.")),
		modes: prometheus.NewGaugeVec(gauge("mode_connections", "Connections whose mode is decided, by mode."),
			[]string{"mode"}),
		frames:      counter("frames_total", "Complete frames received, by mode and type.", "mode", "type"),
		bytes:       counter("received_bytes_total", "Content of complete frames received, by mode.", "mode"),
		refused:     counter("refused_frames_total", "Frames refused, by reason.", "reason"),
		fatals:      counter("fatal_frames_total", "Relay connections ended with a fatal frame, by code.", "code"),
		settlements: counter("settlements_total", "Offers settled, by mode and outcome.", "mode", "outcome"),
		settling: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "firstseen_server_settle_seconds",
			Help:    "Time from an offer to its settlement, waiting for room in the store included.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 10),
		}),
		inflight: prometheus.NewGauge(gauge("inflight_bytes", "Content of frames offered and not settled.")),
		turnedAway: counter("refused_connections_total",
			"Connections refused for what came before their first frame, or for being bare, by reason.", "reason"),
		logins: counter("authentications_total", "Relay connections by what proved their name, and result.", "by", "result"),
		raws:   counter("raw_parts_total", "Raw parts of observations: verified, known from before, or refused.", "result"),
		held: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_server_accept_held_seconds_total",
			Help: "Time for which connections were left in the kernel's queue because too many came at once.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	reg = prometheus.WrapRegistererWith(prometheus.Labels{"server": server}, reg)
	for _, c := range []prometheus.Collector{
		m.connections, m.modes, m.frames, m.bytes, m.refused, m.fatals, m.settlements, m.settling, m.inflight,
		m.turnedAway, m.logins, m.raws, m.held,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) frame(mode, kind string, size int) {
	m.frames.WithLabelValues(mode, kind).Inc()
	m.bytes.WithLabelValues(mode).Add(float64(size))
}

// offered counts size bytes as in flight until the returned function is called, once, with the outcome.
func (m *metrics) offered(mode string, size int) func(schema.Outcome) {
	start := time.Now()
	m.inflight.Add(float64(size))
	return func(o schema.Outcome) {
		m.inflight.Sub(float64(size))
		m.settling.Observe(time.Since(start).Seconds())
		m.settlements.WithLabelValues(mode, o.String()).Inc()
	}
}
