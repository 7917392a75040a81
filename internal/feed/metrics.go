package feed

import (
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	events        prometheus.Counter
	seq           prometheus.Gauge
	subscriptions prometheus.Gauge
	slow          prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_feed_events_total", Help: "Events of the feed that were handed to live readers.",
		}),
		seq: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firstseen_feed_seq", Help: "Seq of the last event handed to live readers.",
		}),
		subscriptions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "firstseen_feed_subscriptions", Help: "Open subscriptions to the feed.",
		}),
		slow: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "firstseen_feed_slow_readers_total", Help: "Subscriptions ended because their reader fell too far behind.",
		}),
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.events, m.seq, m.subscriptions, m.slow} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) published(events []*Event) {
	m.events.Add(float64(len(events)))
	m.seq.Set(float64(events[len(events)-1].Seq))
}
