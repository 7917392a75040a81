package faults

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// Plan says how a connection misbehaves. The zero Plan changes nothing; faults combine.
type Plan struct {
	// CutReadAfter and CutWriteAfter close the connection once so many bytes were read from it or written to it: 0
	// means never, below 0 before the first byte. The bytes up to the cut pass.
	CutReadAfter, CutWriteAfter int
	// Reset makes the cut a TCP reset. Without it the connection is closed, which TCP also turns into a reset when
	// input is left unread.
	Reset bool
	// Slice bounds how many bytes one read returns and one write sends at a time; 0 means no bound.
	Slice int
	// Delay passes before each read and write returns its bytes or sends them.
	Delay time.Duration
	// Budget bounds how many of the connections that share the plan are cut, and counts them; nil means all of them,
	// uncounted.
	Budget *Budget
}

// Conn is a connection that follows a Plan. Once cut, its reads and writes return ErrInjected.
type Conn struct {
	net.Conn
	plan Plan

	mu            sync.Mutex
	read, written int  // guarded by mu: bytes that passed
	spared        bool // guarded by mu: a cut was due and the budget had none left
	cut           bool // guarded by mu
}

// Wrap returns c with the plan's faults. A cut before the first byte happens at once.
func Wrap(c net.Conn, plan Plan) *Conn {
	conn := &Conn{Conn: c, plan: plan}
	conn.passed(&conn.read, 0, plan.CutReadAfter)
	conn.passed(&conn.written, 0, plan.CutWriteAfter)
	return conn
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	room, err := c.room(&c.read, c.plan.CutReadAfter, len(p))
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p[:room])
	if c.plan.Delay > 0 && n > 0 {
		time.Sleep(c.plan.Delay)
	}
	return n, c.explain(err, c.passed(&c.read, n, c.plan.CutReadAfter))
}

// Write implements net.Conn. A write that the cut interrupts returns how many bytes passed, and ErrInjected.
func (c *Conn) Write(p []byte) (int, error) {
	sent := 0
	for {
		room, err := c.room(&c.written, c.plan.CutWriteAfter, len(p)-sent)
		if err != nil {
			return sent, err
		}
		if c.plan.Delay > 0 {
			time.Sleep(c.plan.Delay)
		}
		n, err := c.Conn.Write(p[sent : sent+room])
		sent += n
		if err = c.explain(err, c.passed(&c.written, n, c.plan.CutWriteAfter)); err != nil || sent == len(p) {
			return sent, err
		}
	}
}

// CloseWrite ends the writing side if the connection below can, as TCP can.
func (c *Conn) CloseWrite() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// room returns how many of n bytes may pass next.
func (c *Conn) room(count *int, limit, n int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return 0, ErrInjected
	}
	if c.plan.Slice > 0 {
		n = min(n, c.plan.Slice)
	}
	if limit > 0 && !c.spared {
		n = min(n, limit-*count)
	}
	return n, nil
}

// passed counts n bytes and cuts the connection when its limit is reached. It reports whether the connection is cut.
func (c *Conn) passed(count *int, n, limit int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	*count += n
	if c.cut || c.spared || limit == 0 || *count < limit {
		return c.cut
	}
	if c.plan.Budget != nil && !c.plan.Budget.take() {
		c.spared = true
		return false
	}
	c.cut = true
	abort(c.Conn, c.plan.Reset)
	return true
}

// explain names the cut as the reason for an error that it caused in a call under way.
func (c *Conn) explain(err error, cut bool) error {
	if err != nil && cut {
		return ErrInjected
	}
	return err
}

// abort closes c, with a reset if wanted and c is TCP.
func abort(c net.Conn, reset bool) {
	if w, ok := c.(*Conn); ok {
		c = w.Conn
	}
	if tcp, ok := c.(*net.TCPConn); ok && reset {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

// Listen returns l whose Accept fails as often as failing says (nil means never), as it does when descriptors run out,
// and whose connections have the plan's faults.
func Listen(l net.Listener, failing *Budget, plan Plan) net.Listener {
	return &listener{l, failing, plan}
}

type listener struct {
	net.Listener
	failing *Budget
	plan    Plan
}

func (l *listener) Accept() (net.Conn, error) {
	if l.failing.take() {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: syscall.EMFILE}
	}
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Wrap(c, l.plan), nil
}
