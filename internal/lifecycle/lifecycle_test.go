package lifecycle_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/internal/lifecycle"
)

type journal struct {
	mu    sync.Mutex // guards lines
	lines []string
}

func (j *journal) add(line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, line)
}

func (j *journal) part(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		<-ctx.Done()
		j.add(name)
		return ctx.Err()
	}
}

func TestPartsStopInReverseWhenTheContextEnds(t *testing.T) {
	t.Parallel()
	var g lifecycle.Group
	var j journal
	for _, name := range []string{"store", "server", "client"} {
		g.Add(name, time.Second, j.part(name))
	}
	g.AddFirst("admin", time.Second, j.part("admin"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if want := []string{"client", "server", "store", "admin"}; !slices.Equal(j.lines, want) {
		t.Errorf("stopped %v, want %v", j.lines, want)
	}
}

func TestOnePartFailingStopsTheRest(t *testing.T) {
	t.Parallel()
	var g lifecycle.Group
	var j journal
	boom := errors.New("boom")
	g.Add("store", time.Second, j.part("store"))
	g.Add("server", time.Second, func(context.Context) error { return boom })
	g.Add("client", time.Second, j.part("client"))
	err := g.Run(t.Context())
	if !errors.Is(err, boom) || !strings.HasPrefix(err.Error(), "server: ") {
		t.Errorf("error %v, want one that names the server and wraps boom", err)
	}
	if want := []string{"client", "store"}; !slices.Equal(j.lines, want) {
		t.Errorf("stopped %v, want %v", j.lines, want)
	}
}

func TestAPartThatDoesNotStopIsNamed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var g lifecycle.Group
		release := make(chan struct{})
		g.Add("server", 3*time.Second, func(context.Context) error { <-release; return nil })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		err := g.Run(ctx)
		if err == nil || err.Error() != "server: did not stop within 3s" {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("waited %s", waited)
		}
		close(release)
	})
}
