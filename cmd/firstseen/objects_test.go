package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/firstseen/firstseen/internal/broker"
)

func TestObjectStoreAndKafkaAreConfigured(t *testing.T) {
	t.Parallel()
	password := write(t, "password", "hush-hush\n")
	out, errs, code := firstseen(t, []string{"KAFKA_BROKERS=k1:9092,k2:9092", "FIRSTSEEN_KAFKA__SASL=scram-sha-512",
		"FIRSTSEEN_KAFKA__USER=ship", "FIRSTSEEN_KAFKA__PASSWORD_FILE=" + password, "FIRSTSEEN_ENV=staging",
		"FIRSTSEEN_OBJECTS=s3://bucket/blocks?endpoint=https://s3.example:9000"}, "config", "dump")
	if code != exitOK || strings.Contains(out, "hush-hush") {
		t.Fatal(code, errs, out)
	}
	for _, want := range []string{"env: staging", "objects: s3://bucket/blocks?endpoint=https://s3.example:9000", "- k1:9092",
		"- k2:9092", "password: " + hidden, "sasl: scram-sha-512"} {
		if !strings.Contains(out, want) {
			t.Errorf("the dump lacks %q:\n%s", want, out)
		}
	}
	out, _, _ = firstseen(t, nil, "config", "dump")
	for _, want := range []string{"env: main", "objects: file:firstseen-objects", "brokers: []"} {
		if !strings.Contains(out, want) {
			t.Errorf("the defaults lack %q:\n%s", want, out)
		}
	}
	for _, url := range []string{"s3://key:hush-hush@bucket", "s3://bucket?endpoint=http://key:hush-hush@h", "s3://bucket?secret=hush-hush"} {
		out, _, _ = firstseen(t, []string{"FIRSTSEEN_OBJECTS=" + url}, "config", "dump")
		if strings.Contains(out, "hush-hush") {
			t.Errorf("a secret where none may be is shown:\n%s", out)
		}
	}
}

func TestWrongReplicaSettingsAreOneLineThatNamesTheFix(t *testing.T) {
	t.Parallel()
	sasl := []string{"FIRSTSEEN_KAFKA__SASL=plain", "FIRSTSEEN_KAFKA__USER=u", "FIRSTSEEN_KAFKA__PASSWORD=p"}
	for _, test := range []struct {
		environ []string
		want    string
	}{
		{[]string{"FIRSTSEEN_OBJECTS=gs://bucket"}, "s3://bucket/prefix"},
		{[]string{"FIRSTSEEN_OBJECTS=s3://key:hush@bucket"}, "AWS_ACCESS_KEY_ID"},
		{[]string{"FIRSTSEEN_ENV=a/b"}, "A-Z a-z 0-9"},
		{[]string{"KAFKA_BROKERS=localhost"}, "host:port"},
		{[]string{"FIRSTSEEN_KAFKA__TLS_CA=ca.pem"}, "--kafka-tls"},
		{[]string{"FIRSTSEEN_KAFKA__TLS=true", "FIRSTSEEN_KAFKA__TLS_CERT=cert.pem"}, "kafka.tls_key"},
		{[]string{"FIRSTSEEN_KAFKA__SASL=gssapi"}, "scram-sha-512"},
		{[]string{"FIRSTSEEN_KAFKA__SASL=scram-sha-256"}, "FIRSTSEEN_KAFKA__PASSWORD"},
		{[]string{"FIRSTSEEN_KAFKA__PASSWORD=p"}, "kafka.sasl"},
		{sasl, "--kafka-tls"},
	} {
		_, errs, code := firstseen(t, test.environ, "config", "validate")
		if code != exitUsage || !strings.Contains(errs, test.want) || strings.Count(errs, "\n") != 1 || strings.Contains(errs, "hush") {
			t.Errorf("%v: exit %d, want one line that names %q:\n%s", test.environ, code, test.want, errs)
		}
	}
	if out, errs, code := firstseen(t, append(slices.Clone(sasl), "FIRSTSEEN_KAFKA__TLS=true"), "config", "validate"); code != exitOK {
		t.Error(code, out, errs)
	}
}

func replicaParts(t *testing.T, c Config) *parts {
	t.Helper()
	log, err := newLog(c.Log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	p := &parts{config: c, log: log, registry: prometheus.NewRegistry()}
	t.Cleanup(func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestObjectsAndHintsAreOpenedAsConfigured(t *testing.T) { // sets the environment of the AWS SDK, so not in parallel
	c := defaults()
	c.Objects = "file:" + t.TempDir() + "/objects"
	p := replicaParts(t, c)
	s, err := p.openObjects(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := s.List(t.Context(), "", "", 10); err != nil || len(keys) > 0 {
		t.Errorf("a store that was only tested holds %v, %v", keys, err)
	}
	if b, err := p.openBroker("main"); err != nil || b != (broker.None{}) {
		t.Errorf("without brokers there is %v, %v", b, err)
	}
	c.Kafka.Brokers = []string{"127.0.0.1:1"}
	b, err := replicaParts(t, c).openBroker("main")
	if err != nil || !strings.Contains(b.String(), "main-main-feed at 127.0.0.1:1") {
		t.Errorf("with one there is %v, %v", b, err)
	}
	c.Objects = "s3://bucket?endpoint=http://127.0.0.1:1"
	if _, err := replicaParts(t, c).openObjects(t.Context(), false); err != nil {
		t.Errorf("a reader waits for its store, but: %v", err)
	}
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "hush")
	_, err = replicaParts(t, c).openObjects(t.Context(), true)
	if err == nil || !strings.Contains(err.Error(), "--objects") || !strings.Contains(err.Error(), "127.0.0.1:1") {
		t.Errorf("a writer learns of a store that is down by: %v", err)
	}
}
