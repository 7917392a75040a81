package objects

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// measured is a Store whose calls are counted and timed.
type measured struct {
	Store
	seconds *prometheus.HistogramVec
	bytes   *prometheus.CounterVec
}

func measure(s Store, r prometheus.Registerer) (Store, error) {
	if r == nil {
		return s, nil
	}
	m := &measured{
		Store: s,
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "firstseen_objects_seconds",
			Help:    "Calls to the object store, by operation and outcome (ok, not_found, exists, conflict, failed).",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation", "outcome"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "firstseen_objects_bytes_total", Help: "Bytes of objects read from and written to the object store.",
		}, []string{"operation"}),
	}
	for _, c := range []prometheus.Collector{m.seconds, m.bytes} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("objects: %w", err)
		}
	}
	return m, nil
}

func outcome(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrNotFound):
		return "not_found"
	case errors.Is(err, ErrExists):
		return "exists"
	case errors.Is(err, ErrConflict):
		return "conflict"
	}
	return "failed"
}

func (m *measured) observe(operation string, began time.Time, size int, err error) {
	m.seconds.WithLabelValues(operation, outcome(err)).Observe(time.Since(began).Seconds())
	if err == nil {
		m.bytes.WithLabelValues(operation).Add(float64(size))
	}
}

func (m *measured) Get(ctx context.Context, key string) ([]byte, string, error) {
	began := time.Now()
	body, tag, err := m.Store.Get(ctx, key)
	m.observe("get", began, len(body), err)
	return body, tag, err
}

func (m *measured) Create(ctx context.Context, key string, body []byte) error {
	began := time.Now()
	err := m.Store.Create(ctx, key, body)
	m.observe("create", began, len(body), err)
	return err
}

func (m *measured) Replace(ctx context.Context, key string, body []byte, tag string) (string, error) {
	began := time.Now()
	newTag, err := m.Store.Replace(ctx, key, body, tag)
	m.observe("replace", began, len(body), err)
	return newTag, err
}

func (m *measured) Delete(ctx context.Context, key string) error {
	began := time.Now()
	err := m.Store.Delete(ctx, key)
	m.observe("delete", began, 0, err)
	return err
}

func (m *measured) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	began := time.Now()
	keys, err := m.Store.List(ctx, prefix, after, limit)
	m.observe("list", began, 0, err)
	return keys, err
}
