package testenv

import (
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
)

// The variables that name what replicas are shipped through.
const (
	s3Variable       = "FIRSTSEEN_TEST_S3_URL" // s3://bucket?endpoint=http://host:port
	s3KeyVariable    = "FIRSTSEEN_TEST_S3_KEY"
	s3SecretVariable = "FIRSTSEEN_TEST_S3_SECRET"
	gatewayVariable  = "FIRSTSEEN_TEST_VERSITYGW" // path of the executable
	kafkaVariable    = "FIRSTSEEN_TEST_KAFKA"     // host:port
)

// S3 returns the URL of a place in a bucket where nobody has written before: s3://bucket/prefix?endpoint=…. S3Key and
// S3Secret open it.
func S3(t testing.TB) string {
	t.Helper()
	place, err := url.Parse(need(t, s3Variable, "an object store that speaks S3"))
	if err != nil || place.Scheme != "s3" {
		t.Fatalf("%s is not a URL like s3://bucket?endpoint=http://127.0.0.1:7070", s3Variable)
	}
	return place.JoinPath("test-" + strings.ToLower(rand.Text()[:12])).String()
}

// S3Key is the access key ID of those who may write where S3 says.
func S3Key() string { return os.Getenv(s3KeyVariable) }

// S3Secret is the secret that belongs to S3Key.
func S3Secret() string { return os.Getenv(s3SecretVariable) }

// S3Environ is what a process needs in its environment to write where S3 says.
func S3Environ() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + S3Key(), "AWS_SECRET_ACCESS_KEY=" + S3Secret()}
}

// Versitygw returns the path of a versitygw executable, for tests that stop their object store.
func Versitygw(t testing.TB) string {
	t.Helper()
	path := need(t, gatewayVariable, "a versitygw executable")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v", gatewayVariable, err)
	}
	return path
}

// Kafka returns the address of a broker: Apache Kafka where there is one, else an imitation in this process, which the
// test's log says. Topics are made when they are first written to; each test has to choose names of its own.
func Kafka(t testing.TB) string {
	t.Helper()
	if addr := os.Getenv(kafkaVariable); addr != "" {
		return addr
	}
	t.Logf("%s is empty: an imitation stands in for Apache Kafka; `make test` starts the real one where Java is", kafkaVariable)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DefaultNumPartitions(1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0]
}
