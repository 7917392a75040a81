package feed

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/firstseen/firstseen/internal/testenv"
)

// redisServers runs a test over a Redis in memory and over a real one.
func redisServers(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, "redis://"+miniredis.RunT(t).Addr())
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, testenv.Redis(t))
	})
}

func dial(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// heard tells whether a listener was woken since it was last asked.
func (l *listener) heard() bool {
	select {
	case <-l.wake:
		return true
	default:
		return false
	}
}

func TestHintsReachOtherProcesses(t *testing.T) {
	t.Parallel()
	redisServers(t, func(t *testing.T, url string) {
		space := t.Name()
		teller := NewHints(HintsOptions{Redis: dial(t, url), Namespace: space, TellOnly: true})
		hearer := NewHints(HintsOptions{Redis: dial(t, url), Namespace: space, Canary: time.Hour})
		news := hearer.listen()
		run(t, teller.Run)
		run(t, hearer.Run)
		eventually(t, "subscribed", news.heard)
		teller.Tell(7)
		eventually(t, "told", news.heard)
	})
}

func TestHintsAreToldWithinAProcessWithoutRedis(t *testing.T) {
	t.Parallel()
	h := NewHints(HintsOptions{})
	one, two := h.listen(), h.listen()
	h.forget(two)
	h.Tell(1)
	if !one.heard() || two.heard() {
		t.Error("hints go to those who listen")
	}
	run(t, h.Run)
}

// stepped is a clock that a test moves.
type stepped struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func (c *stepped) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *stepped) step(by time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(by)
}

func TestADeafSubscriptionIsSeenAndMadeAnew(t *testing.T) {
	t.Parallel()
	redisServers(t, func(t *testing.T, url string) {
		clock := &stepped{now: time.Unix(1e9, 0)}
		var deaf atomic.Bool
		h := NewHints(HintsOptions{Redis: dial(t, url), Namespace: t.Name(), Canary: 10 * time.Millisecond, Now: clock.Now})
		h.drop = deaf.Load
		deaf.Store(true)
		news := h.listen()
		run(t, h.Run)
		eventually(t, "subscribed", news.heard)
		eventually(t, "red", func() bool { clock.step(5 * time.Millisecond); return h.ready() != nil })
		eventually(t, "subscribed anew", news.heard)
		deaf.Store(false)
		eventually(t, "green", func() bool { return h.ready() == nil })
	})
}

func TestRedisAwayIsNoReasonToBeUnready(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	clock := &stepped{now: time.Unix(1e9, 0)}
	h := NewHints(HintsOptions{Redis: dial(t, "redis://"+server.Addr()), Canary: 10 * time.Millisecond, Now: clock.Now})
	news := h.listen()
	run(t, h.Run)
	eventually(t, "subscribed", news.heard)
	server.Close()
	isAway := func(want bool) func() bool {
		return func() bool { h.mu.Lock(); defer h.mu.Unlock(); return h.away == want }
	}
	eventually(t, "seen to be away", isAway(true))
	clock.step(time.Minute)
	if err := h.ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "back", isAway(false))
	eventually(t, "subscribed again", news.heard)
	h.Tell(3)
	if err := h.ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}
