package presence

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	redis.SetLogger(&logging.VoidLogger{}) // it would print every refused connection of the outages made here
	goleak.VerifyTestMain(m)
}

// run starts f and returns what ends and waits for it.
func run(t *testing.T, f func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

func publisher(t *testing.T, b Board, o PublisherOptions) *Publisher {
	t.Helper()
	p, err := NewPublisher(b, o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func reader(t *testing.T, b Board, o ReaderOptions) *Reader {
	t.Helper()
	r, err := NewReader(b, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// flaky is a board that fails or hangs on demand and counts what arrives.
type flaky struct {
	Memory
	mu    sync.Mutex
	err   error
	hang  bool
	posts int
}

func (f *flaky) fail(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.err = err }

func (f *flaky) posted() int { f.mu.Lock(); defer f.mu.Unlock(); return f.posts }

func (f *flaky) gate(ctx context.Context) error {
	f.mu.Lock()
	err, hang := f.err, f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (f *flaky) post(ctx context.Context, b Beat, ttl time.Duration) error {
	if err := f.gate(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	f.posts++
	f.mu.Unlock()
	return f.Memory.post(ctx, b, ttl)
}

func (f *flaky) read(ctx context.Context, also []string) (reading, error) {
	if err := f.gate(ctx); err != nil {
		return reading{}, err
	}
	return f.Memory.read(ctx, also)
}

// metrics returns the gathered families by name, in prometheus's own text form without spaces.
func metrics(t *testing.T, g prometheus.Gatherer) map[string]string {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			out[f.GetName()] += strings.ReplaceAll(m.String(), " ", "")
		}
	}
	return out
}

func wantTotal(t *testing.T, r *Reader, want int) {
	t.Helper()
	if s := r.Snapshot(); !s.Known || s.Total != want {
		t.Fatalf("got %+v, want a total of %d", s, want)
	}
}

func wantUnknown(t *testing.T, r *Reader) {
	t.Helper()
	if s := r.Snapshot(); s.Known || s.Total != 0 || s.Reason == "" {
		t.Fatalf("got %+v, want unknown with a reason", s)
	}
}

func TestCountsOfSeveralServersAreSummed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := NewMemory()
		a := publisher(t, board, PublisherOptions{Server: "a"})
		a.Listens("10.0.0.1:8888")
		b := publisher(t, board, PublisherOptions{Server: "b"})
		r := reader(t, board, ReaderOptions{})
		wantUnknown(t, r)
		stopA := run(t, a.Run)
		run(t, b.Run)
		stopReader := run(t, r.Run)
		a.Set(2)
		b.Set(3)
		time.Sleep(4 * time.Second)
		wantUnknown(t, r)
		time.Sleep(3 * time.Second)
		wantTotal(t, r, 5)
		if s := r.Snapshot().Servers; len(s) != 2 || s[0].Address != "10.0.0.1:8888" || s[1].Server != "b" {
			t.Fatalf("servers: %+v", s)
		}

		a.Set(7)
		time.Sleep(1500 * time.Millisecond) // debounce and one poll
		wantTotal(t, r, 10)

		stopA()
		time.Sleep(time.Second)
		wantTotal(t, r, 3)
		stopReader()
		wantUnknown(t, r)
	})
}

func TestChangesAreDebouncedAndBeatsGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := &flaky{}
		p := publisher(t, board, PublisherOptions{Server: "a"})
		run(t, p.Run)
		synctest.Wait()
		if n := board.posted(); n != 1 {
			t.Fatalf("%d beats at the start, want 1", n)
		}
		for i := range 1000 { // a thousand connections within a second
			p.Set(i + 1)
			time.Sleep(time.Millisecond)
		}
		if n := board.posted(); n < 4 || n > 7 {
			t.Fatalf("%d beats after a second of changes every millisecond, want about five", n)
		}
		time.Sleep(time.Second)
		before := board.posted()
		if b := mustRead(t, board)["a"]; b.Count != 1000 {
			t.Fatalf("the last count is not posted: %+v", b)
		}
		time.Sleep(20 * time.Second)
		if n := board.posted() - before; n != 4 {
			t.Fatalf("%d beats in 20 s of rest, want 4", n)
		}
	})
}

func TestSetNeverWaitsForTheBoard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := &flaky{hang: true}
		p := publisher(t, board, PublisherOptions{Server: "a"})
		stop := run(t, p.Run)
		start := time.Now()
		for i := range 10_000 {
			p.Set(i)
		}
		if d := time.Since(start); d != 0 {
			t.Fatalf("Set took %s of the hanging board's time", d)
		}
		stop()
		if d := time.Since(start); d > 2*time.Second {
			t.Fatalf("the end took %s", d)
		}
	})
}

func TestOutageIsUnknownAndHealsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		board := &flaky{}
		reg := prometheus.NewRegistry()
		p := publisher(t, board, PublisherOptions{Server: "a", Registerer: reg})
		r := reader(t, board, ReaderOptions{Registerer: reg})
		run(t, p.Run)
		run(t, r.Run)
		p.Set(4)
		time.Sleep(10 * time.Second)
		wantTotal(t, r, 4)
		if got := metrics(t, reg)["firstseen_connections"]; got != "gauge:{value:4}" {
			t.Fatalf("gauge while known: %q, want 4", got)
		}

		board.fail(errors.New("board on fire"))
		time.Sleep(1100 * time.Millisecond)
		wantUnknown(t, r)
		if got, ok := metrics(t, reg)["firstseen_connections"]; ok {
			t.Fatalf("gauge while unknown: %q, want none", got)
		}
		time.Sleep(time.Minute)
		wantUnknown(t, r)

		p.Set(5)
		board.fail(nil)
		time.Sleep(4 * time.Second)
		wantUnknown(t, r)
		time.Sleep(4 * time.Second)
		wantTotal(t, r, 5)
		if got := metrics(t, reg)["firstseen_presence_beats_total"]; !strings.Contains(got, `"failed"`) {
			t.Fatalf("failed beats are not counted: %s", got)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]PublisherOptions{
		"no name":            {},
		"name with a space":  {Server: "a b"},
		"TTL below 3 beats":  {Server: "a", Beat: time.Second, TTL: 2 * time.Second},
		"negative debounce":  {Server: "a", Debounce: -1},
		"negative heartbeat": {Server: "a", Beat: -1},
	} {
		if _, err := NewPublisher(NewMemory(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := NewPublisher(nil, PublisherOptions{Server: "a"}); err == nil {
		t.Error("publisher without a board accepted")
	}
	if _, err := NewReader(nil, ReaderOptions{}); err == nil {
		t.Error("reader without a board accepted")
	}
	if _, err := NewReader(NewMemory(), ReaderOptions{Beat: time.Second, Poll: time.Second}); err == nil {
		t.Error("reader slower than the beat accepted")
	}
	p := publisher(t, NewMemory(), PublisherOptions{Server: "a", Beat: 10 * time.Second})
	if p.opts.TTL != 30*time.Second {
		t.Errorf("TTL %s for a beat of 10 s, want 30 s", p.opts.TTL)
	}
}
