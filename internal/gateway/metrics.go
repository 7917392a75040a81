package gateway

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// metrics are labelled with the names of nodes, of allowed methods and with codes: sets that callers cannot add to.
type metrics struct {
	requests  *prometheus.HistogramVec
	attempts  *prometheus.HistogramVec
	failures  *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	retries   prometheus.Counter
	hedges    prometheus.Counter
	limited   prometheus.Counter
	sockets   prometheus.Gauge
	certUntil prometheus.Gauge
	ok        prometheus.Observer // requests with status 200
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	buckets := []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "firstseen_gateway_" + name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "firstseen_gateway_" + name, Help: help})
	}
	m := &metrics{
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "firstseen_gateway_request_duration_seconds", Buckets: buckets,
			Help: "Time to answer an HTTP request, by status.",
		}, []string{"code"}),
		attempts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "firstseen_gateway_node_duration_seconds", Buckets: buckets,
			Help: "Time of exchanges with a node that gave an answer, by node and method.",
		}, []string{"node", "method"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_gateway_node_failures_total", Help: "Exchanges with a node that gave none, by node and cause.",
		}, []string{"node", "cause"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_gateway_refusals_total", Help: "Calls that no node was asked, by JSON-RPC error code.",
		}, []string{"code"}),
		retries:   counter("retries_total", "Attempts that followed a failed one."),
		hedges:    counter("hedges_total", "Attempts beside one that took long."),
		limited:   counter("limited_total", "Requests beyond a caller's rate."),
		sockets:   gauge("websockets", "Open WebSocket connections of callers."),
		certUntil: gauge("certificate_expiry_timestamp_seconds", "When the certificate in use expires; 0 without TLS."),
	}
	m.ok = m.requests.WithLabelValues("200")
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.attempts, m.failures, m.refusals, m.retries, m.hedges,
		m.limited, m.sockets, m.certUntil} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) request(status int, took time.Duration) {
	if status == 200 {
		m.ok.Observe(took.Seconds())
		return
	}
	m.requests.WithLabelValues(strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *metrics) refused(code int) { m.refusals.WithLabelValues(strconv.Itoa(code)).Inc() }

// attempt counts an exchange with a node.
func (m *metrics) attempt(n *node, method string, took time.Duration, err error) {
	if err != nil {
		m.failures.WithLabelValues(n.name, cause(err)).Inc()
		return
	}
	timer, ok := n.timers.Load(method)
	if !ok {
		timer, _ = n.timers.LoadOrStore(method, m.attempts.WithLabelValues(n.name, method))
	}
	timer.(prometheus.Observer).Observe(took.Seconds())
}

// cause is a short word for why an exchange failed.
func cause(err error) string {
	var status *statusError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &status):
		return strconv.Itoa(status.code)
	case errors.Is(err, errTooLarge):
		return "too_large"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.Is(err, jsonrpc.ErrNotAnswer), errors.Is(err, jsonrpc.ErrIncomplete):
		return "garbage"
	}
	return "connection"
}
