package nodepool

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// errTooLarge reports an answer of a node beyond Options.MaxAnswer.
var errTooLarge = errors.New("answer too large")

// maxRetryAfter bounds for how long a node can ask to be left alone.
const maxRetryAfter = 5 * time.Minute

// statusError is an HTTP status other than 2xx.
type statusError struct {
	code       int
	retryAfter time.Duration // 0: not said
}

// RetryAfter is for how long the node asks to be left alone; 0: it did not say.
func (e *statusError) RetryAfter() time.Duration { return e.retryAfter }

func (e *statusError) Error() string {
	if e.retryAfter > 0 {
		return fmt.Sprintf("HTTP status %d, retry after %s", e.code, e.retryAfter)
	}
	return fmt.Sprintf("HTTP status %d", e.code)
}

// guard is a RoundTripper for answers from nodes that may be broken or hostile: it refuses what is not 2xx and cuts off
// bodies at max bytes, counted after decompression, so that a small gzip cannot become a large answer. Slow bodies are
// ended by the deadline that each call has.
type guard struct {
	next http.RoundTripper
	max  int64
	now  func() time.Time
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		resp.Body.Close() // unread: the connection is not worth what the body may cost
		return nil, &statusError{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), g.now())}
	}
	if resp.ContentLength > g.max {
		resp.Body.Close()
		return nil, fmt.Errorf("%w: %d bytes, at most %d", errTooLarge, resp.ContentLength, g.max)
	}
	resp.Body = &cappedBody{resp.Body, g.max}
	return resp, nil
}

// retryAfter reads the header of RFC 9110, section 10.2.3: seconds or a date.
func retryAfter(header string, now time.Time) time.Duration {
	var d time.Duration
	if s, err := strconv.ParseUint(header, 10, 31); err == nil {
		d = time.Duration(s) * time.Second
	} else if at, err := http.ParseTime(header); err == nil {
		d = at.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// cappedBody fails, rather than ends, after left bytes: a cut answer must not pass for a whole one.
type cappedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *cappedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLarge
	}
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLarge
	}
	return n, err
}
