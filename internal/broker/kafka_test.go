package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/firstseen/firstseen/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster starts an imitation of Kafka, with the topic "t" unless told otherwise.
func cluster(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	c, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func withTopic() kfake.Opt { return kfake.SeedTopics(1, "t") }

func newKafka(t *testing.T, o KafkaOptions) *Kafka {
	t.Helper()
	if o.Topic == "" {
		o.Topic = "t"
	}
	k, err := NewKafka(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

// ear hears hints until its test ends.
type ear struct {
	mu    sync.Mutex
	heard []Pointer // guarded by mu
}

func listen(t *testing.T, k Broker) *ear {
	t.Helper()
	e := &ear{}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		if err := k.Listen(ctx, e.hear); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return e
}

func (e *ear) hear(p Pointer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.heard = append(e.heard, p)
}

func (e *ear) has(p Pointer) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, h := range e.heard {
		if h == p {
			return true
		}
	}
	return false
}

func counted(t *testing.T, c prometheus.Metric) float64 {
	t.Helper()
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

func hint(n uint64) Pointer {
	return Pointer{First: n, Last: n, Epoch: 1, Key: fmt.Sprintf("main/main/feed/%012d", n)}
}

// wantHeard tells hints until one of them is heard: who begins to listen hears what is told from some moment on. Each
// call's hints are beyond any other's.
func wantHeard(t *testing.T, teller Broker, e *ear, after uint64) {
	t.Helper()
	n := after
	testenv.Eventually(t, func() error {
		n++
		teller.Tell(t.Context(), hint(n))
		for i := after + 1; i <= n; i++ {
			if e.has(hint(i)) {
				return nil
			}
		}
		return errors.New("no hint was heard")
	})
}

func TestHintsReachWhoListens(t *testing.T) {
	t.Parallel()
	addr := testenv.Kafka(t)
	o := KafkaOptions{Brokers: []string{addr}, Topic: fmt.Sprintf("test-%d", time.Now().UnixNano())}
	teller, near, far := newKafka(t, o), newKafka(t, o), newKafka(t, o)
	first, second := listen(t, near), listen(t, far)
	wantHeard(t, teller, first, 0)
	wantHeard(t, teller, second, 10_000)
	if s := teller.String(); !strings.Contains(s, addr) || !strings.Contains(s, o.Topic) {
		t.Errorf("the broker is called %q", s)
	}
}

func TestTopicMayComeLater(t *testing.T) {
	t.Parallel()
	c := cluster(t)
	log, entries := test.NewNullLogger()
	o := KafkaOptions{Brokers: c.ListenAddrs(), Log: log}
	teller, e := newKafka(t, o), listen(t, newKafka(t, o))
	teller.Tell(t.Context(), hint(1))
	testenv.Eventually(t, func() error { return warned(entries, "no hints come", "do not reach") })
	if err := c.CreateTopic("t", 1, nil); err != nil {
		t.Fatal(err)
	}
	wantHeard(t, teller, e, 1)
}

func warned(entries *test.Hook, words ...string) error {
	var all []string
	for _, entry := range entries.AllEntries() {
		if entry.Level == logrus.WarnLevel {
			all = append(all, entry.Message)
		}
	}
	for _, word := range words {
		if !strings.Contains(strings.Join(all, "\n"), word) {
			return fmt.Errorf("no warning says %q: %q", word, all)
		}
	}
	return nil
}

func TestBrokerMayRestart(t *testing.T) {
	t.Parallel()
	c := cluster(t, withTopic())
	o := KafkaOptions{Brokers: c.ListenAddrs()}
	teller, e := newKafka(t, o), listen(t, newKafka(t, o))
	wantHeard(t, teller, e, 0)
	c.Close()
	for n := range uint64(100) {
		teller.Tell(t.Context(), hint(100_000+n))
	}
	_, port, err := net.SplitHostPort(o.Brokers[0])
	if err != nil {
		t.Fatal(err)
	}
	var number int
	if _, err := fmt.Sscan(port, &number); err != nil {
		t.Fatal(err)
	}
	cluster(t, withTopic(), kfake.Ports(number))
	wantHeard(t, teller, e, 200_000)
}

func TestRetentionDoesNotMatter(t *testing.T) {
	t.Parallel()
	c := cluster(t, withTopic())
	o := KafkaOptions{Brokers: c.ListenAddrs()}
	teller, e := newKafka(t, o), listen(t, newKafka(t, o))
	for n := range uint64(3) {
		wantHeard(t, teller, e, 10_000*n)
		if err := c.DeleteRecords("t", 0, -1); err != nil {
			t.Fatal(err)
		}
	}
	late := listen(t, newKafka(t, o))
	wantHeard(t, teller, late, 50_000)
}

func TestForeignMessagesAreNoHints(t *testing.T) {
	t.Parallel()
	c := cluster(t, withTopic())
	reg := prometheus.NewRegistry()
	listening := newKafka(t, KafkaOptions{Brokers: c.ListenAddrs(), Registerer: reg})
	teller, e := newKafka(t, KafkaOptions{Brokers: c.ListenAddrs()}), listen(t, listening)
	wantHeard(t, teller, e, 0)
	client, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	foreign := []string{"", "{", "null", `{"first":9,"last":8}`, `{"first":-1}`, `"` + strings.Repeat("x", mostHint) + `"`}
	for _, value := range foreign {
		if err := client.ProduceSync(t.Context(), kgo.StringRecord(value)).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	wantHeard(t, teller, e, 10_000)
	if n := counted(t, listening.metrics.foreign); n != float64(len(foreign)) {
		t.Errorf("%v of %d foreign messages were counted", n, len(foreign))
	}
}

func TestLogin(t *testing.T) {
	t.Parallel()
	for mechanism, theirs := range map[string]string{
		"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512",
	} {
		t.Run(mechanism, func(t *testing.T) {
			t.Parallel()
			c := cluster(t, withTopic(), kfake.EnableSASL(), kfake.Superuser(theirs, "ship", "secret-enough"))
			o := KafkaOptions{Brokers: c.ListenAddrs(), SASL: SASL{mechanism, "ship", "secret-enough"}}
			wantHeard(t, newKafka(t, o), listen(t, newKafka(t, o)), 0)

			log, entries := test.NewNullLogger()
			log.SetFormatter(&logrus.JSONFormatter{})
			o.Log, o.SASL.Password = log, "wrong-hush"
			listen(t, newKafka(t, o))
			newKafka(t, o).Tell(t.Context(), hint(1))
			testenv.Eventually(t, func() error { return warned(entries, "no hints come", "do not reach") })
			for _, entry := range entries.AllEntries() {
				if line, err := entry.String(); err != nil || strings.Contains(line, "hush") {
					t.Errorf("the log tells the password, or nothing: %s, %v", line, err)
				}
			}
		})
	}
	if _, err := NewKafka(KafkaOptions{Brokers: []string{"127.0.0.1:1"}, SASL: SASL{Mechanism: "gssapi"}}); err == nil {
		t.Error("an unknown mechanism is no error")
	}
}

func TestTLSWithClientCertificate(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	c := cluster(t, withTopic(), kfake.TLS(&tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{ca.Pair(testenv.Leaf{Hosts: []string{"127.0.0.1"}})},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	}))
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: ca.Pool(), Certificates: []tls.Certificate{ca.Pair(testenv.Leaf{})}}
	o := KafkaOptions{Brokers: c.ListenAddrs(), TLS: func(name string) *tls.Config {
		named := config.Clone()
		named.ServerName = name
		return named
	}}
	wantHeard(t, newKafka(t, o), listen(t, newKafka(t, o)), 0)

	log, entries := test.NewNullLogger()
	o.TLS, o.Log = nil, log
	listen(t, newKafka(t, o))
	testenv.Eventually(t, func() error { return warned(entries, "no hints come") })
}

func TestTellingABrokerThatHangsBlocksNobody(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { // reads, never answers
				_, _ = io.Copy(io.Discard, conn)
				conn.Close()
			})
		}
	})
	k := newKafka(t, KafkaOptions{Brokers: []string{listener.Addr().String()}, Registerer: prometheus.NewRegistry()})
	t.Cleanup(func() { // after k is closed, which ends the connections
		listener.Close()
		conns.Wait()
	})
	const hints = 1000
	for n := range uint64(hints) {
		k.Tell(t.Context(), hint(n+1))
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	replaced := counted(t, k.metrics.told.WithLabelValues("replaced"))
	failed := counted(t, k.metrics.told.WithLabelValues("failed"))
	if replaced+failed != hints || failed > 2 {
		t.Errorf("%v hints were replaced and %v failed, of %d", replaced, failed, hints)
	}
	k.Tell(t.Context(), hint(1)) // does nothing, as it is closed
}

func TestNoneHearsNothing(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	None{}.Tell(ctx, hint(1))
	if err := (None{}).Listen(ctx, func(Pointer) { t.Error("heard something") }); err != nil {
		t.Error(err)
	}
}

func TestOneProcessMayHaveSeveral(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	o := KafkaOptions{Brokers: []string{"127.0.0.1:1"}, Registerer: reg}
	first, second := newKafka(t, o), newKafka(t, o)
	first.metrics.heard.Inc()
	if n := counted(t, second.metrics.heard); n != 1 {
		t.Errorf("they count apart: %v", n)
	}
}

func TestTopicNeedsNames(t *testing.T) {
	t.Parallel()
	if topic, err := Topic("main", "eth"); err != nil || topic != "main-eth-feed" {
		t.Errorf("topic is %q, %v", topic, err)
	}
	for _, bad := range [][2]string{{"", "a"}, {"a", ""}, {"a/b", "c"}} {
		if _, err := Topic(bad[0], bad[1]); err == nil {
			t.Errorf("%q is no error", bad)
		}
	}
}
