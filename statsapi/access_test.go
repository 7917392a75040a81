package statsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/coder/websocket"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/schema"
)

// ring is a store of access keys that can be down.
type ring struct {
	mu    sync.Mutex
	keys  map[string]schema.AccessKey
	down  bool
	asked int
}

func (r *ring) LookupKey(_ context.Context, id string) (schema.AccessKey, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if r.down {
		return schema.AccessKey{}, false, errSecret
	}
	k, ok := r.keys[id]
	return k, ok, nil
}

func (r *ring) mint(t testing.TB, scope schema.KeyScope) keys.Token {
	t.Helper()
	observer := ""
	if scope == schema.ScopeObserve {
		observer = "alice"
	}
	k, token, err := keys.Mint(scope, observer, "")
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.keys == nil {
		r.keys = map[string]schema.AccessKey{}
	}
	r.keys[k.ID] = k
	return token
}

func (r *ring) revoke(token keys.Token, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.keys[token.ID()]
	k.RevokedAt = &at
	r.keys[token.ID()] = k
}

func (r *ring) fail(down bool) { r.mu.Lock(); defer r.mu.Unlock(); r.down = down }

func TestOnlyKeysThatMayReadOpenAClosedAPI(t *testing.T) {
	t.Parallel()
	r := &ring{}
	good, observer, revoked := r.mint(t, schema.ScopeRead), r.mint(t, schema.ScopeObserve), r.mint(t, schema.ScopeRead)
	r.revoke(revoked, epoch)
	s := serve(t, Options{Store: newWorld(t).store, Access: Access{Mode: AccessKeys, Keys: r}})
	_, other, err := keys.Mint(schema.ScopeRead, "", "")
	if err != nil {
		t.Fatal(err)
	}
	wrong := good.Reveal()[:len(good.Reveal())-1] + "2"
	if wrong == good.Reveal() {
		wrong = good.Reveal()[:len(good.Reveal())-1] + "3"
	}
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"none", nil, http.StatusUnauthorized},
		{"good", []string{"Authorization", "Bearer " + good.Reveal()}, http.StatusOK},
		{"good, scheme in other letters", []string{"Authorization", "bearer  " + good.Reveal()}, http.StatusOK},
		{"good, in the other header", []string{"X-Api-Key", good.Reveal()}, http.StatusOK},
		{"good, as a subprotocol", []string{"Sec-WebSocket-Protocol", "firstseen.v1, firstseen.bearer." + good.Reveal()}, http.StatusOK},
		{"scheme of somebody else", []string{"Authorization", "Basic eDp5"}, http.StatusUnauthorized},
		{"empty", []string{"Authorization", "Bearer "}, http.StatusUnauthorized},
		{"no key", []string{"Authorization", "Bearer x"}, http.StatusUnauthorized},
		{"wrong secret", []string{"Authorization", "Bearer " + wrong}, http.StatusUnauthorized},
		{"unknown", []string{"Authorization", "Bearer " + other.Reveal()}, http.StatusUnauthorized},
		{"revoked", []string{"Authorization", "Bearer " + revoked.Reveal()}, http.StatusUnauthorized},
		{"an observer's", []string{"Authorization", "Bearer " + observer.Reveal()}, http.StatusForbidden},
	} {
		for _, path := range []string{"/v1/stats", "/_cat/clients", "/blocks", "/metrics"} {
			got := s.do(http.MethodGet, path, c.header...)
			if got.StatusCode != c.status {
				t.Errorf("%s, %s: %d %s", c.name, path, got.StatusCode, got.body)
			}
			if challenge := got.Header.Get("WWW-Authenticate"); (challenge != "") != (c.status == http.StatusUnauthorized) {
				t.Errorf("%s: status %d, challenge %q", c.name, got.StatusCode, challenge)
			}
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/openapi.json"} {
		if got := s.get(path); got.StatusCode != http.StatusOK {
			t.Errorf("%s needs a key: %d", path, got.StatusCode)
		}
	}
	preflight := s.do(http.MethodOptions, "/blocks", "Origin", "https://a.example", "Access-Control-Request-Method", "GET")
	if preflight.StatusCode != http.StatusNoContent {
		t.Errorf("a browser may not ask whether it may ask: %d", preflight.StatusCode)
	}
	wantProblem(t, s.get("/v1/stats?access_token="+good.Reveal()), http.StatusBadRequest, "does not belong into a URL")
	wantProblem(t, s.get("/v1/"+good.Reveal()), http.StatusBadRequest, "does not belong into a URL")
}

func TestAKeyThatIsShownMustBeGoodEvenWhereNoneIsNeeded(t *testing.T) {
	t.Parallel()
	r := &ring{}
	s := serve(t, Options{Store: newWorld(t).store, Access: Access{Keys: r}})
	if got := s.get("/v1/stats"); got.StatusCode != http.StatusOK {
		t.Errorf("on loopback, no key: %d", got.StatusCode)
	}
	_, token, err := keys.Mint(schema.ScopeRead, "", "")
	if err != nil {
		t.Fatal(err)
	}
	wantProblem(t, s.do(http.MethodGet, "/v1/stats", "Authorization", "Bearer "+token.Reveal()), http.StatusUnauthorized, "unknown")
}

func TestElsewhereThanOnLoopbackAKeyIsNeededUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		addr   string
		mode   AccessMode
		rate   float64
		status int
		warns  string
	}{
		{"127.0.0.1:0", "", 0, http.StatusOK, ""},
		{"127.0.0.1:0", AccessKeys, 0, http.StatusUnauthorized, ""},
		{"0.0.0.0:0", "", 0, http.StatusUnauthorized, "firstseen keys create --scope read"},
		{"0.0.0.0:0", AccessAuto, 0, http.StatusUnauthorized, "stats.access to open"},
		{"0.0.0.0:0", AccessOpen, 0, http.StatusOK, "without a limit"},
		{"0.0.0.0:0", AccessOpen, 50, http.StatusOK, ""},
		{"0.0.0.0:0", AccessKeys, 0, http.StatusUnauthorized, ""},
	} {
		var out bytes.Buffer
		log := logrus.New()
		log.SetOutput(&out)
		api, err := New(t.Context(), Options{
			Addr: c.addr, Store: newWorld(t).store, Log: log, Access: Access{Mode: c.mode, Keys: &ring{}, Rate: c.rate},
		})
		if err != nil {
			t.Fatal(err)
		}
		stop := background(t, api.Run)
		_, port, _ := strings.Cut(strings.TrimPrefix(api.Addr().String(), "[::]"), ":")
		s := &site{t: t, api: api, url: "http://127.0.0.1:" + port, http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
		if got := s.get("/v1/stats"); got.StatusCode != c.status {
			t.Errorf("%+v: %d", c, got.StatusCode)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		if warned := strings.Contains(out.String(), "level=warning"); warned != (c.warns != "") || !strings.Contains(out.String(), c.warns) {
			t.Errorf("%+v: %s", c, out.String())
		}
	}
}

func TestEachCallerHasABudget(t *testing.T) {
	t.Parallel()
	r := &ring{}
	token := r.mint(t, schema.ScopeRead)
	reg := prometheus.NewRegistry()
	s := serve(t, Options{Store: newWorld(t).store, Registerer: reg, Access: Access{
		Keys: r, Rate: 0.01, Burst: 3, Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	}})
	for _, header := range [][]string{
		{"X-Forwarded-For", "192.0.2.1"},
		{"X-Forwarded-For", "203.0.113.9, 192.0.2.2"}, // what stands before the last hop anybody may have written
		{"X-Forwarded-For", "2001:db8::1"},
		{"X-Forwarded-For", "198.51.100.1", "Authorization", "Bearer " + token.Reveal()},
	} {
		for i := range 3 {
			if got := s.do(http.MethodGet, "/v1/connections", header...); got.StatusCode != http.StatusOK {
				t.Errorf("%v, request %d: %d", header, i, got.StatusCode)
			}
		}
		got := s.do(http.MethodGet, "/v1/connections", header...)
		wantProblem(t, got, http.StatusTooManyRequests, "more than 0.01 requests a second")
		if after := got.Header.Get("Retry-After"); after != "100" && after != "99" {
			t.Errorf("Retry-After %q", after)
		}
	}
	for _, header := range [][]string{
		{"X-Forwarded-For", "203.0.113.77, 192.0.2.2"}, // another spoofed address is the same client
		{"X-Forwarded-For", "2001:db8::ffff"},          // as is a neighbour in its network
		{"X-Forwarded-For", "198.51.100.2", "X-Api-Key", token.Reveal()},
	} {
		if got := s.do(http.MethodGet, "/v1/connections", header...); got.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%v: %d", header, got.StatusCode)
		}
	}
	if got := s.do(http.MethodGet, "/readyz", "X-Forwarded-For", "192.0.2.1"); got.StatusCode != http.StatusOK {
		t.Errorf("a probe: %d", got.StatusCode)
	}
	var counted dto.Metric
	if err := s.api.metrics.refused.WithLabelValues("rate").Write(&counted); err != nil || counted.GetCounter().GetValue() != 7 {
		t.Errorf("%v refusals are counted, want 7: %v", counted.GetCounter().GetValue(), err)
	}
}

func TestForwardedAddressesAreNotBelievedOfStrangers(t *testing.T) {
	t.Parallel()
	s := serve(t, Options{Store: newWorld(t).store, Access: Access{Rate: 0.01, Burst: 2}})
	for i, want := range []int{http.StatusOK, http.StatusOK, http.StatusTooManyRequests} {
		got := s.do(http.MethodGet, "/v1/connections", "X-Forwarded-For", fmt.Sprintf("192.0.2.%d", i))
		if got.StatusCode != want {
			t.Errorf("request %d: %d, want %d", i, got.StatusCode, want)
		}
	}
}

func TestGuessingKeysSpendsTheGuessersBudgetNotTheStores(t *testing.T) {
	t.Parallel()
	r := &ring{}
	s := serve(t, Options{Store: newWorld(t).store, Access: Access{Mode: AccessKeys, Keys: r, Rate: 0.01, Burst: 5}})
	for range 50 {
		_, token, err := keys.Mint(schema.ScopeRead, "", "")
		if err != nil {
			t.Fatal(err)
		}
		s.do(http.MethodGet, "/v1/stats", "Authorization", "Bearer "+token.Reveal())
	}
	if r.asked > 5 {
		t.Errorf("the store was asked %d times", r.asked)
	}
}

func TestAKeyIsRevokedWithinAMinuteAndOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	r := &ring{}
	token := r.mint(t, schema.ScopeRead)
	now := epoch
	k := newKeyring(r, func() time.Time { return now })
	try := func() error {
		_, err := k.cached(token.Reveal())
		if errors.Is(err, errNotCached) {
			_, err = k.look(t.Context(), token.Reveal())
		}
		return err
	}
	for range 3 {
		if err := try(); err != nil {
			t.Fatal(err)
		}
	}
	if r.asked != 1 {
		t.Errorf("asked %d times within a moment", r.asked)
	}
	r.fail(true)
	now = now.Add(40 * time.Second)
	if err := try(); err != nil {
		t.Errorf("40 s into an outage: %v", err)
	}
	now = now.Add(19 * time.Second)
	if err := try(); !errors.Is(err, errNoStore) {
		t.Errorf("59 s into an outage: %v", err)
	}
	r.fail(false)
	if err := try(); err != nil {
		t.Errorf("after it: %v", err)
	}
	r.revoke(token, now)
	now = now.Add(21 * time.Second)
	if err := try(); !errors.Is(err, keys.ErrRevoked) {
		t.Errorf("21 s after it was revoked: %v", err)
	}
	if f := keyRefusal(errNoStore); f.status != http.StatusServiceUnavailable || f.after == 0 {
		t.Errorf("%+v", f)
	}
}

func TestALongRequestEndsWithItsKey(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *ring, token keys.Token){
		"revoked":        func(r *ring, token keys.Token) { r.revoke(token, epoch) },
		"store is away":  func(r *ring, _ keys.Token) { r.fail(true) },
		"removed by SQL": func(r *ring, token keys.Token) { r.mu.Lock(); defer r.mu.Unlock(); delete(r.keys, token.ID()) },
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &ring{}
			token := r.mint(t, schema.ScopeRead)
			a := &access{keys: newKeyring(r, time.Now)}
			key, err := a.keys.look(t.Context(), token.Reveal())
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			h := a.whileWelcome(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
				time.AfterFunc(5*time.Minute, func() { end(r, token) })
				<-req.Context().Done()
				if cause := context.Cause(req.Context()); !errors.Is(cause, errRevoked) {
					t.Errorf("%s: %v", name, cause)
				}
			}))
			ctx := context.WithValue(t.Context(), callerKey{}, caller{key: key})
			h.ServeHTTP(nil, (&http.Request{}).WithContext(ctx))
			if took := time.Since(began); took < 5*time.Minute || took > 6*time.Minute {
				t.Errorf("%s: ended after %s", name, took)
			}
		})
	}
}

func TestTheAccessLogHasALinePerRequestAndNoSecret(t *testing.T) {
	t.Parallel()
	r := &ring{}
	token := r.mint(t, schema.ScopeRead)
	out := &lockedBuffer{}
	log := logrus.New()
	log.SetOutput(out)
	log.SetFormatter(&logrus.JSONFormatter{})
	s := serve(t, Options{Store: newWorld(t).store, Log: log, Access: Access{Mode: AccessKeys, Keys: r, Log: true}})
	s.do(http.MethodGet, "/v1/connections?by=server&canary=s3cret", "Authorization", "Bearer "+token.Reveal(), "X-Request-Id", "req-1")
	s.do(http.MethodGet, "/v1/blocks/"+token.Reveal())
	s.get("/v1/stats")
	s.get("/readyz")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for i, want := range [][]string{
		{`"status":200`, `"path":"/v1/connections"`, `"route":"/v1/connections"`, `"client":"127.0.0.1"`, `"request":"req-1"`, `"key":"` + token.ID() + `"`},
		{`"status":400`, `"path":"(hidden)"`},
		{`"status":401`, `"path":"/v1/stats"`, `"method":"GET"`},
	} {
		for _, part := range want {
			if i >= len(lines) || !strings.Contains(lines[i], part) {
				t.Errorf("line %d lacks %s: %s", i, part, out.String())
			}
		}
	}
	secret := token.Reveal()[len("fsk_")+17:]
	if len(lines) != 3 || strings.Contains(out.String(), secret) || strings.Contains(out.String(), "s3cret") {
		t.Errorf("%d lines:\n%s", len(lines), out.String())
	}
}

// lockedBuffer is a buffer that several goroutines may use.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}
func (b *lockedBuffer) String() string { b.mu.Lock(); defer b.mu.Unlock(); return b.buf.String() }

func TestAccessOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []Access{
		{Mode: "closed"}, {Rate: -1}, {Burst: -1}, {Rate: 1e7}, {Mode: AccessKeys},
	} {
		if _, err := New(t.Context(), Options{Addr: "127.0.0.1:0", Store: newWorld(t).store, Access: bad}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

func TestLiveConnectionsNeedAKeyAndEndWithIt(t *testing.T) {
	t.Parallel()
	r := &ring{}
	token := r.mint(t, schema.ScopeRead)
	w := newWorld(t)
	s := serveLive(t, w, feed.Options{}, Options{Access: Access{Mode: AccessKeys, Keys: r, recheck: 10 * time.Millisecond}})
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ws := strings.Replace(s.url, "http", "ws", 1)
	for _, path := range []string{"/v1/ws", "/v1/rpc"} {
		if conn, resp, err := websocket.Dial(ctx, ws+path, nil); err == nil || resp == nil || resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a key: %v", path, err)
			if conn != nil {
				_ = conn.CloseNow()
			}
		}
	}
	if got := s.get("/v1/stream"); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("/v1/stream without a key: %d", got.StatusCode)
	}
	// A page's script has only the subprotocol to show it in.
	page, resp, err := websocket.Dial(ctx, ws+"/v1/ws", &websocket.DialOptions{Subprotocols: []string{wsProtocol, wsKeyWord + token.Reveal()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = page.CloseNow() }()
	if taken := resp.Header.Get("Sec-WebSocket-Protocol"); taken != wsProtocol {
		t.Errorf("the protocol is %q", taken)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/stream", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	stream, err := s.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stream.Body.Close() }()
	if stream.StatusCode != http.StatusOK {
		t.Fatalf("/v1/stream with a key: %d", stream.StatusCode)
	}
	r.revoke(token, epoch)
	if _, err := io.Copy(io.Discard, stream.Body); ctx.Err() != nil {
		t.Errorf("the stream goes on: %v", err)
	}
	_, _, err = page.Read(ctx)
	var closed websocket.CloseError
	if !errors.As(err, &closed) || closed.Code != websocket.StatusPolicyViolation || closed.Reason != errRevoked.Error() {
		t.Errorf("the socket ended with %v", err)
	}
}
