package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
)

// CommitPoint is a moment of a transaction's COMMIT.
type CommitPoint int

const (
	// BeforeCommit is when the COMMIT has arrived and was not passed on.
	BeforeCommit CommitPoint = iota
	// AfterCommit is when the database has committed and its answer was not passed on.
	AfterCommit
)

// MySQLProxy is a relay in front of a MySQL or MariaDB server that knows when a transaction commits, so that whoever
// commits, or the database, can be stopped at exactly that point. It reads the client/server protocol without TLS and
// without compression, as far as it takes to find text and prepared statements.
type MySQLProxy struct {
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	target string              // guarded by mu
	trap   *trap               // guarded by mu; nil when none is set
	closed bool                // guarded by mu
	links  map[*mysqlLink]bool // guarded by mu: the open ones
}

// trap is what Catch asked for.
type trap struct {
	at        CommitPoint
	statement string
	do        func() bool
}

// mysqlLink is one session. The protocol is strictly question and answer, so the halves never look at it at once, except
// for what mu guards.
type mysqlLink struct {
	client, server net.Conn

	mu        sync.Mutex
	preparing string            // guarded by mu: the text of the statement whose number is awaited
	prepared  map[uint32]string // guarded by mu
	ran       []string          // guarded by mu: statements of the transaction
	caught    *trap             // guarded by mu: due when the answer to COMMIT comes
}

// NewMySQLProxy listens on a free port of 127.0.0.1 and relays to target. The caller closes it.
func NewMySQLProxy(target string) (*MySQLProxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &MySQLProxy{listener: l, target: target, links: map[*mysqlLink]bool{}}
	p.wg.Go(p.serve)
	return p, nil
}

// Addr returns host and port to connect to.
func (p *MySQLProxy) Addr() string { return p.listener.Addr().String() }

// Target names the server for the connections to come.
func (p *MySQLProxy) Target(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = addr
}

// Catch has do called once, at the given point of the next transaction that ran a statement which begins with the given
// text. The session waits for do; if that returns false, what was held back is lost and the session cut. Do must not
// call the proxy.
func (p *MySQLProxy) Catch(at CommitPoint, statement string, do func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = &trap{at, statement, do}
}

// spring returns the trap if it is one for a transaction that ran these statements, and takes it away.
func (p *MySQLProxy) spring(ran []string) *trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.trap
	if t == nil {
		return nil
	}
	for _, text := range ran {
		if strings.HasPrefix(text, t.statement) {
			p.trap = nil
			return t
		}
	}
	return nil
}

// Close stops listening, cuts all sessions and waits for what the proxy runs, calls of Catch's function too.
func (p *MySQLProxy) Close() error {
	p.mu.Lock()
	p.closed = true
	for l := range p.links {
		l.cut()
	}
	p.mu.Unlock()
	err := p.listener.Close()
	p.wg.Wait()
	return err
}

func (p *MySQLProxy) serve() {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.relay(c) })
	}
}

func (p *MySQLProxy) relay(c net.Conn) {
	defer c.Close()
	p.mu.Lock()
	target := p.target
	p.mu.Unlock()
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	l := &mysqlLink{client: c, server: server, prepared: map[uint32]string{}}
	defer l.cut()
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.links[l] = true
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(server, c, func(packet []byte) bool { return l.asked(p, packet) }) })
	pumps.Go(func() { l.pump(c, server, l.answered) })
	pumps.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (l *mysqlLink) cut() {
	_ = l.client.Close()
	_ = l.server.Close()
}

// pump passes packets on that see lets pass; it ends the session when one side does.
func (l *mysqlLink) pump(to io.Writer, from io.Reader, see func(packet []byte) bool) {
	defer l.cut()
	in := bufio.NewReader(from)
	for {
		packet, err := readPacket(in)
		if err != nil || !see(packet) {
			return
		}
		if _, err := to.Write(packet); err != nil {
			return
		}
	}
}

// packetHeader is three bytes of length, little-endian, and a sequence number that begins at 0 with each command.
const packetHeader = 4

// readPacket reads one packet, its header included. Its length is bounded by the protocol: 16 MiB.
func readPacket(in io.Reader) ([]byte, error) {
	var head [packetHeader]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return nil, err
	}
	length := int(head[0]) | int(head[1])<<8 | int(head[2])<<16
	packet := make([]byte, packetHeader+length)
	copy(packet, head[:])
	_, err := io.ReadFull(in, packet[packetHeader:])
	return packet, err
}

// The commands that matter here.
const (
	comQuery       = 0x03
	comStmtPrepare = 0x16
	comStmtExecute = 0x17
)

var errNoCommand = errors.New("no command")

// command takes a packet of the client apart; one that continues another, or belongs to the login, is none.
func command(packet []byte) (kind byte, body []byte, err error) {
	if packet[3] != 0 || len(packet) == packetHeader {
		return 0, nil, errNoCommand
	}
	return packet[packetHeader], packet[packetHeader+1:], nil
}

// asked notes what the client wants and tells whether the packet may pass.
func (l *mysqlLink) asked(p *MySQLProxy, packet []byte) bool {
	kind, body, err := command(packet)
	if err != nil {
		return true
	}
	l.mu.Lock()
	l.preparing = ""
	switch {
	case kind == comStmtPrepare:
		l.preparing = string(body)
	case kind == comStmtExecute && len(body) >= 4:
		l.ran = append(l.ran, l.prepared[binary.LittleEndian.Uint32(body)])
	case kind == comQuery && bytes.EqualFold(body, []byte("COMMIT")):
		t := p.spring(l.ran)
		l.ran = nil
		if t != nil && t.at == BeforeCommit {
			l.mu.Unlock()
			return t.do()
		}
		l.caught = t
	case kind == comQuery && (bytes.EqualFold(body, []byte("START TRANSACTION")) || bytes.EqualFold(body, []byte("ROLLBACK"))):
		l.ran = nil
	case kind == comQuery:
		l.ran = append(l.ran, string(body))
	}
	l.mu.Unlock()
	return true
}

// answered notes the number of a prepared statement, and springs a trap that waits for the answer to COMMIT.
func (l *mysqlLink) answered(packet []byte) bool {
	l.mu.Lock()
	text, t := l.preparing, l.caught
	l.preparing, l.caught = "", nil
	if text != "" && len(packet) >= packetHeader+5 && packet[packetHeader] == 0 {
		l.prepared[binary.LittleEndian.Uint32(packet[packetHeader+1:])] = text
	}
	l.mu.Unlock()
	return t == nil || t.do()
}
