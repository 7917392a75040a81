package store

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

func TestTwoStoresShareOneRegistry(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	for range 2 {
		s := opened(t, Options{DSN: "memory", Registerer: registry})
		if err := s.Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		running(t, s)
		offerAll(t, s, bareOffer("a"), bareOffer("a"))
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += " " + l.GetValue()
			}
			got[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	for name, want := range map[string]float64{
		"firstseen_store_offers_total first": 2, "firstseen_store_offers_total duplicate": 2,
		"firstseen_store_queued_offers": 0, "firstseen_store_failures_total": 0,
	} {
		if value, ok := got[name]; !ok || value != want {
			t.Errorf("%s is %v, want %v", name, value, want)
		}
	}
}

// value reads a counter or a gauge.
func value(t testing.TB, of prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := of.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue() + m.GetGauge().GetValue()
}
