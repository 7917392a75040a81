package ethrpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/ethereum/go-ethereum/common/hexutil"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

// upstream is who is asked what cannot be answered here.
type upstream struct {
	url     string
	client  *http.Client
	slots   chan struct{} // an element for each call under way; with none left, calls are refused
	timeout time.Duration
	most    int64
	chain   atomic.Uint64 // its own, 0 until it was asked
}

// upstreamID is the id under which the upstream is asked: one question, one connection.
const upstreamID = "1"

func newUpstream(o Options) (*upstream, error) {
	u, err := url.Parse(o.Upstream)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("ethrpc: the upstream must be a URL of http or https") // without it: it may hold a secret
	}
	return &upstream{
		url: o.Upstream, slots: make(chan struct{}, o.UpstreamCalls), timeout: o.UpstreamTimeout, most: o.MaxAnswer,
		client: &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: o.UpstreamCalls, IdleConnTimeout: time.Minute,
				ForceAttemptHTTP2: true,
			},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// pass has the upstream answer a call. It is told how high this view's chain is: a gateway then asks nobody who has less.
func (v *View) pass(ctx context.Context, c *jsonrpc.Call) (result, failure []byte, err error) {
	if v.problem != nil {
		return nil, nil, v.problem
	}
	u := v.s.upstream
	select {
	case u.slots <- struct{}{}:
		defer func() { <-u.slots }()
	default:
		return nil, nil, jsonrpc.Errorf(jsonrpc.CodeLimit, "too many calls are under way to the upstream")
	}
	ctx, cancel := context.WithTimeout(ctx, u.timeout)
	defer cancel()
	err = u.compare(ctx, v.chain.Chain)
	var a jsonrpc.Answer
	if err == nil {
		a, err = u.ask(ctx, c, v.chain.Head.Number)
	}
	var shown *jsonrpc.Error
	if err != nil && !errors.As(err, &shown) {
		v.s.log.WithError(clean(err)).WithField("method", c.Method).Info("the upstream did not answer")
		err = jsonrpc.Errorf(jsonrpc.CodeUnavailable, "the upstream that is asked for this did not answer")
	}
	return a.Result, a.Failure, err
}

// compare makes sure that the upstream is on the chain: it is asked once.
func (u *upstream) compare(ctx context.Context, chain uint64) error {
	theirs := u.chain.Load()
	if theirs == 0 {
		a, err := u.ask(ctx, &jsonrpc.Call{Method: "eth_chainId"}, 0)
		if err != nil {
			return err
		}
		id, err := hexutil.DecodeUint64(string(jsonrpc.Unquote(a.Result)))
		if err != nil {
			return fmt.Errorf("its chain id: %w", err)
		}
		theirs = id
		u.chain.Store(id)
	}
	if theirs != chain {
		return jsonrpc.Errorf(jsonrpc.CodeUnavailable, "the upstream that is asked for this is on chain %d, not %d", theirs, chain)
	}
	return nil
}

func (u *upstream) ask(ctx context.Context, c *jsonrpc.Call, height uint64) (jsonrpc.Answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, u.url, bytes.NewReader(c.Encode([]byte(upstreamID))))
	if err != nil {
		return jsonrpc.Answer{}, err
	}
	r.Header.Set("Content-Type", "application/json")
	if height > 0 {
		r.Header.Set("X-Min-Height", strconv.FormatUint(height, 10))
	}
	resp, err := u.client.Do(r)
	if err != nil {
		return jsonrpc.Answer{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return jsonrpc.Answer{}, fmt.Errorf("HTTP status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, u.most+1))
	switch {
	case err != nil:
		return jsonrpc.Answer{}, err
	case int64(len(text)) > u.most:
		return jsonrpc.Answer{}, errors.New("answer too large")
	}
	return jsonrpc.ReadAnswer(text, upstreamID)
}

// clean drops the URL that net/http puts into its errors, and with it the key that may be in there.
func clean(err error) error {
	var inURL *url.Error
	if errors.As(err, &inURL) {
		return inURL.Err
	}
	return err
}
