package broker

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// link is one direction of hints. It logs when they begin to fail and when they come again.
type link struct {
	log   logrus.FieldLogger
	gauge prometheus.Gauge
	bad   string // what to say when it fails

	mu   sync.Mutex
	down bool // guarded by mu
}

func (l *link) failed(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gauge.Set(0)
	if !l.down {
		l.down = true
		l.log.WithError(err).Warn(l.bad)
	}
}

func (l *link) worked() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gauge.Set(1)
	if l.down {
		l.down = false
		l.log.Info("hints are back")
	}
}

// connections tells a link of brokers that cannot be reached, which the client tries again in silence.
type connections struct{ link *link }

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (c connections) OnBrokerConnect(_ kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err != nil {
		c.link.failed(err)
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E: a fetch that is answered, be it with nothing, is what listening consists of.
func (c connections) OnBrokerE2E(_ kgo.BrokerMetadata, request int16, e2e kgo.BrokerE2E) {
	if kmsg.Key(request) == kmsg.Fetch && e2e.Err() == nil {
		c.link.worked()
	}
}

type metrics struct {
	told      *prometheus.CounterVec
	heard     prometheus.Counter
	foreign   prometheus.Counter
	connected *prometheus.GaugeVec
}

// newMetrics returns the metrics that r has already, if this is not the process's first Kafka.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	told := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "firstseen_broker_told_total",
		Help: "Hints for replicas, by outcome: ok, failed, or replaced by a later one before they were sent.",
	}, []string{"outcome"})
	heard := prometheus.NewCounter(prometheus.CounterOpts{Name: "firstseen_broker_heard_total", Help: "Hints heard."})
	foreign := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "firstseen_broker_foreign_total", Help: "Messages in the topic that are no hints.",
	})
	connected := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "firstseen_broker_connected", Help: "1 while hints are passed on, by direction: tell, listen.",
	}, []string{"direction"})
	if r == nil {
		return &metrics{told, heard, foreign, connected}, nil
	}
	var errs [4]error
	told, errs[0] = register(r, told)
	heard, errs[1] = register(r, heard)
	foreign, errs[2] = register(r, foreign)
	connected, errs[3] = register(r, connected)
	return &metrics{told, heard, foreign, connected}, errors.Join(errs[:]...)
}

func register[C prometheus.Collector](r prometheus.Registerer, c C) (C, error) {
	err := r.Register(c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if same, ok := there.ExistingCollector.(C); ok {
			return same, nil
		}
	}
	return c, err
}
