package presence

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/firstseen/firstseen/internal/testenv"
)

func dial(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	c, err := Dial(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// boards are the Redis drivers that must behave alike.
func boards(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, dial(t, "redis://"+miniredis.RunT(t).Addr()))
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, dial(t, testenv.Redis(t)))
	})
}

func mustPost(t *testing.T, b Board, beats ...Beat) {
	t.Helper()
	for _, beat := range beats {
		if err := b.post(t.Context(), beat, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
}

func mustRead(t *testing.T, b Board, also ...string) map[string]Beat {
	t.Helper()
	r, err := b.read(t.Context(), also)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]Beat{}
	for _, beat := range r.beats {
		out[beat.Server] = beat
	}
	return out
}

func TestRedisKeepsBeatsApartByServerAndNamespace(t *testing.T) {
	t.Parallel()
	boards(t, func(t *testing.T, client redis.UniversalClient) {
		one, other := NewRedis(client, ""), NewRedis(client, "other")
		a := Beat{Server: "a", Boot: "x", Seq: 2, Count: 3, Address: "h:1"}
		b := Beat{Server: "b", Boot: "y", Seq: 2, Count: 4}
		mustPost(t, one, a, b)
		mustPost(t, other, Beat{Server: "c", Seq: 2})
		got := mustRead(t, one)
		if len(got) != 2 || got["a"] != a || got["b"] != b {
			t.Fatalf("read %+v", got)
		}
		ttl, err := client.PTTL(t.Context(), "{firstseen}:presence:a").Result()
		if err != nil || ttl <= 0 || ttl > time.Minute {
			t.Fatalf("TTL %s, %v", ttl, err)
		}
	})
}

func TestRedisFarewellLeavesTheIndexButCanBeAskedFor(t *testing.T) {
	t.Parallel()
	boards(t, func(t *testing.T, client redis.UniversalClient) {
		board := NewRedis(client, "")
		mustPost(t, board, Beat{Server: "a", Seq: 2}, Beat{Server: "a", Seq: 3, Left: true})
		if got := mustRead(t, board); len(got) != 0 {
			t.Fatalf("a new reader sees %+v", got)
		}
		if got := mustRead(t, board, "a"); !got["a"].Left {
			t.Fatalf("an old reader sees %+v", got)
		}
	})
}

func TestRedisForgetsNamesWhoseKeyIsGone(t *testing.T) {
	t.Parallel()
	boards(t, func(t *testing.T, client redis.UniversalClient) {
		board := NewRedis(client, "")
		mustPost(t, board, Beat{Server: "gone", Seq: 2}, Beat{Server: "here", Seq: 2})
		if err := client.Del(t.Context(), board.key("gone")).Err(); err != nil {
			t.Fatal(err)
		}
		mustPost(t, board, Beat{Server: "here", Seq: 1 + pruneEvery})
		names, err := client.SMembers(t.Context(), board.index).Result()
		if err != nil || len(names) != 1 || names[0] != "here" {
			t.Fatalf("index holds %v, %v", names, err)
		}
	})
}

func TestRedisIgnoresForeignValues(t *testing.T) {
	t.Parallel()
	boards(t, func(t *testing.T, client redis.UniversalClient) {
		board := NewRedis(client, "")
		for name, value := range map[string]string{
			"text": "hello", "number": "5", "null": "null", "other": `{"server":"a","count":9}`,
			"negative": `{"server":"negative","count":-1}`, "huge": `{"server":"huge","count":1e300}`,
		} {
			client.Set(t.Context(), board.key(name), value, time.Minute)
			client.SAdd(t.Context(), board.index, name)
		}
		mustPost(t, board, Beat{Server: "good", Seq: 2, Count: 1})
		if got := mustRead(t, board); len(got) != 1 || got["good"].Count != 1 {
			t.Fatalf("read %+v", got)
		}
	})
}

func TestRedisErrorsNeverShowThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"redis://user:s3cret@host:port/0", "redis://user:s3cret@host/a/b", "http://user:s3cret@host/",
		"redis://user:s3cret@host:1/x", "redis://user:s3cret@host:port/?cluster=true", "redis://:s3cret@h\x7f/",
		"redis://user:s3cret@host/?nonsense=1", "redis://user:s3cret@host/?addr=broken",
	} {
		c, err := Dial(url)
		if err == nil {
			_ = c.Close()
			t.Errorf("%q accepted", url)
		} else if strings.Contains(err.Error(), "s3cret") {
			t.Errorf("password shown: %v", err)
		}
	}
}

func TestDialChoosesTheClusterClient(t *testing.T) {
	t.Parallel()
	for url, cluster := range map[string]bool{
		"redis://h:1/2":                 false,
		"rediss://h:1":                  false,
		"redis://h:1?cluster=true":      true,
		"redis://h:1?addr=i:1&addr=j:1": true,
	} {
		if _, got := dial(t, url).(*redis.ClusterClient); got != cluster {
			t.Errorf("%s: cluster client %v, want %v", url, got, cluster)
		}
	}
}

// fast is a rhythm for tests on the real clock. A total is believed a beat and a poll after an interruption, so the
// poll is the slack that a loaded machine has before a late beat makes a wrong total.
const fast = 600 * time.Millisecond

// eventually polls cond, which is the only way to wait for another process.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// watchTotal reports every total other than want that r ever takes for known, until stop is called.
func watchTotal(t *testing.T, r *Reader, want int) (stop func()) {
	return run(t, func(ctx context.Context) error {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			if s := r.Snapshot(); s.Known && s.Total != want {
				return fmt.Errorf("known total %d, want %d: %+v", s.Total, want, s)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

func known(r *Reader) func() bool   { return func() bool { return r.Snapshot().Known } }
func unknown(r *Reader) func() bool { return func() bool { return !r.Snapshot().Known } }

// crew is two servers and a reader on one Redis, each over a connection of its own.
func crew(t *testing.T, url string) *Reader {
	t.Helper()
	for name, count := range map[string]int{"a": 2, "b": 3} {
		p := publisher(t, NewRedis(dial(t, url), ""), PublisherOptions{Server: name, Beat: fast})
		p.Set(count)
		run(t, p.Run)
	}
	r := reader(t, NewRedis(dial(t, url), ""), ReaderOptions{Beat: fast, Poll: fast / 2})
	run(t, r.Run)
	return r
}

func TestRealRedisFlushedIsNeverAWrongTotal(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	r := crew(t, url)
	admin := dial(t, url)
	eventually(t, "known", known(r))
	stop := watchTotal(t, r, 5)
	for range 3 {
		if err := admin.FlushDB(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "known again", known(r))
	}
	stop()
}

// ownRedis starts a Redis of this test alone on a free port.
func ownRedis(t *testing.T, port int, args ...string) (stop func()) {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs the redis-server program in PATH (Debian: apt-get install redis-server)")
	}
	args = append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)
	cmd := exec.Command(path, args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	t.Cleanup(stop)
	return stop
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func TestRealRedisRestartedIsNeverAWrongTotal(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	stop := ownRedis(t, port)
	r := crew(t, fmt.Sprintf("redis://127.0.0.1:%d", port))
	eventually(t, "known", known(r))
	unwatch := watchTotal(t, r, 5)
	for range 2 {
		stop()
		eventually(t, "unknown while Redis is down", unknown(r))
		stop = ownRedis(t, port)
		eventually(t, "known again", known(r))
	}
	unwatch()
}

func TestRealRedisTellsItsRunID(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	stop := ownRedis(t, port)
	board := NewRedis(dial(t, fmt.Sprintf("redis://127.0.0.1:%d", port)), "")
	first := ""
	read := func() bool {
		r, err := board.read(t.Context(), nil)
		if err != nil || r.epoch == first {
			return false
		}
		first = r.epoch
		return len(first) == 40
	}
	eventually(t, "a run id", read)
	stop()
	ownRedis(t, port)
	eventually(t, "another run id", read)
}

func TestRealRedisClusterHoldsThePresence(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	ownRedis(t, port, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(freePort(t)))
	node := dial(t, fmt.Sprintf("redis://127.0.0.1:%d", port))
	eventually(t, "slots assigned", func() bool {
		return node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err() == nil
	})
	eventually(t, "cluster up", func() bool {
		info, err := node.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	r := crew(t, fmt.Sprintf("redis://127.0.0.1:%d?cluster=true", port))
	eventually(t, "known", known(r))
	if s := r.Snapshot(); s.Total != 5 {
		t.Fatalf("got %+v, want 5", s)
	}
	board := NewRedis(dial(t, fmt.Sprintf("redis://127.0.0.1:%d?cluster=true", port)), "")
	if err := board.prune(t.Context()); err != nil {
		t.Fatal(err)
	}
}
