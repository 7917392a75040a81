package server

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/netstring"
)

func (r *rig) dialTo(addr net.Addr) *peer {
	r.t.Helper()
	nc, err := net.Dial("tcp", addr.String())
	if err != nil {
		r.t.Fatal(err)
	}
	return newPeer(r.t, nc)
}

func TestATLSPortSpeaksTLSAndNothingElse(t *testing.T) {
	t.Parallel()
	ca, foreign := testenv.NewAuthority(t), testenv.NewAuthority(t)
	r := start(t, func(o *Options) { o.TLS, o.PlainAddr = tlsOf(ca, true), "127.0.0.1:0" })
	good := []tls.Certificate{ca.Pair(testenv.Leaf{})}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		config := clientTLS(ca, good...)
		config.MaxVersion = version
		p := r.dial().secure(config)
		p.greet()
		p.send(data(1), "B")
		p.wantPrefix("A1 ")
		p.wantEnd()
	}
	stored := r.store.count()
	for name, config := range map[string]*tls.Config{
		"no certificate":      clientTLS(ca),
		"expired certificate": clientTLS(ca, ca.Pair(testenv.Leaf{Until: time.Now().Add(-time.Minute)})),
		"foreign certificate": clientTLS(ca, foreign.Pair(testenv.Leaf{})),
		"TLS 1.1":             {RootCAs: ca.Pool(), ServerName: "relay.example", Certificates: good, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11},
		"wrong name":          {RootCAs: ca.Pool(), ServerName: "other.example", Certificates: good},
		"foreign server":      {RootCAs: foreign.Pool(), ServerName: "relay.example", Certificates: good},
		"no TLS":              nil,
	} {
		nc := r.dial().nc
		if config != nil {
			nc = tls.Client(nc, config)
		}
		nc.SetDeadline(time.Now().Add(patience))
		_, err := nc.Write(netstring.Append(netstring.Append(nil, []byte(hello)), []byte(data(7))))
		if err == nil {
			_, err = nc.Read(make([]byte, 1))
		}
		if err == nil {
			t.Errorf("%s: the server answers", name)
		}
		nc.Close()
	}
	eventually(t, "seven refusals", func() bool { return r.metric("refused_connections_total", "tls") == 7 })
	if r.store.count() != stored {
		t.Error("something that was refused is stored")
	}
	p := r.dialTo(r.srv.PlainAddr())
	p.greet()
}

// A client that writes, never reads and closes loses nothing: the server has sent it nothing to reset the connection for.
func TestBareClientsMaySpeakTLS(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	r := start(t, func(o *Options) { o.TLS = tlsOf(ca, false) })
	for _, farewell := range []bool{true, false} {
		nc := r.dial().nc
		p := newPeer(t, nc).secure(clientTLS(ca))
		before := r.store.count()
		for i := range 200 {
			p.send(fmt.Sprintf("<p>%d %v</p>", i, farewell))
		}
		if farewell {
			p.nc.Close()
		} else {
			nc.Close() // as a process that ends does: TCP says so, TLS does not
		}
		eventually(t, "200 payloads", func() bool { return r.store.count() == before+200 })
	}
	eventually(t, "no connection", func() bool { return r.metric("connections") == 0 })
	if n := r.metric("refused_frames_total"); n != 0 {
		t.Errorf("%v frames refused", n)
	}
}

func TestAPortThatIsOpenedInVainIsClosedAgain(t *testing.T) {
	t.Parallel()
	taken := start(t)
	ca := testenv.NewAuthority(t)
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	_, err = New(Options{Addr: addr, PlainAddr: taken.srv.Addr().String(), TLS: tlsOf(ca, false), Name: "a", Store: taken.store})
	if err == nil || !strings.Contains(err.Error(), taken.srv.Addr().String()) {
		t.Fatal(err)
	}
	again, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestWhoMaySpeakBareMode(t *testing.T) {
	t.Parallel()
	loopback, elsewhere := netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8")
	for name, c := range map[string]struct {
		change func(*Options)
		stored int
	}{
		"everybody":      {func(*Options) {}, 1},
		"nobody":         {func(o *Options) { o.NoBare = true }, 0},
		"this network":   {func(o *Options) { o.BareFrom = []netip.Prefix{elsewhere, loopback} }, 1},
		"other networks": {func(o *Options) { o.BareFrom = []netip.Prefix{elsewhere} }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, c.change)
			p := r.dial()
			p.send("<p>1</p>")
			p.finish()
			p.wantEnd() // without a word, either way
			if n := r.store.count(); n != c.stored || r.metric("refused_connections_total", "bare") != float64(1-c.stored) {
				t.Errorf("%d stored, %v refused", n, r.metric("refused_connections_total", "bare"))
			}
			r.dial().greet()
		})
	}
}

// proxied returns a PROXY header of version 2.
func proxied(source, destination string) string {
	h := proxyproto.HeaderProxyFromAddrs(2, tcpAddr(source), tcpAddr(destination))
	text, err := h.Format()
	if err != nil {
		panic(err)
	}
	return string(text)
}

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	header4   = signature + "\x21\x11\x00\x0c"
)

var anyLoopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestTheClientIsWhoTheProxySaysItIs(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ header, remote string }{
		"IPv4":              {proxied("203.0.113.7:1234", "10.0.0.1:9999"), "203.0.113.7"},
		"IPv6":              {proxied("[2001:db8::7]:1234", "[2001:db8::1]:9999"), "2001:db8::7"},
		"IPv4 in IPv6":      {signature + "\x21\x21\x00\x24" + strings.Repeat("\x00", 10) + "\xff\xff\xcb\x00\x71\x07" + strings.Repeat("\x00", 20), "203.0.113.7"},
		"with TLVs":         {signature + "\x21\x11\x00\x13\xcb\x00\x71\x07\x0a\x00\x00\x01\x04\xd2\x27\x0f\x04\x00\x04abcd", "203.0.113.7"},
		"the proxy's own":   {signature + "\x20\x00\x00\x00", "127.0.0.1"},
		"its own, with TLV": {signature + "\x20\x00\x00\x03\x04\x00\x00", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, func(o *Options) { o.ProxyFrom = anyLoopback })
			relay, bare := r.dial(), r.dial()
			for i := range len(c.header) { // a byte at a time: nothing is read beyond the header
				relay.raw(c.header[i : i+1])
			}
			relay.greet()
			relay.send(data(1))
			relay.want("A1 f")
			bare.raw(c.header + "8:<p>1</p>,")
			bare.finish()
			bare.wantEnd()
			for _, o := range r.store.all() {
				if o.Remote != c.remote {
					t.Errorf("stored from %s, want %s", o.Remote, c.remote)
				}
			}
			if r.store.count() != 2 {
				t.Errorf("%d stored", r.store.count())
			}
		})
	}
}

func TestHostilePROXYHeaders(t *testing.T) {
	t.Parallel()
	trusting := start(t, func(o *Options) { o.ProxyFrom, o.NoBare = anyLoopback, false })
	refused := 0.0
	for name, header := range map[string]string{
		"none":               hello,
		"version 1":          "PROXY TCP4 203.0.113.7 10.0.0.1 1234 9999\r\n",
		"wrong signature":    signature[:11] + "\r\x21\x11\x00\x0c" + strings.Repeat("\x00", 12),
		"version 3":          signature + "\x31\x11\x00\x0c" + strings.Repeat("\x00", 12),
		"unknown command":    signature + "\x22\x11\x00\x0c" + strings.Repeat("\x00", 12),
		"unknown family":     signature + "\x21\x41\x00\x0c" + strings.Repeat("\x00", 12),
		"unknown transport":  signature + "\x21\x13\x00\x0c" + strings.Repeat("\x00", 12),
		"unspecified":        signature + "\x21\x00\x00\x00",
		"datagram":           signature + "\x21\x12\x00\x0c" + strings.Repeat("\x01", 12),
		"a path":             signature + "\x21\x31\x00\xd8/tmp/x" + strings.Repeat("\x00", 210),
		"too short for it":   signature + "\x21\x21\x00\x0c" + strings.Repeat("\x00", 12),
		"of 64 KiB":          signature + "\x21\x11\xff\xff" + strings.Repeat("\x00", 65535),
		"cut in the middle":  header4 + "\xcb\x00",
		"cut in its address": signature + "\x21",
	} {
		p := trusting.dial()
		p.t = t
		p.nc.SetDeadline(time.Now().Add(patience))
		_, _ = p.nc.Write([]byte(header + "8:<p>1</p>,")[:len(header)+11*boolInt(!strings.HasPrefix(name, "cut"))])
		_ = p.nc.(*net.TCPConn).CloseWrite() // fails when the refusal was quicker
		if n, err := p.nc.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("%s: the server answers", name)
		}
		refused++
	}
	eventually(t, "all refused", func() bool { return trusting.metric("refused_connections_total", "proxy") == refused })
	if n := trusting.store.count(); n != 0 {
		t.Errorf("%d stored", n)
	}

	// From anywhere else a header is what it looks like: a frame that does not begin as one must.
	wary := start(t, func(o *Options) { o.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	p := wary.dial()
	p.raw(proxied("203.0.113.7:1234", "10.0.0.1:9999"))
	p.send("<p>1</p>")
	p.finish()
	p.wantEnd()
	if wary.store.count() != 0 || wary.metric("refused_frames_total", "syntax") != 1 {
		t.Error("a header from an address that is not a proxy's was believed")
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestBareNetworksAreTheClientsOwn(t *testing.T) {
	t.Parallel()
	r := start(t, func(o *Options) {
		o.ProxyFrom, o.BareFrom = anyLoopback, []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	})
	for _, source := range []string{"203.0.113.7:1", "198.51.100.1:1"} {
		p := r.dial()
		p.raw(proxied(source, "10.0.0.1:9999") + "8:<p>1</p>,")
		p.finish()
		p.wantEnd()
	}
	if all := r.store.all(); len(all) != 1 || all[0].Remote != "203.0.113.7" {
		t.Errorf("%d stored", len(all))
	}
}

func TestTLSBehindAProxy(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	r := start(t, func(o *Options) { o.TLS, o.ProxyFrom = tlsOf(ca, false), anyLoopback })
	p := r.dial()
	p.raw(proxied("203.0.113.7:1234", "10.0.0.1:9999"))
	p.secure(clientTLS(ca)).greet()
	p.send(data(1))
	p.want("A1 f")
	if got := r.store.all()[0].Remote; got != "203.0.113.7" {
		t.Error(got)
	}
}

// addressed is a pipe that claims an address.
type addressed struct {
	net.Conn
	addr net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.addr }

func TestWhoKeepsTheServerWaitingAtTheDoorIsShownOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		says  string
		after time.Duration
	}{
		"no PROXY header":     {"", proxyTime},
		"half a PROXY header": {header4, proxyTime},
		"no TLS":              {proxied("203.0.113.7:1234", "10.0.0.1:9999"), handshakeTime},
		"half of TLS":         {proxied("203.0.113.7:1234", "10.0.0.1:9999") + "\x16\x03\x01\x02\x00\x01", handshakeTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ca := testenv.NewAuthority(t)
				r, ln := startPiped(t, func(o *Options) { o.TLS, o.ProxyFrom = tlsOf(ca, false), anyLoopback })
				ours, theirs := net.Pipe()
				ln.conns <- addressed{theirs, tcpAddr("127.0.0.1:1")}
				began := time.Now()
				if _, err := ours.Write([]byte(c.says)); err != nil {
					t.Fatal(err)
				}
				ours.SetReadDeadline(time.Now().Add(time.Minute))
				if n, err := ours.Read(make([]byte, 1)); n != 0 || err == nil || time.Since(began) != c.after {
					t.Errorf("%d bytes, %v after %v", n, err, time.Since(began))
				}
				synctest.Wait()
				if r.metric("connections") != 0 || r.metric("refused_connections_total") != 1 {
					t.Error("the connection is not refused, or still counted")
				}
			})
		})
	}
}

func TestABurstOfConnectionsIsTakenOneAfterTheOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, ln := startPiped(t, func(o *Options) { o.AcceptRate = 10 })
		began := time.Now()
		taken := make(chan time.Duration, 30)
		for range cap(taken) {
			go func() {
				ln.connect(t).greet()
				taken <- time.Since(began)
			}()
		}
		for i := range cap(taken) {
			want := time.Duration(max(0, i-9)) * 100 * time.Millisecond
			if got := <-taken; got.Round(10*time.Millisecond) != want {
				t.Errorf("connection %d is taken after %v, want %v", i, got, want)
			}
		}
		if held := r.metric("accept_held_seconds_total"); held < 2 {
			t.Errorf("connections were held for %v s", held)
		}
	})
}

// However a connection over TLS ends, its client has heard of every frame that was settled.
func TestNoAckIsLostAtTheEndOfATLSConnection(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	r := start(t, func(o *Options) { o.TLS = tlsOf(ca, false) })
	config := clientTLS(ca)
	for way, c := range map[string]struct {
		end  func(*peer)
		last string
	}{
		"bye":         {func(p *peer) { p.send("B") }, ""},
		"half-close":  {func(p *peer) { p.nc.(*tls.Conn).CloseWrite() }, ""},
		"TCP's own":   {func(p *peer) { p.nc.(*tls.Conn).NetConn().(*net.TCPConn).CloseWrite() }, ""},
		"broken rule": {func(p *peer) { p.send("X", strings.Repeat("x", 1<<20)) }, "Estop protocol "},
	} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			for range 25 {
				p := r.dial().secure(config)
				p.t = t
				p.greet()
				var frames []string
				for n := range int64(20) {
					frames = append(frames, data(n))
				}
				p.send(frames...)
				c.end(p)
				p.wantAcks(20)
				if c.last != "" {
					p.wantPrefix(c.last)
				}
				p.wantEnd()
				p.nc.Close()
			}
		})
	}
}
