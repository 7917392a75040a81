package server

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/rlp"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"math/big"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; nothing takes nearly so long unless it is broken.
const patience = 20 * time.Second

// rig is a server under test with its fake store.
type rig struct {
	t     *testing.T
	srv   *Server
	store *fakeStore
	reg   *prometheus.Registry
	stop  context.CancelFunc // begins the drain
	ended chan struct{}      // closed when Run has returned
	err   error              // of Run
}

// start runs a server on a free port of the loopback interface until the test ends.
func start(t *testing.T, change ...func(*Options)) *rig {
	t.Helper()
	r := newRig(t)
	o := r.options(change)
	srv, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.run(srv)
	return r
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, store: newFake(), reg: prometheus.NewRegistry(), ended: make(chan struct{})}
}

func (r *rig) options(change []func(*Options)) Options {
	o := Options{Addr: "127.0.0.1:0", Name: "relay-1", Store: r.store, Registerer: r.reg,
		Drain: 200 * time.Millisecond, BareDrain: 200 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	return o
}

func (r *rig) run(srv *Server) {
	r.srv = srv
	ctx, cancel := context.WithCancel(context.Background())
	r.stop = cancel
	go func() {
		defer close(r.ended)
		r.err = srv.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		<-r.ended
		r.store.close()
	})
}

// metric returns the sum of a metric's series whose labels have all the given values.
func (r *rig) metric(name string, values ...string) float64 {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	var sum float64
	for _, f := range families {
		if f.GetName() != "firstseen_server_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			ok := true
			for _, v := range values {
				ok = ok && have[v]
			}
			if ok {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// eventually waits until ok holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not so: %s", what)
		}
	}
}

// peer is a client under the test's control.
type peer struct {
	t   *testing.T
	nc  net.Conn
	dec *netstring.Decoder
}

func (r *rig) dial() *peer {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.srv.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	return newPeer(r.t, nc)
}

func newPeer(t *testing.T, nc net.Conn) *peer {
	t.Cleanup(func() { nc.Close() })
	return &peer{t: t, nc: nc, dec: netstring.NewDecoder(nc, wire.MaxFrame)}
}

// raw sends bytes as they are.
func (p *peer) raw(b string) {
	p.t.Helper()
	p.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(p.nc, b); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

// send sends each content as a frame, all in one write.
func (p *peer) send(contents ...string) {
	p.t.Helper()
	var b []byte
	for _, c := range contents {
		b = netstring.Append(b, []byte(c))
	}
	p.raw(string(b))
}

// next returns the content of the next frame; pings are answered and skipped.
func (p *peer) next() string {
	p.t.Helper()
	p.nc.SetReadDeadline(time.Now().Add(patience))
	content, err := p.dec.Next()
	if err != nil {
		p.t.Fatalf("read: %v", err)
	}
	return string(content)
}

func (p *peer) want(content string) {
	p.t.Helper()
	if got := p.next(); got != content {
		p.t.Fatalf("got %q, want %q", got, content)
	}
}

// wantPrefix is want for a frame whose end does not matter.
func (p *peer) wantPrefix(prefix string) {
	p.t.Helper()
	if got := p.next(); !strings.HasPrefix(got, prefix) {
		p.t.Fatalf("got %q, want %q…", got, prefix)
	}
}

// wantAcks takes acks until they cover frame n, the first frame's being the first flag, and returns how many came.
func (p *peer) wantAcks(n uint64) (acks int) {
	p.t.Helper()
	for mark := uint64(0); mark < n; acks++ {
		content := p.next()
		to, flags, err := wire.ParseAck([]byte(content))
		if err != nil || to != mark+uint64(len(flags)) {
			p.t.Fatalf("got %q after mark %d", content, mark)
		}
		mark = to
	}
	return acks
}

// wantEnd checks that nothing more comes but an orderly end.
func (p *peer) wantEnd() {
	p.t.Helper()
	p.nc.SetReadDeadline(time.Now().Add(patience))
	if content, err := p.dec.Next(); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		p.t.Fatalf("got %q, %v; want EOF", content, err)
	}
}

// finish half-closes: the peer has said everything and reads on.
func (p *peer) finish() {
	p.t.Helper()
	if err := p.nc.(*net.TCPConn).CloseWrite(); err != nil {
		p.t.Fatal(err)
	}
}

const hello = `<!--firstseen/1 {"observer":"paris-1","chains":[1]}-->`

// greet says HELLO and takes the W.
func (p *peer) greet() wire.Welcome {
	p.t.Helper()
	p.send(hello)
	w, err := wire.ParseWelcome([]byte(p.next()))
	if err != nil {
		p.t.Fatal(err)
	}
	return w
}

// headerAt returns the RLP of a header with that number, and its hash.
func headerAt(number int64) (raw []byte, hash schema.Hash) {
	h := &types.Header{Number: big.NewInt(number), Difficulty: big.NewInt(1), GasLimit: 30_000_000,
		Time: uint64(1_700_000_000 + 12*number), Extra: []byte("test")}
	raw, err := rlp.EncodeToBytes(h)
	if err != nil {
		panic(err)
	}
	return raw, schema.Hash(h.Hash())
}

func observationAt(number int64) schema.Observation {
	raw, hash := headerAt(number)
	return schema.Observation{
		Chain: 1, Header: raw, Hash: hash, Node: "geth-1", ObservedAt: time.Unix(1_700_000_000, 0),
		ContentType: "text/plain", Origin: schema.OriginHead,
	}
}

// data returns a D frame for the block at that number.
func data(number int64) string { return dataOf(observationAt(number), "payload") }

func dataOf(o schema.Observation, payload string) string {
	content, err := wire.AppendData(nil, o, []byte(payload))
	if err != nil {
		panic(err)
	}
	return string(content)
}

// forged returns a D frame whose header does not hash to what it says.
func forged(number int64) string {
	o := observationAt(number)
	o.Hash[0] ^= 1
	return dataOf(o, "payload")
}

// pipes is a listener whose connections are net.Pipes, for servers in a synctest bubble.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.done) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv6loopback, Port: 9999} }

// startPiped is start in a synctest bubble.
func startPiped(t *testing.T, change ...func(*Options)) (*rig, *pipes) {
	t.Helper()
	r := newRig(t)
	o, err := r.options(change).withDefaults()
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMetrics(r.reg, o.Name)
	if err != nil {
		t.Fatal(err)
	}
	srv, ln := newServer(o, m), newPipes()
	srv.doors = []door{{ln, quietTLS(o.TLS)}}
	r.run(srv)
	return r, ln
}

// connect opens a pipe to the server.
func (p *pipes) connect(t *testing.T) *peer {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return newPeer(t, ours)
}

func tcpAddr(s string) *net.TCPAddr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
