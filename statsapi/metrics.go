package statsapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

type metrics struct {
	duration *prometheus.HistogramVec
	refused  *prometheus.CounterVec // reason: see refusal
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "firstseen_http_request_duration_seconds",
		Help:    "Time to answer a request of the stats API, by route pattern, method and status code.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
	}, []string{"route", "method", "code"}), refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "firstseen_http_refused_total",
		Help: "Requests of the stats API that were refused before anything was read: key, scope, rate, url or store.",
	}, []string{"reason"})}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.duration, m.refused} {
		if err := r.Register(c); err != nil {
			return m, err
		}
	}
	return m, nil
}

// observe labels with the route's pattern, never with a path, and only with methods that are served: what a client
// makes up must not become a time series.
func (m *metrics) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ww := middleware.NewWrapResponseWriter(w, r.ProtoMajor)
		next.ServeHTTP(ww, r)
		route := chi.RouteContext(r.Context()).RoutePattern()
		if route == "" {
			route = "none"
		}
		method := r.Method
		if method != http.MethodGet && method != http.MethodHead && method != http.MethodPost {
			method = "other"
		}
		m.duration.WithLabelValues(route, method, strconv.Itoa(max(ww.Status(), http.StatusOK))).
			Observe(time.Since(start).Seconds())
	})
}

func metricsHandler(g prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(g, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}
