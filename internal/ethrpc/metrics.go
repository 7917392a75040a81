package ethrpc

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	calls  *prometheus.CounterVec
	opened *prometheus.CounterVec
	bytes  prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_rpc_calls_total", Help: "JSON-RPC calls answered from the store, by method and outcome.",
		}, []string{"method", "outcome"}),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_rpc_blocks_total", Help: "Blocks asked for by JSON-RPC calls, by whether one was at hand.",
		}, []string{"from"}),
		bytes: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firstseen_rpc_cache_bytes", Help: "Size of the blocks kept at hand for JSON-RPC calls.",
		}),
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.calls), r.Register(m.opened), r.Register(m.bytes))
}

// answered counts a call. Methods that nobody knows are one.
func (m *metrics) answered(method string, known, failed bool) {
	if !known && !stateful[method] && !writing[method] {
		method = "other"
	}
	outcome := "ok"
	if failed {
		outcome = "error"
	}
	m.calls.WithLabelValues(method, outcome).Inc()
}

func (m *metrics) hit()         { m.opened.WithLabelValues("cache").Inc() }
func (m *metrics) miss()        { m.opened.WithLabelValues("store").Inc() }
func (m *metrics) held(n int64) { m.bytes.Set(float64(n)) }
