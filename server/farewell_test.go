package server

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// leaver is a client with a name of its own, so that what it was told can be held against what the store was offered.
type leaver struct {
	*peer
	name  string
	acked int
}

func (r *rig) leaver(i int) *leaver {
	r.t.Helper()
	l := &leaver{peer: r.dial(), name: fmt.Sprintf("observer-%d", i)}
	l.peer.send(fmt.Sprintf(`<!--firstseen/1 {"observer":"%s","chains":[1]}-->`, l.name))
	l.wantPrefix("W")
	return l
}

// frames sends n observations that nobody else sends.
func (l *leaver) frames(i, n int) {
	l.t.Helper()
	var contents []string
	for k := range n {
		contents = append(contents, data(int64(i*2048+k)))
	}
	l.send(contents...)
}

// until reads what the server says to its end, which has to be an orderly one, and returns the last frame that is
// neither an ack nor a ping.
func (l *leaver) until() (last string) {
	l.t.Helper()
	for {
		l.nc.SetReadDeadline(time.Now().Add(patience))
		content, err := l.dec.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				l.t.Fatalf("%s: %v after %d acks; want EOF", l.name, err, l.acked)
			}
			return last
		}
		l.take(string(content), &last)
	}
}

func (l *leaver) take(content string, last *string) {
	l.t.Helper()
	switch wire.Type([]byte(content)) {
	case 0:
	case wire.TypeAck:
		_, flags, err := wire.ParseAck([]byte(content))
		if err != nil {
			l.t.Fatal(err)
		}
		l.acked += len(flags)
	case wire.TypePing:
	default:
		*last = content
	}
}

// TestEveryWayToEndLosesNoAck ends a thousand connections. Whatever the end is, and whatever the client still sends
// while the server closes, each frame that the store was offered must have been told: a plain close would turn unread
// input into a reset, which overtakes the acks.
func TestEveryWayToEndLosesNoAck(t *testing.T) {
	t.Parallel()
	const frames = 20
	unread := strings.Repeat("x", 64<<10) // more than the server reads before it closes
	for _, way := range []struct {
		name   string
		closes int
		drain  time.Duration
		leave  func(r *rig, l *leaver, i int)
		last   string
	}{
		{"bye", 187, 0, func(_ *rig, l *leaver, _ int) { l.send("B") }, ""},
		{"bye, then more", 130, 0, func(_ *rig, l *leaver, _ int) { l.send("B"); l.raw(unread) }, ""},
		{"half-close without bye", 130, 0, func(_ *rig, l *leaver, _ int) { l.finish() }, ""},
		{"frame of an unknown type", 130, 0, func(_ *rig, l *leaver, _ int) { l.send("X"); l.raw(unread) }, "Estop protocol "},
		{"lost count", 100, 0, func(_ *rig, l *leaver, _ int) { l.raw("12;" + unread) }, "Estop protocol "},
		{"frame too large", 100, 0, func(_ *rig, l *leaver, _ int) { l.raw("9999999:" + unread) }, "Estop size "},
		{"window full", 3, 0, overfill, "Estop protocol window"},
		{"the server drains, the client leaves", 120, time.Minute, leaveAtG, ""},
		{"the server drains, the client stays", 100, time.Second, stayAtG, "Eretry busy "},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(o *Options) { o.Drain = way.drain })
			leavers := make([]*leaver, way.closes)
			for i := range leavers {
				leavers[i] = r.leaver(i)
				leavers[i].frames(i, frames)
			}
			if way.drain > 0 {
				eventually(t, "all offered", func() bool { return r.store.count() == frames*way.closes })
				r.stop()
			}
			for i, l := range leavers {
				way.leave(r, l, i)
			}
			for _, l := range leavers {
				if last := l.until(); !strings.HasPrefix(last, way.last) || (way.last == "") != (last == "") {
					t.Fatalf("%s: last word %q, want %q", l.name, last, way.last)
				}
				l.nc.Close()
			}
			checkTold(t, r, leavers)
		})
	}
}

// overfill holds the store's answers until the window is full, and then sends one frame more.
func overfill(r *rig, l *leaver, i int) {
	r.store.mu.Lock()
	r.store.hold = true
	r.store.mu.Unlock()
	l.frames(i, wire.WindowFrames+1)
	eventually(l.t, "the window is full", func() bool { return r.metric("refused_frames_total", "window") > float64(i) })
	r.store.mu.Lock()
	r.store.hold = false
	r.store.mu.Unlock()
	r.store.release()
}

func leaveAtG(_ *rig, l *leaver, i int) {
	for content := ""; content != "G60000"; content = l.next() {
		l.take(content, new(string))
	}
	l.frames(i, 3) // as if on their way when the G came
	l.send("B")
}

// stayAtG goes on sending until the server closes.
func stayAtG(_ *rig, l *leaver, _ int) {
	noise := netstring.Append(nil, []byte("x"+strings.Repeat("y", 1000)))
	var sending sync.WaitGroup
	sending.Go(func() {
		for {
			l.nc.SetWriteDeadline(time.Now().Add(patience))
			if _, err := l.nc.Write(noise); err != nil {
				return
			}
			time.Sleep(time.Millisecond) // nothing waits for it: it leaves the processor to others
		}
	})
	l.t.Cleanup(sending.Wait)
}

// checkTold compares what the store was offered with what clients were told.
func checkTold(t *testing.T, r *rig, leavers []*leaver) {
	t.Helper()
	for _, l := range leavers {
		if offered := len(r.store.of(l.name)); offered != l.acked || offered == 0 {
			t.Errorf("%s: %d offered, %d acknowledged", l.name, offered, l.acked)
		}
	}
}

// of returns what one observer offered.
func (f *fakeStore) of(observer string) (mine []*schema.Offer) {
	for _, o := range f.all() {
		if o.Observer == observer {
			mine = append(mine, o)
		}
	}
	return mine
}
