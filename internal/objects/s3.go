package objects

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"
)

// bucket is a Store in a bucket that speaks the S3 API. Tags are ETags. Creating is a PutObject with If-None-Match: *,
// replacing one with If-Match.
type bucket struct {
	client   *s3.Client
	idle     func()
	place    place
	limit    int64
	timeout  time.Duration
	attempts int
}

const (
	attempts      = 3
	retryAfter    = 50 * time.Millisecond // doubles with each attempt; jitter adds as much again
	dialTimeout   = 5 * time.Second
	idleConns     = 64 // as many as a process may have in flight, so that none of them dials again each time
	defaultRegion = "us-east-1"
	mostListed    = 1000 // by one call of ListObjectsV2
)

func openS3(ctx context.Context, at place, o Options) (*bucket, error) {
	loads := []func(*config.LoadOptions) error{
		config.WithDefaultRegion(defaultRegion),
		config.WithHTTPClient(awshttp.NewBuildableClient()), // to which the SDK adds the authorities of AWS_CA_BUNDLE
		// Compatible servers know no other checksums than the signature's. What is stored here has its own.
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
		config.WithLogger(logging.Nop{}),                                   // what it would print is in the errors that matter
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }), // see try
	}
	if at.region != "" {
		loads = append(loads, config.WithRegion(at.region))
	}
	if o.Key != "" {
		loads = append(loads, config.WithCredentialsProvider(credentials.NewStaticCredentialsProvider(o.Key, o.Secret, "")))
	}
	cfg, err := config.LoadDefaultConfig(ctx, loads...)
	if err != nil {
		return nil, fmt.Errorf("object store: configuration of AWS: %w", err)
	}
	web := httpClient(cfg.HTTPClient, o.Timeout)
	b := &bucket{place: at, limit: o.Limit, timeout: o.Timeout, attempts: attempts, idle: web.CloseIdleConnections}
	b.client = s3.NewFromConfig(cfg, func(s *s3.Options) {
		s.HTTPClient = web
		if at.endpoint != "" {
			s.BaseEndpoint, s.UsePathStyle = aws.String(at.endpoint), true
		}
	})
	return b, nil
}

// httpClient is the SDK's own with limits. It follows no redirects: they lead to buckets of another region, which is
// for the configuration to say.
func httpClient(sdk aws.HTTPClient, timeout time.Duration) *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if own, ok := sdk.(*awshttp.BuildableClient); ok {
		transport = own.WithDialerOptions(func(d *net.Dialer) { d.Timeout = dialTimeout }).GetTransport()
	}
	transport.MaxIdleConnsPerHost = idleConns
	transport.ResponseHeaderTimeout = timeout / attempts // so that one that hangs leaves time for another
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func (b *bucket) String() string {
	name := "s3://" + b.place.bucket
	if b.place.prefix != "" {
		name += "/" + b.place.prefix
	}
	if b.place.endpoint != "" {
		name += " at " + b.place.endpoint
	}
	return name
}

func (b *bucket) Close() error {
	b.idle()
	return nil
}

func (b *bucket) name(key string) string {
	if b.place.prefix == "" {
		return key
	}
	return b.place.prefix + "/" + key
}

// try makes up to three attempts at call, for as long as they fail in ways that may pass, such as an overloaded server
// or a lost connection. What lasts longer is for the callers, who know how long they can wait.
func (b *bucket) try(ctx context.Context, verb, key string, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	delay := retryAfter
	for left := b.attempts - 1; ; left-- {
		err := call(ctx)
		if err == nil {
			return nil
		}
		if left == 0 || !mayPass(err) || !pause(ctx, delay+rand.N(delay)) {
			return fmt.Errorf("%s %s in %s: %w", verb, key, b, b.explain(ctx, err))
		}
		delay *= 2
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

func (b *bucket) Get(ctx context.Context, key string) (body []byte, tag string, err error) {
	if err := CheckKey(key); err != nil {
		return nil, "", err
	}
	err = b.try(ctx, "get", key, func(ctx context.Context) error {
		body, tag, err = b.get(ctx, key)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	return body, tag, nil
}

func (b *bucket) get(ctx context.Context, key string) ([]byte, string, error) {
	out, err := b.client.GetObject(ctx, &s3.GetObjectInput{Bucket: &b.place.bucket, Key: aws.String(b.name(key))})
	if err != nil {
		return nil, "", err
	}
	defer out.Body.Close()
	if size := aws.ToInt64(out.ContentLength); size > b.limit {
		return nil, "", fmt.Errorf("%w: %d bytes", ErrTooLarge, size)
	}
	var body bytes.Buffer
	body.Grow(int(aws.ToInt64(out.ContentLength)) + bytes.MinRead) // within the limit, and read without growing
	if _, err := io.Copy(&body, io.LimitReader(out.Body, b.limit+1)); err != nil {
		return nil, "", err
	}
	if int64(body.Len()) > b.limit {
		return nil, "", fmt.Errorf("%w: more than %d bytes", ErrTooLarge, b.limit)
	}
	return body.Bytes(), aws.ToString(out.ETag), nil
}

func (b *bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	_, err := b.put(ctx, "create", key, body, "")
	if errors.Is(err, ErrConflict) {
		err = fmt.Errorf("create %s in %s: %w", key, b, ErrExists)
	}
	return err
}

func (b *bucket) Replace(ctx context.Context, key string, body []byte, tag string) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", err
	}
	return b.put(ctx, "replace", key, body, tag)
}

// put stores an object in the place of the one with the tag; the empty tag stands for none.
func (b *bucket) put(ctx context.Context, verb, key string, body []byte, tag string) (newTag string, err error) {
	in := &s3.PutObjectInput{Bucket: &b.place.bucket, Key: aws.String(b.name(key))}
	if tag == "" {
		in.IfNoneMatch = aws.String("*")
	} else {
		in.IfMatch = &tag
	}
	tried := false
	err = b.try(ctx, verb, key, func(ctx context.Context) error {
		in.Body = bytes.NewReader(body)
		out, err := b.client.PutObject(ctx, in)
		if err == nil {
			newTag = aws.ToString(out.ETag)
			return nil
		}
		if tried && isConflict(err) {
			// An attempt whose answer was lost may have stored it, and is what this one conflicts with.
			if now, is, err := b.get(ctx, key); err == nil && bytes.Equal(now, body) {
				newTag = is
				return nil
			}
		}
		tried = true
		return err
	})
	switch {
	case errors.Is(err, ErrNotFound): // the answer to If-Match where there is nothing to match
		return "", fmt.Errorf("%s %s in %s: %w", verb, key, b, ErrConflict)
	case err == nil && newTag == "":
		return "", fmt.Errorf("%s %s in %s: %w: it answered without an ETag", verb, key, b, ErrUnconditional)
	}
	return newTag, err
}

func (b *bucket) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	err := b.try(ctx, "delete", key, func(ctx context.Context) error {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.place.bucket, Key: aws.String(b.name(key))})
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil // S3 itself does not tell
	}
	return err
}

func (b *bucket) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	var keys []string
	for {
		page, more, err := b.page(ctx, prefix, after, limit-len(keys))
		if err != nil {
			return nil, err
		}
		for _, key := range page {
			if CheckKey(key) == nil { // not ours otherwise
				keys = append(keys, key)
			}
		}
		if !more || len(page) == 0 || len(keys) >= limit {
			return keys, nil
		}
		after = page[len(page)-1]
	}
}

// page lists some keys after one, and tells whether there are more.
func (b *bucket) page(ctx context.Context, prefix, after string, limit int) (keys []string, more bool, err error) {
	own := b.name("")
	in := &s3.ListObjectsV2Input{
		Bucket: &b.place.bucket, Prefix: aws.String(own + prefix), MaxKeys: aws.Int32(int32(min(limit, mostListed))),
	}
	if after != "" {
		in.StartAfter = aws.String(own + after)
	}
	err = b.try(ctx, "list", prefix, func(ctx context.Context) error {
		keys = nil
		out, err := b.client.ListObjectsV2(ctx, in)
		if err != nil {
			return err
		}
		more = aws.ToBool(out.IsTruncated)
		for _, o := range out.Contents {
			keys = append(keys, strings.TrimPrefix(aws.ToString(o.Key), own))
		}
		return nil
	})
	return keys, more, err
}
