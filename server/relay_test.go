package server

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

func TestWelcomeSaysWhatIsAllowedAndStored(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.positions = []schema.Position{
		{Chain: 1, Point: schema.Point{Number: 7, Hash: schema.Hash{7}}},
		{Chain: 5, Point: schema.Point{Number: 9, Hash: schema.Hash{9}}},
	}
	w := r.dial().greet()
	if w.Server != "relay-1" || len(w.Session) != 16 {
		t.Errorf("server %q, session %q", w.Server, w.Session)
	}
	if w.WindowFrames != 1024 || w.WindowBytes != 4<<20 || w.MaxFrame != 4<<20 || w.PingMillis != 10_000 || w.DeadMillis != 25_000 {
		t.Errorf("limits %+v", w)
	}
	if want := r.store.positions[:1]; !reflect.DeepEqual(w.Chains, want) {
		t.Errorf("chains %v, want %v", w.Chains, want)
	}
}

func TestObservationIsOfferedWithWhatTheHeaderSays(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := start(t, func(o *Options) { o.Now = func() time.Time { return now } })
	p := r.dial()
	p.greet()
	o := observationAt(42)
	o.Transactions = []schema.Transaction{{Hash: schema.Hash{1}, Value: "5"}}
	p.send(dataOf(o, "two\nlines\x00"))
	p.want("A1 f")

	got := r.store.all()[0]
	if got.Chain != 1 || got.Key != o.Hash.Key() || got.Header.Number != 42 || got.Header.Hash != o.Hash ||
		got.Header.Time.Unix() != 1_700_000_000+12*42 {
		t.Errorf("chain %d, key %s, header %+v", got.Chain, got.Key, got.Header)
	}
	if string(got.Payload) != "two\nlines\x00" || got.ContentType != "text/plain" || len(got.Transactions) != 1 {
		t.Errorf("payload %q, %s, %d transactions", got.Payload, got.ContentType, len(got.Transactions))
	}
	if got.Observer != "paris-1" || got.Node != "geth-1" || got.Server != "relay-1" || got.Remote != "127.0.0.1" ||
		got.Origin != schema.OriginHead || !got.ReceivedAt.Equal(now) || !got.ObservedAt.Equal(o.ObservedAt) {
		t.Errorf("offer %+v", got)
	}
}

func TestOffersDoNotShareTheReadBuffer(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.greet()
	for i := range int64(20) {
		p.send(dataOf(observationAt(i), fmt.Sprintf("payload %d", i)))
		p.next()
	}
	for i, o := range r.store.all() {
		if want := fmt.Sprintf("payload %d", i); string(o.Payload) != want || o.Key != observationAt(int64(i)).Hash.Key() {
			t.Errorf("offer %d has payload %q and key %s", i, o.Payload, o.Key)
		}
	}
}

func TestAcksAreAPrefixHoweverTheStoreSettles(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.hold = true
	p := r.dial()
	p.greet()
	p.send(data(1), data(2), data(1), data(4))
	eventually(t, "four offers", func() bool { return r.store.count() == 4 })
	r.store.release(2, 3, 1) // all but the first
	r.store.release(0)
	p.want("A4 ffdf")
}

func TestRefusalsComeInFrameOrder(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.hold = true
	r.store.answer = func(i int, _ *schema.Offer) (schema.Settlement, bool) {
		return schema.Settlement{Outcome: schema.Refused, Reason: "payload too\nlong"}, i == 2
	}
	p := r.dial()
	p.greet()
	// 1 and 2 good, 3 forged, 4 good, 5 refused by the store, 6 without JSON, 7 good
	p.send(data(1), data(2), forged(3), data(4), "D{}\n", data(7))
	eventually(t, "four offers", func() bool { return r.store.count() == 4 })
	r.store.release(3, 2, 1)
	r.store.release(0)
	_, hash := headerAt(3)
	p.want("A2 ff")
	p.want("N3 header the header hashes to " + hash.String())
	p.want("N4 data payload too?long")
	p.want("N5 meta chain is not 1 to 2^63-1")
	p.want("A6 f")
	if got := r.metric("refused_frames_total"); got != 3 {
		t.Errorf("%v refusals counted, want 3", got)
	}
	p.send("B")
	p.wantEnd()
}

func TestHeaderIsCheckedAgain(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.greet()
	trailing := observationAt(1)
	trailing.Header = append(slices.Clone(trailing.Header), 0)
	garbage := observationAt(1)
	garbage.Header = schema.Bytes{0xc0}
	for i, d := range []string{forged(1), dataOf(trailing, ""), dataOf(garbage, "")} {
		p.send(d)
		p.wantPrefix(fmt.Sprintf("N%d header ", i+1))
	}
	if r.store.count() != 0 {
		t.Errorf("%d offers, want none", r.store.count())
	}
}

func TestWindowIsEnforced(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.hold = true
	p := r.dial()
	p.greet()
	d := string(netstring.Append(nil, []byte(data(1))))
	p.raw(strings.Repeat(d, wire.WindowFrames+1))
	eventually(t, "one frame refused", func() bool { return r.metric("refused_frames_total", "window") == 1 })
	r.store.release()
	p.wantAcks(wire.WindowFrames)
	p.want("Estop protocol window exceeded")
	p.wantEnd()
}

func TestOneFrameIsAlwaysAllowed(t *testing.T) {
	t.Parallel()
	r := start(t)
	p := r.dial()
	p.greet()
	overhead := len(dataOf(observationAt(1), ""))
	p.send(dataOf(observationAt(1), strings.Repeat("x", wire.MaxFrame-overhead)))
	p.want("A1 f")
}

func TestBigFramesFillTheWindowByBytes(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.hold = true
	p := r.dial()
	p.greet()
	half := strings.Repeat("x", wire.WindowBytes/2)
	p.send(dataOf(observationAt(1), half), dataOf(observationAt(2), half))
	eventually(t, "the second refused", func() bool { return r.metric("refused_frames_total", "window") == 1 })
	r.store.release()
	p.want("A1 f")
	p.want("Estop protocol window exceeded")
	p.wantEnd()
}

func TestHelloThatIsRefused(t *testing.T) {
	t.Parallel()
	r := start(t)
	for name, c := range map[string]struct{ hello, answer string }{
		"other version": {`<!--firstseen/2 {"observer":"a"}-->`, "Estop version "},
		"broken JSON":   {`<!--firstseen/1 {"observer":-->`, "Estop protocol "},
		"too long":      {`<!--firstseen/1 {"observer":"` + strings.Repeat("a", 5000) + `"}-->`, "Estop size "},
		"bad name":      {`<!--firstseen/1 {"observer":"a b"}-->`, "Estop protocol "},
		"prefix alone":  {`<!--firstseen/`, "Estop protocol "},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.dial()
			p.t = t
			p.send(c.hello, data(1))
			p.wantPrefix(c.answer)
			p.wantEnd()
		})
	}
	if r.store.count() != 0 {
		t.Error("a refused HELLO was stored")
	}
}

func TestFramesThatEndTheConnection(t *testing.T) {
	t.Parallel()
	r := start(t)
	for name, c := range map[string]struct{ frame, answer string }{
		"unknown upper case":  {"X", "Estop protocol "},
		"a server's frame":    {"A1 f", "Estop protocol "},
		"a digit":             {"1", "Estop protocol "},
		"empty":               {"", "Estop protocol "},
		"pong with content":   {"O!", "Estop protocol "},
		"bye with content":    {"B!", "Estop protocol "},
		"broken status":       {"S[]", "Estop protocol "},
		"status too long":     {"S" + strings.Repeat(" ", wire.MaxStatus), "Estop size "},
		"second HELLO":        {hello, "Estop protocol "},
		"payload without a D": {"<p>1</p>", "Estop protocol "},
	} {
		t.Run(name, func(t *testing.T) {
			p := r.dial()
			p.t = t
			p.greet()
			p.send(data(1), c.frame, data(2))
			p.wantPrefix("A1 ")
			p.wantPrefix(c.answer)
			p.wantEnd()
		})
	}
}

func TestUnknownLowerCaseFramesAreSkipped(t *testing.T) {
	t.Parallel()
	p := start(t).dial()
	p.greet()
	p.send("x", "later", data(1), "O", "B")
	p.want("A1 f")
	p.wantEnd()
}

func TestStatusIsReportedAndNeverEndsTheLink(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.store.reportErr = errFake
	p := r.dial()
	p.greet()
	p.send(`S{"gaps":[{"chain":1,"from":2,"to":3,"reason":"pruned"}]}`, "S{}", data(1))
	p.want("A1 f")
	if len(r.store.reports) != 2 || r.store.reports[0].Gaps[0].To != 3 {
		t.Errorf("reports %v", r.store.reports)
	}
}

func TestStoreThatFailsSendsTheClientAway(t *testing.T) {
	t.Parallel()
	t.Run("positions", func(t *testing.T) {
		t.Parallel()
		r := start(t)
		r.store.posErr = errFake
		p := r.dial()
		p.send(hello)
		p.wantPrefix("Eretry store ")
		p.wantEnd()
	})
	t.Run("offer", func(t *testing.T) {
		t.Parallel()
		r := start(t)
		p := r.dial()
		p.greet()
		p.send(data(1))
		p.want("A1 f")
		r.store.mu.Lock()
		r.store.offerErr = errFake
		r.store.mu.Unlock()
		p.send(data(2))
		p.wantPrefix("Eretry store ")
		p.wantEnd()
	})
	t.Run("unsettled", func(t *testing.T) {
		t.Parallel()
		r := start(t)
		r.store.hold = true
		r.store.answer = func(i int, _ *schema.Offer) (schema.Settlement, bool) {
			return schema.Settlement{Outcome: schema.Unsettled, Reason: "dsn with password"}, i == 1
		}
		p := r.dial()
		p.greet()
		p.send(data(1), data(2), data(3))
		eventually(t, "three offers", func() bool { return r.store.count() == 3 })
		r.store.release(2, 0, 1)
		p.want("A1 f") // not the third, which is behind the second
		p.want("Eretry store the store stopped before it had settled everything")
		p.wantEnd()
	})
}

func TestTooManyRelayConnections(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) { o.MaxConns = 8 })
	var peers []*peer
	for range 8 {
		p := r.dial()
		p.greet()
		peers = append(peers, p)
	}
	p := r.dial()
	p.send(hello)
	p.wantPrefix("Eretry busy ")
	p.wantEnd()
	peers[0].send("B")
	peers[0].wantEnd()
	peers[0].nc.Close()
	eventually(t, "room for one more", func() bool { return r.srv.relays.Load() < 8 })
	r.dial().greet()
}

// The client takes nothing while the store settles 500 frames, so the first write holds what was there at its start,
// and the second one everything else.
func TestSettlementsLeaveWithTheNextWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t)
		r.store.hold = true
		p := ln.connect(t)
		p.greet()
		for i := range int64(500) {
			p.send(data(i))
		}
		synctest.Wait()
		r.store.release()
		synctest.Wait()
		if acks := p.wantAcks(500); acks > 2 {
			t.Errorf("%d acks for 500 settlements", acks)
		}
	})
}

func TestAddressesAreShownAsIPv4WhereTheyAre(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"127.0.0.1:1": "127.0.0.1:1", "[::ffff:10.0.0.1]:2": "10.0.0.1:2", "[::1]:3": "[::1]:3", "[fe80::1%eth0]:4": "[fe80::1]:4",
	} {
		if got := addrPort(tcpAddr(in)).String(); got != want {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
	}
	if got := addrPort(nil); got != (netip.AddrPort{}) {
		t.Errorf("no address is shown as %s", got)
	}
}
