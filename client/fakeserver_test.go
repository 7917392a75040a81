package client

import (
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/wire"
	"github.com/firstseen/firstseen/netstring"
	"github.com/firstseen/firstseen/schema"
)

// fakeServer speaks relay mode over real sockets. By default it acks every data frame as first; a test changes what it
// does by its fields before the client connects, or by script.
type fakeServer struct {
	t  testing.TB
	ln net.Listener
	d  *drawing

	mu      sync.Mutex // guards the rest
	welcome wire.Welcome
	script  func(p *peer, frame []byte) bool // in place of the default for a frame; true: handled
	got     []string                         // names of the blocks of all data frames, in order of arrival
	origins map[string]schema.Origin
	metas   map[string]schema.Observation
	reports []schema.Report
	hellos  []wire.Hello
	peers   []*peer
	byes    int
	all     sync.WaitGroup
}

// peer is one connection as the server sees it.
type peer struct {
	net.Conn
	server *fakeServer
	index  int    // 0 for the first connection
	gone   bool   // nothing that it still says is heard
	seen   uint64 // data frames
	mark   uint64 // settled
	mu     sync.Mutex
}

func serveRelay(t testing.TB, d *drawing) *fakeServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeServer{t: t, ln: ln, d: d, origins: map[string]schema.Origin{}, metas: map[string]schema.Observation{},
		welcome: wire.Welcome{Server: "fake", Session: "s", WindowFrames: wire.WindowFrames, WindowBytes: wire.WindowBytes,
			MaxFrame: wire.MaxFrame, PingMillis: 10_000, DeadMillis: 25_000, Chains: []schema.Position{}, Caps: []string{}}}
	s.all.Go(s.accept)
	t.Cleanup(s.stop)
	return s
}

func (s *fakeServer) addr() string { return s.ln.Addr().String() }

func (s *fakeServer) stop() {
	s.ln.Close()
	s.mu.Lock()
	for _, p := range s.peers {
		p.Close()
	}
	s.mu.Unlock()
	s.all.Wait()
}

func (s *fakeServer) accept() {
	for {
		conn, err := s.ln.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		p := &peer{Conn: conn, server: s, index: len(s.peers)}
		s.peers = append(s.peers, p)
		s.mu.Unlock()
		s.all.Go(func() { s.talk(p) })
	}
}

func (s *fakeServer) talk(p *peer) {
	defer p.Close()
	dec := netstring.NewDecoder(p, wire.MaxFrame)
	first, err := dec.Next()
	if err != nil {
		return
	}
	hello, err := wire.ParseHello(first)
	if err != nil {
		s.t.Errorf("HELLO: %v", err)
		return
	}
	s.mu.Lock()
	s.hellos = append(s.hellos, hello)
	welcome, _ := wire.AppendWelcome(nil, s.welcome)
	s.mu.Unlock()
	p.say(welcome)
	for {
		frame, err := dec.Next()
		if err != nil {
			return
		}
		s.mu.Lock()
		script := s.script
		s.mu.Unlock()
		if (script == nil || !script(p, frame)) && !p.take(frame) || p.gone {
			return
		}
	}
}

// drop ends the connection, with a last word if there is one.
func (p *peer) drop(word []byte) bool {
	if word != nil {
		p.say(word)
	}
	p.gone = true
	return true
}

// take is the default: note the frame, ack data. It returns false after B.
func (p *peer) take(frame []byte) bool {
	switch wire.Type(frame) {
	case wire.TypeData:
		p.note(frame)
		p.ack(wire.FlagFirst)
	case wire.TypeStatus:
		r, err := wire.ParseStatus(frame)
		if err != nil {
			p.server.t.Errorf("status: %v", err)
		}
		p.server.mu.Lock()
		p.server.reports = append(p.server.reports, r)
		p.server.mu.Unlock()
	case wire.TypeBye:
		p.server.mu.Lock()
		p.server.byes++
		p.server.mu.Unlock()
		if c, ok := p.Conn.(*net.TCPConn); ok {
			_ = c.CloseWrite()
		}
		_, _ = io.Copy(io.Discard, p.Conn)
		return false
	}
	return true
}

// note records a data frame without an answer.
func (p *peer) note(frame []byte) string {
	o, _, err := wire.ParseData(frame)
	if err != nil {
		p.server.t.Errorf("data: %v", err)
	}
	o.Raw = slices.Clone(o.Raw)
	name := p.server.d.name(o.Hash)
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.seen++
	p.server.got = append(p.server.got, name)
	p.server.origins[name] = o.Origin
	p.server.metas[name] = o
	return name
}

// ack settles the next data frames, one per flag.
func (p *peer) ack(flags ...byte) {
	p.mark += uint64(len(flags))
	p.say(wire.AppendAck(nil, p.mark, flags))
}

func (p *peer) refuse(code wire.Code, text string) {
	p.mark++
	p.say(wire.AppendRefusal(nil, wire.Refusal{N: p.mark, Code: code, Text: text}))
}

func (p *peer) say(content []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = p.Write(netstring.Append(nil, content)) // the client may be gone, which is part of some tests
}

// blocks returns the names received so far.
func (s *fakeServer) blocks() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got)
}

func (s *fakeServer) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.peers)
}

// transitions returns those of all reports.
func (s *fakeServer) transitions() []schema.NodeEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []schema.NodeEvent
	for _, r := range s.reports {
		out = append(out, r.Events...)
	}
	return out
}

func (s *fakeServer) lastReport() schema.Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.reports) == 0 {
		return schema.Report{}
	}
	return s.reports[len(s.reports)-1]
}

// scripted sets what is done with each frame instead of the default.
func (s *fakeServer) scripted(f func(p *peer, frame []byte) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = f
}

// has sets the position that W names.
func (s *fakeServer) has(number uint64, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := schema.Position{Chain: s.d.id, Point: schema.Point{Number: number, Hash: s.d.hash(name)}}
	for down := uint64(1); down <= number; down *= 2 {
		name := s.d.below(name, number-down)
		p.Back = append(p.Back, schema.Point{Number: number - down, Hash: s.d.hash(name)})
	}
	s.welcome.Chains = []schema.Position{p}
}

// wait waits until cond holds.
func wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// wants waits until the server has received exactly these blocks.
func (s *fakeServer) wants(names ...string) {
	s.t.Helper()
	limit := time.After(time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !slices.Equal(s.blocks(), names) {
		select {
		case <-tick.C:
		case <-limit:
			s.t.Fatalf("server got %v\nwant %v", s.blocks(), names)
		}
	}
}

// names returns <letter><from> … <letter><to>.
func names(letter string, from, to int) []string {
	var out []string
	for n := from; n <= to; n++ {
		out = append(out, letter+itoa(n))
	}
	return out
}
