package client

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// gathered returns the value of every series of a registry by its name and labels, the observer apart.
func gathered(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := strings.TrimPrefix(f.GetName(), "firstseen_client_")
			for _, l := range m.GetLabel() {
				if l.GetName() != "observer" {
					name += " " + l.GetValue()
				}
			}
			out[name] = value(m)
		}
	}
	return out
}

func value(m *dto.Metric) float64 { return m.GetCounter().GetValue() + m.GetGauge().GetValue() }

func TestMetrics(t *testing.T) {
	t.Parallel()
	d := draw(t).line("a", 0, 3, "").transact("a3", 1)
	s := serveRelay(t, d)
	registry := prometheus.NewPedanticRegistry()
	options := func(o *Options) { o.Registerer, o.Receipts = registry, ReceiptsOff }
	c := start(t, []string{"alpha=" + serveDrawing(t, d).URL}, []string{s.addr()}, options)
	c.at(d, "a3")
	wait(t, "ack", func() bool { return c.Stats().First == 1 })
	got := gathered(t, registry)
	for name, want := range map[string]float64{
		"blocks_total sent": 1, "blocks_settled_total first": 1, "blocks_settled_total duplicate": 0,
		"receipts_unknown_total off": 1, "frames_sent_total": 1, "connections_total made": 1, "connected": 1,
		"head_number": 3, "firstseen_node_usable alpha": 1, "firstseen_node_faults_total alpha": 0, "outbox_blocks": 0, "outbox_bytes": 0,
		"reorgs_total": 0, "outbox_full_total": 0, "dead_letters": 0,
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s is %v, want %v; there are %v", name, v, want, slices.Sorted(maps.Keys(got)))
		}
	}
	// A second observer in the same process has its own label.
	if _, err := New(Options{Name: "second", Nodes: []string{"http://x"}, Servers: []string{"s:1"}, Template: plain{},
		Registerer: registry}); err != nil {
		t.Error(err)
	}
}

func TestHeadMetricIsAbsentWhileUnknown(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	if _, err := New(Options{Name: "w", Nodes: []string{"http://x"}, Servers: []string{"s:1"}, Template: plain{},
		Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	if v, ok := gathered(t, registry)["head_number"]; ok {
		t.Errorf("head_number is %v before any head was seen", v)
	}
}
