package broker

import (
	"crypto/tls"
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
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

// NewKafka returns a broker that passes hints on through a Kafka topic, without waiting for a connection.
func NewKafka(KafkaOptions) (Broker, error) {
	return nil, errors.New("not yet")
}
