package broker

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/firstseen/firstseen/internal/quiet"
)

// KafkaOptions of NewKafka.
type KafkaOptions struct {
	Brokers    []string                      // host:port of some brokers, which name the others
	Topic      string                        // as Topic makes it
	TLS        func(name string) *tls.Config // for a connection to a broker of that name; nil: no TLS
	SASL       SASL
	Log        logrus.FieldLogger    // nil: discarded
	Registerer prometheus.Registerer // nil: no metrics
}

// SASL says who this process is to the brokers. The zero value: nobody.
type SASL struct {
	Mechanism string // plain, scram-sha-256 or scram-sha-512
	User      string
	Password  string
}

const (
	partition   = 0 // hints are in order, so that the last one is the newest
	dialTimeout = 5 * time.Second
	lookTimeout = 10 * time.Second
	lookEvery   = 30 * time.Second // without hints: is the topic still there?
	tellTimeout = 5 * time.Second  // after which a hint is no news
	lastWord    = time.Second      // that Close gives a hint to arrive
	mostHint    = 4 << 10          // bytes: beyond, it is not ours

	// Between attempts to listen. The upper end is how long hints stay away after a topic was created.
	listenAgain     = 250 * time.Millisecond
	listenAgainMost = 5 * time.Second
)

// Kafka is a Broker that uses one partition of a topic. Only what is told while somebody listens is heard: what was
// missed is of no interest to who looks for himself once in a while. So retention does not matter, nor offsets.
type Kafka struct {
	opts    []kgo.Opt
	brokers string
	topic   string
	metrics *metrics
	teller  link
	hearer  link

	news chan struct{}  // of capacity 1: there is a hint to tell
	stop chan struct{}  // closed by Close
	done sync.WaitGroup // of the goroutine that tells

	mu       sync.Mutex
	producer *kgo.Client // guarded by mu: nil until the first hint is told
	latest   *Pointer    // guarded by mu: the one to tell next; a later one takes its place
	closed   bool        // guarded by mu
}

// NewKafka returns a Broker without waiting for a connection. What is wrong with the options is an error; what is wrong
// with the brokers is logged when it begins and when it ends.
func NewKafka(o KafkaOptions) (*Kafka, error) {
	opts := []kgo.Opt{
		kgo.SeedBrokers(o.Brokers...), kgo.ClientID("firstseen"), kgo.DisableClientMetrics(),
		kgo.Dialer(dialer(o.TLS)), kgo.MetadataMinAge(time.Second), kgo.MetadataMaxAge(time.Minute),
	}
	if o.SASL.Mechanism != "" {
		m, err := o.SASL.mechanism()
		if err != nil {
			return nil, err
		}
		opts = append(opts, kgo.SASL(m))
	}
	if err := kgo.ValidateOpts(opts...); err != nil {
		return nil, err
	}
	metrics, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("broker: %w", err)
	}
	log := quiet.Log(o.Log).WithFields(logrus.Fields{"brokers": strings.Join(o.Brokers, ","), "topic": o.Topic})
	return &Kafka{
		opts: opts, brokers: strings.Join(o.Brokers, ","), topic: o.Topic, metrics: metrics,
		teller: link{log: log, gauge: metrics.connected.WithLabelValues("tell"),
			bad: "hints for replicas do not reach Kafka; replicas find what is new by looking"},
		hearer: link{log: log, gauge: metrics.connected.WithLabelValues("listen"),
			bad: "no hints come from Kafka; what is new is found by looking"},
		news: make(chan struct{}, 1), stop: make(chan struct{}),
	}, nil
}

func (s SASL) mechanism() (sasl.Mechanism, error) {
	switch s.Mechanism {
	case "plain":
		return plain.Auth{User: s.User, Pass: s.Password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("SASL mechanism %q: use plain, scram-sha-256 or scram-sha-512", s.Mechanism)
}

func dialer(config func(string) *tls.Config) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil || config == nil {
			return conn, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			conn.Close()
			return nil, err
		}
		secured := tls.Client(conn, config(host))
		if err := secured.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secured, nil
	}
}

func (k *Kafka) String() string { return "kafka topic " + k.topic + " at " + k.brokers }

// Listen implements Broker. It returns nil, when ctx has ended.
func (k *Kafka) Listen(ctx context.Context, hear func(Pointer)) error {
	delay := listenAgain
	for {
		connected, err := k.listen(ctx, hear)
		if ended(ctx) {
			return nil
		}
		k.hearer.failed(err)
		if connected {
			delay = listenAgain
		}
		pause(ctx, delay+rand.N(delay))
		delay = min(2*delay, listenAgainMost)
	}
}

func ended(ctx context.Context) bool { return ctx.Err() != nil }

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// listen hears what comes from now on, until something is wrong that the client does not mend by itself.
func (k *Kafka) listen(ctx context.Context, hear func(Pointer)) (connected bool, err error) {
	end := kgo.NewOffset().AtEnd()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{k.topic: {partition: end}}), kgo.ConsumeResetOffset(end),
		// What the client would mend, such as a leader that moved, begins anew as well, and what it would not, such as a
		// topic that was created again, does, too.
		kgo.KeepRetryableFetchErrors(), kgo.FetchMaxBytes(1 << 20), kgo.FetchMaxPartitionBytes(1 << 20),
		kgo.WithHooks(connections{&k.hearer}),
	}, k.opts...)...)
	if err != nil {
		return false, err
	}
	defer client.Close()
	for {
		if err := k.look(ctx, client); err != nil {
			return connected, err
		}
		connected = true
		if err := k.poll(ctx, client, hear); err != nil {
			return true, err
		}
	}
}

// look tells what is wrong with the brokers or the topic, which the client would wait out in silence.
func (k *Kafka) look(ctx context.Context, client *kgo.Client) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	ask := kmsg.NewPtrMetadataRequest()
	topic := kmsg.NewMetadataRequestTopic()
	topic.Topic = &k.topic
	ask.Topics = append(ask.Topics, topic)
	answer, err := ask.RequestWith(ctx, client)
	if err != nil {
		return err
	}
	for _, t := range answer.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil {
			return err
		}
	}
	return nil
}

// poll hears hints until nothing has come for a while.
func (k *Kafka) poll(ctx context.Context, client *kgo.Client, hear func(Pointer)) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, lookEvery)
		fetches := client.PollFetches(waiting)
		silent := ended(waiting)
		cancel()
		if silent {
			return nil
		}
		if err := broken(fetches); err != nil {
			return err
		}
		fetches.EachRecord(func(r *kgo.Record) { k.heard(r.Value, hear) })
	}
}

func (k *Kafka) heard(value []byte, hear func(Pointer)) {
	p, ok := decode(value)
	if !ok {
		k.metrics.foreign.Inc()
		return
	}
	k.metrics.heard.Inc()
	hear(p)
}

// broken is the first error that ends listening. Lost records do not: they were hints.
func broken(fetches kgo.Fetches) error {
	var lost *kgo.ErrDataLoss
	for _, e := range fetches.Errors() {
		if !errors.As(e.Err, &lost) {
			return e.Err
		}
	}
	return nil
}

func decode(value []byte) (Pointer, bool) {
	var p Pointer
	if len(value) > mostHint || json.Unmarshal(value, &p) != nil {
		return p, false
	}
	return p, p.First > 0 && p.Last >= p.First
}
