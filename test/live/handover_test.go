package live

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/statsapi"
)

// TestSubscribersThatComeAndGoSeeEverySeqOnceInOrder is about the hand-over from history to live events: subscribers
// join, drop and come back at random, now at one instance and now at the other, while blocks and reorganisations flow and
// hints get lost.
func TestSubscribersThatComeAndGoSeeEverySeqOnceInOrder(t *testing.T) {
	t.Parallel()
	t.Run("hints in memory", func(t *testing.T) {
		t.Parallel()
		hints := feed.NewHints(feed.HintsOptions{})
		s := newSource(t, unreliable(hints.Tell))
		one, two := newInstance(t, s, hints, statsapi.LiveOptions{}), newInstance(t, s, hints, statsapi.LiveOptions{})
		handOver(t, s, []*instance{one, two}, func() {})
	})
	t.Run("hints over Redis, which is restarted", func(t *testing.T) {
		t.Parallel()
		server := startRedis(t)
		carry := func(only bool) *feed.Hints {
			h := feed.NewHints(feed.HintsOptions{Redis: server.dial(t), TellOnly: only, Canary: 200 * time.Millisecond})
			background(t, h.Run)
			return h
		}
		s := newSource(t, unreliable(carry(true).Tell))
		one, two := newInstance(t, s, carry(false), statsapi.LiveOptions{}), newInstance(t, s, carry(false), statsapi.LiveOptions{})
		handOver(t, s, []*instance{one, two}, server.restart)
		for _, i := range []*instance{one, two} {
			eventually(t, "ready", func() bool { return i.feed.Ready(t.Context()) == nil })
		}
	})
}

// unreliable loses every third hint or so.
func unreliable(tell func(uint64)) func(uint64) {
	return func(seq uint64) {
		if rand.IntN(3) > 0 {
			tell(seq)
		}
	}
}

func handOver(t *testing.T, s *source, instances []*instance, half func()) {
	blocks, reorgs := 600, 6
	if accepting() {
		blocks, reorgs = 5000, 50
	}
	var (
		last    atomic.Uint64 // seq of the last event, once it is known
		readers sync.WaitGroup
	)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	for n := range 8 {
		readers.Go(func() {
			r := &reader{t: t, dice: rand.New(rand.NewPCG(uint64(n), 7)), instances: instances, last: &last}
			r.session = r.webSocket
			if n%4 == 3 {
				r.session = r.stream
			}
			r.run(ctx)
		})
	}
	s.grow(blocks, reorgs, half)
	end, err := s.store.FeedEnd(ctx)
	if err != nil {
		t.Error(err)
	}
	if end.Seq < uint64(blocks+2*reorgs) {
		t.Errorf("the feed ends at %d: there were no reorganisations", end.Seq)
	}
	last.Store(end.Seq)
	readers.Wait()
}

// reader is a subscriber that comes and goes.
type reader struct {
	t         *testing.T
	dice      *rand.Rand
	instances []*instance
	last      *atomic.Uint64
	session   func(ctx context.Context, addr, from string) error

	seq    uint64
	cursor string
	undone int
}

// told is what a reader looks at of an event.
type told struct {
	Type, Cursor, Effect string
	Seq                  uint64
}

var errDone = errors.New("everything was seen")

func (r *reader) run(ctx context.Context) {
	r.cursor = "earliest"
	for {
		life, cancel := context.WithTimeout(ctx, time.Duration(5+r.dice.IntN(300))*time.Millisecond)
		err := r.session(life, r.instances[r.dice.IntN(len(r.instances))].addr, r.cursor)
		cancel()
		switch {
		case errors.Is(err, errDone), r.done():
			if r.undone == 0 {
				r.t.Error("no undo was seen")
			}
			return
		case ctx.Err() != nil:
			r.t.Errorf("at %d of %d when time was up", r.seq, r.last.Load())
			return
		case r.t.Failed():
			return
		}
	}
}

// see checks one event.
func (r *reader) see(text []byte) error {
	var e told
	if err := json.Unmarshal(text, &e); err != nil {
		r.t.Errorf("%s: %v", text, err)
	}
	switch e.Type {
	case "subscribed", "cursor":
		r.cursor = e.Cursor
	case "event":
		if e.Seq != r.seq+1 {
			r.t.Errorf("seq %d after %d", e.Seq, r.seq)
		}
		r.seq, r.cursor = e.Seq, e.Cursor
		if e.Effect == "undo" {
			r.undone++
		}
	default:
		r.t.Errorf("%s", text)
	}
	if r.done() {
		return errDone
	}
	return nil
}

func (r *reader) done() bool {
	last := r.last.Load()
	return last > 0 && r.seq == last
}

func (r *reader) webSocket(ctx context.Context, addr, from string) error {
	conn, _, err := websocket.Dial(ctx, "ws://"+addr+"/v1/ws?from="+from, nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }()
	for {
		_, text, err := conn.Read(ctx)
		if err != nil {
			return err
		}
		if err := r.see(text); err != nil {
			return err
		}
	}
}

func (r *reader) stream(ctx context.Context, addr, from string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/v1/stream?from="+from, nil)
	if err != nil {
		return err
	}
	request.Close = true
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	lines, event := bufio.NewScanner(answer.Body), ""
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			event = data
		}
		if lines.Text() != "" || event == "" {
			continue // an event counts once its empty line is there
		}
		if err := r.see([]byte(event)); err != nil {
			return err
		}
		event = ""
	}
	return fmt.Errorf("the stream ended: %w", errors.Join(lines.Err(), ctx.Err()))
}

// redisServer is a Redis of the test's own, which it may kill.
type redisServer struct {
	t    testing.TB
	path string
	port string
	cmd  *exec.Cmd
}

func startRedis(t testing.TB) *redisServer {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server: run `make test`, which installs it, or apt-get install redis-server")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	r := &redisServer{t: t, path: path, port: port}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	r.cmd = exec.Command(r.path, "--bind", "127.0.0.1", "--port", r.port, "--save", "", "--dir", r.t.TempDir())
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	client := r.dial(r.t)
	eventually(r.t, "Redis answers", func() bool { return client.Ping(r.t.Context()).Err() == nil })
}

func (r *redisServer) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *redisServer) restart() {
	r.kill()
	r.start()
}

func (r *redisServer) dial(t testing.TB) redis.UniversalClient {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + r.port,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { _ = client.Close() })
	return client
}
