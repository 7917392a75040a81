package server

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

func TestReadyFollowsTheServersLife(t *testing.T) {
	t.Parallel()
	store := newFake()
	defer store.close()
	srv, err := New(Options{Addr: "127.0.0.1:0", Name: "a", Store: store})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Ready(t.Context()); !errors.Is(err, ErrNotServing) {
		t.Errorf("before Run: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- srv.Run(ctx) }()
	eventually(t, "ready", func() bool { return srv.Ready(t.Context()) == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := srv.Ready(t.Context()); !errors.Is(err, ErrDraining) {
		t.Errorf("after Run: %v", err)
	}
	if _, err := net.Dial("tcp", srv.Addr().String()); err == nil {
		t.Error("still listens after Run")
	}
}

func TestDrainCollectsUntilBye(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.Drain, o.BareDrain = time.Minute, time.Minute })
	r.store.hold = true
	p := r.dial()
	p.greet()
	p.send(data(1), data(2))
	eventually(t, "two offers", func() bool { return r.store.count() == 2 })

	r.stop()
	p.want("G60000")
	p.send(data(3)) // was on its way when the G came
	eventually(t, "three offers", func() bool { return r.store.count() == 3 })
	r.store.release()
	p.wantAcks(3)
	p.send("B")
	p.wantEnd()
	p.nc.Close()
	<-r.ended
	if r.err != nil {
		t.Error(r.err)
	}
}

func TestByeWaitsForWhatIsOutstanding(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.hold = true
	p := r.dial()
	p.greet()
	p.send(data(1), data(2), "B")
	eventually(t, "two offers", func() bool { return r.store.count() == 2 })
	r.store.release(1)
	r.store.release(0)
	p.wantAcks(2)
	p.wantEnd()
}

func TestDrainEndsAtItsDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.Drain, o.BareDrain = 29*time.Second, 10*time.Second })
		r.store.hold = true
		p := ln.connect(t)
		p.greet()
		p.send(data(1), data(2))
		synctest.Wait()
		r.store.release(0)
		p.want("A1 f")

		began := time.Now()
		r.stop()
		p.want("G29000")
		for range 2 {
			p.want("P") // pings go on
			p.send("O")
		}
		p.want("Eretry busy shutting down")
		if took := time.Since(began); took != 29*time.Second {
			t.Errorf("last word after %v", took)
		}
		p.nc.Close()
		<-r.ended
		if took := time.Since(began); took > 32*time.Second {
			t.Errorf("Run returned after %v", took)
		}
	})
}

// A store that takes nothing holds the reader inside Offer; the drain's end frees it.
func TestDrainDoesNotWaitForAStalledStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.Drain, o.BareDrain = 9*time.Second, 9*time.Second })
		r.store.full = make(chan struct{})
		relay, bare := ln.connect(t), ln.connect(t)
		relay.greet()
		relay.send(data(1))
		bare.send("<p>1</p>")
		synctest.Wait()
		began := time.Now()
		r.stop()
		relay.want("G9000")
		relay.want("Eretry store the store takes nothing now")
		relay.nc.Close()
		bare.wantEnd()
		<-r.ended
		if took := time.Since(began); took != 9*time.Second {
			t.Errorf("Run returned after %v", took)
		}
	})
}

func TestBareConnectionsAreReadToTheirEndWhileDraining(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.Drain, o.BareDrain = time.Minute, time.Minute })
	bare, undecided := r.dial(), r.dial()
	bare.send("one")
	undecided.raw("3:t")
	eventually(t, "one offer and two connections", func() bool {
		return r.store.count() == 1 && r.metric("connections") == 2
	})
	r.stop()
	eventually(t, "draining", func() bool { return r.srv.Ready(context.Background()) != nil })
	bare.send("two", "three")
	undecided.raw("wo,")
	for _, p := range []*peer{bare, undecided} {
		p.finish()
		p.wantEnd()
	}
	<-r.ended
	if r.store.count() != 4 {
		t.Errorf("%d offers, want 4", r.store.count())
	}
}

func TestBareConnectionsAreGivenUpAtTheirDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.Drain, o.BareDrain = 0, 0 })
		p := ln.connect(t)
		p.send("one")
		synctest.Wait()
		began := time.Now()
		r.stop()
		<-r.ended
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("Run returned after %v", took)
		}
	})
}

func TestHelloWhileDrainingIsSentElsewhere(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.Drain, o.BareDrain = time.Minute, time.Minute })
	p := r.dial()
	eventually(t, "one connection", func() bool { return r.metric("connections") == 1 })
	r.stop()
	eventually(t, "draining", func() bool { return r.srv.Ready(context.Background()) != nil })
	p.send(hello)
	p.want("Eretry busy shutting down")
	p.wantEnd()
}

// The client neither reads nor leaves. Run still returns.
func TestClientCannotKeepTheServerFromStopping(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.Drain, o.BareDrain = 10*time.Second, 10*time.Second })
		p := ln.connect(t)
		p.greet()
		p.send(data(1))
		synctest.Wait()
		began := time.Now()
		r.stop()
		<-r.ended
		if took := time.Since(began); took > 10*time.Second+stopGrace {
			t.Errorf("Run returned after %v", took)
		}
	})
}

func TestServerListsOnlyOpenConnections(t *testing.T) {
	t.Parallel()
	seen := &counter{}
	r := start(t, func(o *Options) { o.Presence = seen })
	a, b := r.dial(), r.dial()
	a.send("bare")
	b.greet()
	eventually(t, "two", func() bool { return r.metric("connections") == 2 && r.metric("mode_connections") == 2 })
	a.nc.Close()
	eventually(t, "one", func() bool { return r.metric("connections") == 1 })
	b.send("B")
	b.wantEnd()
	b.nc.Close()
	eventually(t, "none", func() bool { return len(seen.told()) == 4 })
	for i, want := range []int{1, 2, 1, 0} {
		if got := seen.told()[i]; got != want {
			t.Errorf("presence was told %v", seen.told())
		}
	}
	if r.metric("mode_connections") != 0 || r.metric("inflight_bytes") != 0 {
		t.Errorf("%v connections by mode, %v bytes in flight", r.metric("mode_connections"), r.metric("inflight_bytes"))
	}
}
