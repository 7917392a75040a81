package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// readers are all subscribers. They read frames with as little work as possible, because they share the machine with the
// server that is measured.
type readers struct {
	all []*reader
	wg  sync.WaitGroup
}

type reader struct {
	conn    net.Conn
	in      *bufio.Reader
	sampled bool // its latencies are kept
	events  atomic.Int64
	_       [64]byte // its counter has a cache line of its own

	err   error // why it ended; read after wg
	ended atomic.Bool

	mu        sync.Mutex // guards latencies
	latencies []time.Duration
}

// opening is what a subscriber says after its handshake.
func opening(kind string) (path string, say []byte) {
	switch kind {
	case "firstseen":
		return "/v1/ws?chain=1&kind=block&status=canonical", nil
	case "centrifuge":
		return "/connection", []byte(`{"id":1,"connect":{}}` + "\n" + `{"id":2,"subscribe":{"channel":"feed"}}`)
	default:
		return "/", nil
	}
}

func connect(kind, addr string, n int) (*readers, error) {
	all := &readers{all: make([]*reader, n)}
	path, say := opening(kind)
	errs := make([]error, n)
	slots := make(chan struct{}, 64)
	var dialing sync.WaitGroup
	for i := range n {
		dialing.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			all.all[i], errs[i] = dial(addr, path, say)
		})
	}
	dialing.Wait()
	for i, r := range all.all {
		if errs[i] != nil {
			return nil, errs[i]
		}
		r.sampled = i%(1+n/100) == 0
		all.wg.Go(func() { r.err = r.run(); r.ended.Store(true) })
	}
	time.Sleep(500 * time.Millisecond) // for what the server does behind a handshake
	return all, nil
}

func dial(addr, path string, say []byte) (*reader, error) {
	conn, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", path)
	r := &reader{conn: conn, in: bufio.NewReaderSize(conn, 4096)}
	line, err := r.in.ReadString('\n')
	if err != nil || !bytes.HasPrefix([]byte(line), []byte("HTTP/1.1 101")) {
		return nil, fmt.Errorf("handshake: %q, %w", line, err)
	}
	for line != "\r\n" && err == nil {
		line, err = r.in.ReadString('\n')
	}
	if say != nil {
		_, err = conn.Write(append([]byte{0x81, 0x80 | byte(len(say)), 0, 0, 0, 0}, say...))
	}
	return r, err
}

var stamp = []byte("ns=")

func (r *reader) run() error {
	for {
		first, err := r.in.ReadByte()
		if err != nil {
			return err
		}
		size, err := r.length()
		if err != nil {
			return err
		}
		if first&0x0f == 8 {
			text, _ := r.in.Peek(min(size, 125))
			return fmt.Errorf("closed: %q", text)
		}
		if first&0x0f == 9 { // a ping wants a pong
			_, _ = r.conn.Write([]byte{0x8a, 0x80, 0, 0, 0, 0})
		}
		if err := r.body(size); err != nil {
			return err
		}
	}
}

func (r *reader) length() (int, error) {
	b, err := r.in.ReadByte()
	if err != nil || b < 126 {
		return int(b), err
	}
	wide := make([]byte, 8)
	if b == 126 {
		wide = wide[:2]
	}
	if _, err := io.ReadFull(r.in, wide); err != nil {
		return 0, err
	}
	if b == 126 {
		return int(binary.BigEndian.Uint16(wide)), nil
	}
	return int(binary.BigEndian.Uint64(wide)), nil
}

// body skips a frame's content. What is bigger than a server's own messages holds events; the centrifuge library may put
// several into one frame.
func (r *reader) body(size int) error {
	if size < eventBytes/2 {
		_, err := r.in.Discard(size)
		return err
	}
	if !r.sampled && size < 2*eventBytes {
		_, err := r.in.Discard(size)
		r.events.Add(1)
		return err
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r.in, text); err != nil {
		return err
	}
	now := time.Now()
	for {
		i := bytes.Index(text, stamp)
		if i < 0 {
			return nil
		}
		text = text[i+len(stamp):]
		r.events.Add(1)
		end := bytes.IndexByte(text, ' ')
		if ns, err := strconv.ParseInt(string(text[:max(end, 0)]), 10, 64); err == nil && r.sampled {
			r.mu.Lock()
			r.latencies = append(r.latencies, now.Sub(time.Unix(0, ns)))
			r.mu.Unlock()
		}
	}
}

// least is how many events the slowest subscriber has, and how many all have.
func (rs *readers) least() (least, total int64) {
	least = 1 << 62
	for _, r := range rs.all {
		n := r.events.Load()
		least, total = min(least, n), total+n
	}
	return least, total
}

// fast lets the server go as fast as it can, no farther ahead of the slowest than the window, and returns deliveries a
// second.
func (rs *readers) fast(s *server, lasts time.Duration) float64 {
	from, before := rs.least()
	start := time.Now()
	for time.Since(start) < lasts {
		least, _ := rs.least()
		s.say("upto %d", least-from+window)
		time.Sleep(2 * time.Millisecond)
	}
	_, after := rs.least()
	rate := float64(after-before) / time.Since(start).Seconds()
	s.say("stop")
	s.out.Scan() // how many it published
	published, _ := strconv.ParseInt(s.out.Text(), 10, 64)
	for until := time.Now().Add(20 * time.Second); time.Now().Before(until); time.Sleep(time.Millisecond) {
		if least, _ := rs.least(); least-from >= published {
			break
		}
	}
	return rate
}

// steady lets the server publish at a rate and returns how long events took.
func (rs *readers) steady(s *server, lasts time.Duration, rate float64) (p50, p99 time.Duration) {
	for _, r := range rs.all {
		r.mu.Lock()
		r.latencies = nil
		r.mu.Unlock()
	}
	s.say("pace %f %d", rate, lasts)
	s.out.Scan()
	time.Sleep(300 * time.Millisecond)
	var all []time.Duration
	for _, r := range rs.all {
		r.mu.Lock()
		all = append(all, r.latencies...)
		r.mu.Unlock()
	}
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2], all[len(all)*99/100]
}

// failed tells of a subscriber that was cut off.
func (rs *readers) failed() error {
	for _, r := range rs.all {
		if r.ended.Load() {
			return fmt.Errorf("a subscriber was cut off after %d events: %w", r.events.Load(), r.err)
		}
	}
	return nil
}

func (rs *readers) close() {
	for _, r := range rs.all {
		_ = r.conn.Close()
	}
	rs.wg.Wait()
}
