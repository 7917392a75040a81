package testenv

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"path"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestEachPlaceInTheObjectStoreIsItsOwn(t *testing.T) {
	t.Parallel()
	places := [...]string{S3(t), S3(t)}
	if places[0] == places[1] {
		t.Fatalf("two tests were given %s", places[0])
	}
	for _, place := range places {
		at, err := url.Parse(place)
		if err != nil {
			t.Fatal(err)
		}
		client := s3.New(s3.Options{Region: "us-east-1", UsePathStyle: true, BaseEndpoint: aws.String(at.Query().Get("endpoint")),
			Credentials: credentials.NewStaticCredentialsProvider(S3Key(), S3Secret(), "")})
		list := func() int {
			out, err := client.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &at.Host, Prefix: aws.String(at.Path[1:] + "/")})
			if err != nil {
				t.Fatal(err)
			}
			return len(out.Contents)
		}
		if n := list(); n != 0 {
			t.Errorf("%s holds %d objects", place, n)
		}
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: &at.Host, Key: aws.String(path.Join(at.Path[1:], "a/b"))}); err != nil {
			t.Fatal(err)
		}
		if n := list(); n != 1 {
			t.Errorf("%s holds %d objects after one was written", place, n)
		}
	}
}

func TestWhatIsWrittenToTheBrokerIsRead(t *testing.T) {
	t.Parallel()
	topic := "testenv-" + rand.Text()
	client, err := kgo.NewClient(kgo.SeedBrokers(Kafka(t)), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Value: []byte("text")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	Eventually(t, func() error {
		for _, r := range client.PollFetches(t.Context()).Records() {
			if string(r.Value) == "text" {
				return nil
			}
		}
		return fmt.Errorf("nothing read")
	})
}
