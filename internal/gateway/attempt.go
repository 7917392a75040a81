package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"
)

// maxRetryAfter bounds for how long a node can ask to be left alone.
const maxRetryAfter = 5 * time.Minute

// statusError is a node's HTTP status other than 200.
type statusError struct {
	code  int
	after time.Duration
}

func (e *statusError) Error() string { return fmt.Sprintf("HTTP status %d", e.code) }

// RetryAfter is for how long the node asked to be left alone; 0: it did not.
func (e *statusError) RetryAfter() time.Duration { return e.after }

// attempt asks one node one thing and reads all of its answer. An error's text holds nothing of the node's address.
func (g *Gateway) attempt(ctx context.Context, c *call, at candidate, body []byte, mem *allowance) (answer, error) {
	start := time.Now()
	at.busy.Add(1)
	header := at.header
	if c.class == once {
		header = at.headerOnce
	}
	a, err := g.exchange(ctx, at.node, header, body, mem)
	at.busy.Add(-1)
	a.node = at.name
	if err != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return a, context.Canceled // another attempt was quicker, or the caller went: nobody's fault
	}
	g.metrics.attempt(at.node, c.Method, time.Since(start), err)
	if !errors.Is(err, errTooLarge) { // which is the question's fault as a rule
		g.opts.Pool.Report(at.name, err)
	}
	return a, err
}

func (g *Gateway) exchange(ctx context.Context, n *node, header http.Header, body []byte, mem *allowance) (
	answer, error) {
	fresh := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "", nil)
	if err != nil {
		return answer{}, err
	}
	req.URL, req.Host, req.Header = n.url, n.url.Host, header
	req.ContentLength, req.GetBody = int64(len(body)), fresh
	req.Body, _ = fresh()
	resp, err := g.transport.RoundTrip(req)
	if err != nil {
		return answer{}, clean(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		// What a node says beside a bad status is not worth reading, nor its connection keeping.
		return answer{}, &statusError{resp.StatusCode, retryAfter(resp.Header.Get("Retry-After"), g.opts.Now())}
	}
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return answer{}, errors.New("answer is compressed, which was not asked for")
	}
	text, err := readBody(ctx, resp, mem)
	if err != nil {
		return answer{}, clean(err)
	}
	a, err := readAnswer(text)
	if err == nil {
		err = mem.keep(int64(len(text)))
	}
	if err != nil {
		mem.give(int64(len(text)))
	}
	return a, err
}

// readBody reads an answer whole. It allocates for what a node announces only up to what any answer may have, and
// takes the rest from the allowance as it comes.
func readBody(ctx context.Context, resp *http.Response, mem *allowance) (text []byte, err error) {
	taken := int64(0)
	defer func() {
		if err != nil {
			mem.give(taken)
		} else {
			mem.give(taken - int64(len(text)))
		}
	}()
	size := int64(4 << 10)
	if resp.ContentLength > 0 {
		if resp.ContentLength >= mem.max {
			return nil, errTooLarge
		}
		size = min(resp.ContentLength+1, freeAnswer) // one more, so that the last read meets the end
	}
	for {
		if err := mem.take(ctx, taken, size-taken); err != nil {
			return nil, err
		}
		taken = size
		if int64(cap(text)) < size {
			text = append(make([]byte, 0, size), text...)
		}
		for int64(len(text)) < size {
			n, err := resp.Body.Read(text[len(text):size])
			text = text[:len(text)+n]
			if errors.Is(err, io.EOF) {
				return text, nil
			}
			if err != nil {
				return nil, err
			}
		}
		size *= 2
		if resp.ContentLength > 0 {
			size = min(size, resp.ContentLength+1)
		}
	}
}

// clean drops the URL that net/http puts into its errors, and with it the key that may be in there.
func clean(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		err = inURL.Err
	}
	return err
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

// sentinel watches whether a request may have reached a node: it has from the moment that there was a connection to
// write it to.
func sentinel(ctx context.Context) (context.Context, *atomic.Bool) {
	sent := new(atomic.Bool)
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { sent.Store(true) },
	}), sent
}
