package statsapi

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

func TestLiveRoutesBeginAsDocumented(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := &ring{}
	observing := r.mint(t, schema.ScopeObserve)
	s := serveLive(t, w, feed.Options{}, Options{})
	closed := serveLive(t, w, feed.Options{}, Options{Access: Access{Mode: AccessKeys, Keys: r}})
	spent := serveLive(t, w, feed.Options{}, Options{Access: Access{Rate: 1e-6, Burst: 1}})
	spent.get("/v1/connections")
	full := serveLive(t, w, feed.Options{}, Options{Live: LiveOptions{Connections: 1}})
	full.listen("/v1/ws")
	c := &contract{t: t, doc: s.api.huma.OpenAPI(), seen: map[string]bool{}}
	for path, wrong := range map[string]string{"/v1/ws": "?kind=x", "/v1/rpc": "?chain=x", "/v1/stream": "?from=x"} {
		begins, header := http.StatusSwitchingProtocols, upgrade()
		if path == "/v1/stream" {
			begins, header = http.StatusOK, http.Header{}
		} else {
			c.check(s, path, path, http.StatusUpgradeRequired)
		}
		if got := s.status(path, header); got != begins {
			t.Errorf("%s begins with %d", path, got)
		}
		c.seen[fmt.Sprint(path, " ", begins)] = true
		var pairs []string
		for name, values := range header {
			pairs = append(pairs, name, values[0])
		}
		c.check(s, path, path+wrong, http.StatusBadRequest, pairs...)
		c.check(s, path, path, http.StatusForbidden, append(pairs, "Origin", "null")...)
		c.check(closed, path, path, http.StatusUnauthorized, pairs...)
		c.check(closed, path, path, http.StatusForbidden, append(pairs, "X-Api-Key", observing.Reveal())...)
		c.check(spent, path, path, http.StatusTooManyRequests, pairs...)
		c.check(full, path, path, http.StatusServiceUnavailable, pairs...)
		for status := range c.doc.Paths[path].Get.Responses {
			if !c.seen[path+" "+status] {
				t.Errorf("%s: no check has seen its %s", path, status)
			}
		}
	}
}

func TestHandshakesThatFailAreAnsweredWithProblems(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{})
	for _, c := range []struct {
		name, value string
		want        int
	}{
		{"Sec-WebSocket-Version", "8", http.StatusBadRequest},
		{"Sec-WebSocket-Key", "", http.StatusBadRequest},
		{"Sec-WebSocket-Key", "AAAA", http.StatusBadRequest},
		{"Upgrade", "h2c", http.StatusUpgradeRequired},
		{"Connection", "keep-alive", http.StatusUpgradeRequired},
	} {
		pairs := []string{c.name, c.value}
		for name, values := range upgrade() {
			if name != http.CanonicalHeaderKey(c.name) {
				pairs = append(pairs, name, values[0])
			}
		}
		wantProblem(t, s.do(http.MethodGet, "/v1/ws", pairs...), c.want, "WebSocket")
		wantProblem(t, s.do(http.MethodGet, "/v1/rpc", pairs...), c.want, "WebSocket")
	}
}

func TestNoLiveConnectionBeginsAtTheEnd(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{})
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for slot := s.api.live.claim("ws"); slot != nil; slot = s.api.live.claim("ws") {
				slot.release()
			}
		})
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	all.Wait() // each has been refused
	if n := len(s.api.live.slots); n != 0 {
		t.Errorf("%d places are taken", n)
	}
}
