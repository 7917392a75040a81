package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/jsonrpc"
)

func anywhere(t testing.TB) []netip.Prefix {
	t.Helper()
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}
}

func TestRateIsPerCaller(t *testing.T) {
	t.Parallel()
	node := newStub(t, func(question) string { return `"0x1"` })
	s := serve(t, Options{Pool: poolOf(node.URL), Rate: 0.01, Burst: 3, Trusted: anywhere(t)})
	one := `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`
	for _, client := range []string{"192.0.2.1", "192.0.2.2", "2001:db8::1"} {
		for range 3 {
			if got := s.post(one, "X-Forwarded-For", client); got.StatusCode != 200 {
				t.Errorf("%s: %d %s", client, got.StatusCode, got.body)
			}
		}
		got := s.post(one, "X-Forwarded-For", client)
		wantCode(t, got, http.StatusTooManyRequests, jsonrpc.CodeLimit)
		if after := got.Header.Get("Retry-After"); after != "100" && after != "99" {
			t.Errorf("Retry-After %q", after)
		}
	}
	wantCode(t, s.post(one, "X-Forwarded-For", "2001:db8::ffff"), http.StatusTooManyRequests, jsonrpc.CodeLimit)
	wantCode(t, s.post("["+one+","+one+","+one+","+one+"]", "X-Forwarded-For", "192.0.2.9"), http.StatusTooManyRequests, jsonrpc.CodeLimit)
	// A key that nobody checks is no way around.
	wantCode(t, s.post(one, "X-Forwarded-For", "192.0.2.1", keyHeader, "made up"), http.StatusTooManyRequests, jsonrpc.CodeLimit)
}

func hashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:])
}

func TestKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	write := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("# callers", "", "alice "+hashOf("canary-a")+" 0", "bob "+hashOf("canary-b")+" 0.01")
	node := newStub(t, func(question) string { return `"0x1"` })
	log := logrus.New()
	var lines strings.Builder
	log.SetOutput(&lines)
	log.SetLevel(logrus.TraceLevel)
	s := serve(t, Options{Pool: poolOf(node.URL), Keys: path, RequireKey: true, Rate: 0.01, MaxBatch: 2, Log: log,
		Reload: 5 * time.Millisecond})
	one := `{"jsonrpc":"2.0","id":1,"method":"eth_chainId"}`
	for range 10 {
		if got := s.post(one, keyHeader, "canary-a"); got.StatusCode != 200 {
			t.Fatalf("alice: %d %s", got.StatusCode, got.body)
		}
	}
	for range 2 {
		if got := s.post(one, keyHeader, "canary-b"); got.StatusCode != 200 {
			t.Fatalf("bob: %d %s", got.StatusCode, got.body)
		}
	}
	wantCode(t, s.post(one, keyHeader, "canary-b"), http.StatusTooManyRequests, jsonrpc.CodeLimit)
	for _, key := range []string{"", "canary", hashOf("canary-a"), "canary-a " + "x", strings.Repeat("k", 10_000)} {
		wantCode(t, s.post(one, keyHeader, key), http.StatusUnauthorized, jsonrpc.CodeServer)
	}
	write("alice "+hashOf("canary-c"), "not a line")
	write("alice " + hashOf("canary-c"))
	await(t, "the new key is taken", func() bool { return s.post(one, keyHeader, "canary-c").StatusCode != 401 })
	wantCode(t, s.post(one, keyHeader, "canary-a"), http.StatusUnauthorized, jsonrpc.CodeServer)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(lines.String(), "canary") || strings.Contains(lines.String(), hashOf("canary-a")) {
		t.Errorf("a key is in the log:\n%s", lines.String())
	}
}

func TestFileOfKeysIsChecked(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"the key itself": "alice canary", "long hash": "alice " + hashOf("x") + "00", "not hex": "alice " + strings.Repeat("z", 64),
		"no name": hashOf("x"), "bad name": "a/b " + hashOf("x"), "bad rate": "a " + hashOf("x") + " NaN",
		"negative rate": "a " + hashOf("x") + " -1", "too much": "a " + hashOf("x") + " 1 2",
	} {
		path := filepath.Join(t.TempDir(), "keys")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readKeys(path); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
