package statsapi

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

func TestEveryLiveRouteIsOpenOnlyToWhoShowsAKey(t *testing.T) {
	t.Parallel()
	r := &ring{}
	reader, observer := r.mint(t, schema.ScopeRead), r.mint(t, schema.ScopeObserve)
	s := serveLive(t, newWorld(t), feed.Options{}, Options{Access: Access{Mode: AccessKeys, Keys: r}})
	hash, account := named("b1").String(), schema.Address{0xaa}.String()
	for _, path := range []string{
		"/v1/ws", "/v1/rpc", "/v1/stream", "/blocks", "/block/" + hash, "/deploy/" + hash, "/accountDeploys/" + account,
	} {
		open := http.StatusSwitchingProtocols
		if path == "/v1/stream" {
			open = http.StatusOK
		}
		for name, c := range map[string]struct {
			header, value string
			want          int
		}{
			"no key":           {"X-Forwarded-For", "127.0.0.1", http.StatusUnauthorized},
			"a wrong key":      {"Authorization", "Bearer fsk_x_y", http.StatusUnauthorized},
			"an observer's":    {"Authorization", "Bearer " + observer.Reveal(), http.StatusForbidden},
			"a key":            {"Authorization", "Bearer " + reader.Reveal(), open},
			"a key, otherwise": {"X-Api-Key", reader.Reveal(), open},
		} {
			h := http.Header{}
			if path != "/v1/stream" {
				h = upgrade()
			}
			h.Set(c.header, c.value)
			if got := s.status(path, h); got != c.want {
				t.Errorf("%s with %s: %d, want %d", path, name, got, c.want)
			}
		}
		if got := s.status(path+"?key="+reader.Reveal(), upgrade()); got != http.StatusBadRequest {
			t.Errorf("%s with the key in its URL: %d", path, got)
		}
	}
}

func TestManyConnectionsOfOneKeyAskTheStoreNoMoreThanOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &ring{}
		token := r.mint(t, schema.ScopeRead)
		k := newKeyring(r, time.Now)
		key, err := k.look(t.Context(), token.Reveal())
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		var all sync.WaitGroup
		for range 1000 {
			time.Sleep(17 * time.Millisecond)
			all.Go(func() { k.watch(t.Context(), *key, func(error) {}) })
		}
		time.Sleep(10 * time.Minute)
		revoked := time.Now()
		r.revoke(token, revoked)
		r.mu.Lock()
		asked := r.asked
		r.mu.Unlock()
		if asked > 2*int(revoked.Sub(began)/keyFresh) {
			t.Errorf("the store was asked %d times in %s", asked, revoked.Sub(began))
		}
		all.Wait()
		if took := time.Since(revoked); took > time.Minute {
			t.Errorf("all ended after %s", took)
		}
	})
}

func TestTheAccessLogTellsConnectionsFromAnswers(t *testing.T) {
	t.Parallel()
	out := &lockedBuffer{}
	log := logrus.New()
	log.SetOutput(out)
	s := serveLive(t, newWorld(t), feed.Options{}, Options{Log: log, Access: Access{Log: true}})
	s.listen("/v1/ws")
	eventually(t, "a line", func() bool { return strings.Contains(out.String(), "path=/v1/ws") })
	if !strings.Contains(out.String(), "status=101") {
		t.Error(out.String())
	}
}

// upgrade is what asks for WebSocket.
func upgrade() http.Header {
	h := http.Header{}
	h.Set("Connection", "Upgrade")
	h.Set("Upgrade", "websocket")
	h.Set("Sec-WebSocket-Version", "13")
	h.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	return h
}
