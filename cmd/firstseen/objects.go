package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/firstseen/firstseen/internal/broker"
	"github.com/firstseen/firstseen/internal/certs"
	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/schema"
)

// KafkaConfig says how to reach the brokers that carry hints to replicas.
type KafkaConfig struct {
	Brokers  []string `koanf:"brokers"` // host:port; empty: no hints
	TLS      bool     `koanf:"tls"`
	TLSCA    string   `koanf:"tls_ca"` // paths of PEM files
	TLSCert  string   `koanf:"tls_cert"`
	TLSKey   string   `koanf:"tls_key"`
	SASL     string   `koanf:"sasl"` // plain, scram-sha-256, scram-sha-512; empty: none
	User     string   `koanf:"user"`
	Password string   `koanf:"password"` // secret
}

// mechanisms are the ways of logging in to Kafka that kafka.sasl may name.
var mechanisms = []string{"plain", "scram-sha-256", "scram-sha-512"}

// objectsFlags are of every command that touches what replicas live from.
func objectsFlags(flags *pflag.FlagSet) {
	d := defaults()
	flags.String("objects", d.Objects,
		"object store: file:folder, or s3://bucket/prefix?endpoint=https://host:port&region=name (credentials as the AWS SDK "+
			"finds them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or the machine's role)")
	bind(flags, "objects", "objects")
	flags.String("env", d.Env, "environment, such as main or staging: the first part of every object's key")
	bind(flags, "env", "env")
}

// kafkaFlags are of commands that tell or hear hints. The password has no flag: other users of the machine could read it.
func kafkaFlags(flags *pflag.FlagSet) {
	flags.StringSlice("kafka-brokers", nil,
		"host:port of a Kafka broker, for hints that make replicas look at once; give it again for more (default: no hints)")
	bind(flags, "kafka-brokers", "kafka.brokers")
	flags.Bool("kafka-tls", false, "speak TLS to Kafka")
	bind(flags, "kafka-tls", "kafka.tls")
	for _, f := range []struct{ name, key, usage string }{
		{"kafka-tls-ca", "kafka.tls_ca", "PEM file of the authorities that brokers' certificates must come from (default: the system's)"},
		{"kafka-tls-cert", "kafka.tls_cert", "PEM file of our own certificate, for brokers that want one; read again when it changes"},
		{"kafka-tls-key", "kafka.tls_key", "PEM file of that certificate's key"},
	} {
		flags.String(f.name, "", f.usage)
		bind(flags, f.name, f.key)
	}
	flags.String("kafka-sasl", "", "how to log in to Kafka: "+strings.Join(mechanisms, ", ")+
		"; the password comes from FIRSTSEEN_KAFKA__PASSWORD or ..._FILE")
	bind(flags, "kafka-sasl", "kafka.sasl")
	flags.String("kafka-user", "", "who logs in to Kafka")
	bind(flags, "kafka-user", "kafka.user")
}

// openObjects opens the object store; for a writer, after a test that it keeps a writer's promises.
func (p *parts) openObjects(ctx context.Context, writer bool) (objects.Store, error) {
	s, err := objects.Open(ctx, p.config.Objects, objects.Options{Writer: writer, Registerer: p.registry})
	if err != nil {
		return nil, fmt.Errorf("%w (the object store is set by --objects)", err)
	}
	p.opened = append(p.opened, s)
	if !writer {
		return s, nil
	}
	if err := objects.Prove(ctx, s); err != nil {
		return nil, fmt.Errorf("test the object store: %w (it is set by --objects)", err)
	}
	return s, nil
}

// openBroker opens what carries hints about the feed of a role, without waiting for a connection: broker.None if no
// broker is configured. It is closed with the process's other parts.
func (p *parts) openBroker(role string) (broker.Broker, error) {
	open, err := p.brokers()
	if err != nil {
		return nil, err
	}
	b, err := open(role)
	if err != nil {
		return nil, err
	}
	p.opened = append(p.opened, b)
	return b, nil
}

// brokers returns what opens brokers of any role, for who closes them.
func (p *parts) brokers() (open func(role string) (broker.Broker, error), err error) {
	c := p.config.Kafka
	if len(c.Brokers) == 0 {
		return func(string) (broker.Broker, error) { return broker.None{}, nil }, nil
	}
	o := broker.KafkaOptions{
		Brokers: c.Brokers, SASL: broker.SASL{Mechanism: c.SASL, User: c.User, Password: c.Password},
		Log: p.component("broker"), Registerer: p.registry,
	}
	if c.TLS {
		files, err := p.certificates("kafka", certs.Options{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSCA})
		if err != nil {
			return nil, err
		}
		o.TLS = files.Client
	}
	return func(role string) (broker.Broker, error) {
		topic, err := broker.Topic(p.config.Env, role)
		if err != nil {
			return nil, usageError{err.Error()}
		}
		o := o
		o.Topic = topic
		b, err := broker.NewKafka(o)
		if err != nil {
			return nil, usagef("kafka: %v", err)
		}
		return b, nil
	}, nil
}

// redactObjects hides all that can hold a key, of a URL that CheckURL refuses for one or for another reason.
func redactObjects(text string) string {
	if objects.CheckURL(text) == nil {
		return text
	}
	place, _, more := strings.Cut(text, "?")
	if more {
		return redact(place) + "?" + hidden
	}
	return redact(place)
}

func (c Config) validateObjects() error {
	if err := objects.CheckURL(c.Objects); err != nil {
		return usagef("objects: %v", err)
	}
	if !schema.ValidName(c.Env) || objects.CheckKey(c.Env) != nil {
		return usagef("env %q: use 1 to 64 of the characters A-Z a-z 0-9 . _ -", c.Env)
	}
	return nil
}

func (c Config) validateKafka() error {
	k := c.Kafka
	for _, address := range k.Brokers {
		if host, port, err := net.SplitHostPort(address); err != nil || host == "" || port == "" {
			return usagef("kafka.brokers %q: use host:port, as in 127.0.0.1:9092", address)
		}
	}
	return errors.Join(k.checkTLS(), k.checkSASL())
}

func (k KafkaConfig) checkTLS() error {
	switch {
	case !k.TLS && (k.TLSCA != "" || k.TLSCert != "" || k.TLSKey != ""):
		return usagef("kafka.tls_* is given, but kafka.tls is off: add --kafka-tls")
	case (k.TLSCert == "") != (k.TLSKey == ""):
		return usagef("kafka.tls_cert and kafka.tls_key belong together: give both")
	}
	return nil
}

func (k KafkaConfig) checkSASL() error {
	switch {
	case k.SASL == "" && (k.User != "" || k.Password != ""):
		return usagef("kafka.user and kafka.password need kafka.sasl: use %s", strings.Join(mechanisms, ", "))
	case k.SASL == "":
		return nil
	case !slices.Contains(mechanisms, k.SASL):
		return usagef("kafka.sasl %q: use %s", k.SASL, strings.Join(mechanisms, ", "))
	case k.User == "" || k.Password == "":
		return usagef("kafka.sasl needs kafka.user (--kafka-user) and kafka.password (FIRSTSEEN_KAFKA__PASSWORD or ..._FILE)")
	case k.SASL == "plain" && !k.TLS:
		return usagef("kafka.sasl plain sends the password as it is: add --kafka-tls, or use scram-sha-512")
	}
	return nil
}
