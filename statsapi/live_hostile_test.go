package statsapi

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/firstseen/firstseen/internal/feed"
)

func asClose(err error, into *websocket.CloseError) bool { return errors.As(err, into) }

func TestPagesOfOtherOriginsAreRefused(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{Origins: []string{"https://*.example"}})
	for origin, want := range map[string]int{
		"":                           http.StatusSwitchingProtocols,
		s.url:                        http.StatusSwitchingProtocols,
		"https://board.example":      http.StatusSwitchingProtocols,
		"http://board.example":       http.StatusForbidden,
		"https://evil.test":          http.StatusForbidden,
		"https://a.example.evil":     http.StatusForbidden,
		"null":                       http.StatusForbidden,
		"file://":                    http.StatusForbidden,
		"https://board.example:8443": http.StatusForbidden,
	} {
		for _, path := range []string{"/v1/ws", "/v1/rpc", "/v1/stream"} {
			h := http.Header{}
			if path != "/v1/stream" {
				h = upgrade()
			}
			h.Set("Cookie", "session=1")
			h.Set("Authorization", "Basic eDp5")
			if origin != "" {
				h.Set("Origin", origin)
			}
			status := s.status(path, h)
			if path == "/v1/stream" && want == http.StatusSwitchingProtocols {
				want = http.StatusOK
			}
			if status != want {
				t.Errorf("%s from %q: %d, want %d", path, origin, status, want)
			}
		}
	}
}

// status asks for path and returns only the status.
func (s *site) status(path string, h http.Header) int {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header = h
	w, err := s.http.Transport.RoundTrip(r)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = w.Body.Close()
	return w.StatusCode
}

// rawSocket is a connection behind its handshake, for frames that no library sends.
func (s *site) rawSocket(extra string) net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	fmt.Fprintf(conn, "GET /v1/ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n%s\r\n", extra)
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one...) {
		if _, err := io.ReadFull(conn, one); err != nil {
			s.t.Fatal(err)
		}
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) || bytes.Contains(head, []byte("permessage-deflate")) {
		s.t.Fatalf("%s", head)
	}
	return conn
}

// maskedFrame is a client's frame under a mask of zeros.
func maskedFrame(first byte, payload []byte) []byte {
	out := []byte{first}
	switch n := len(payload); {
	case n < 126:
		out = append(out, 0x80|byte(n))
	default:
		out = binary.BigEndian.AppendUint16(append(out, 0x80|126), uint16(n))
	}
	return append(append(out, 0, 0, 0, 0), payload...)
}

// wantClosed reads until the server closes, and compares the close code; 0 is for none.
func wantClosed(t *testing.T, name string, conn net.Conn, code uint16) {
	t.Helper()
	got, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s: still open", name)
		return
	}
	if code == 0 {
		return
	}
	i := bytes.LastIndexByte(got, 0x88)
	if i < 0 || len(got) < i+4 || binary.BigEndian.Uint16(got[i+2:]) != code {
		t.Errorf("%s: closed with %x, want %d", name, got, code)
	}
}

func TestHostileFramesEndTheirConnection(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{})
	huge := binary.BigEndian.AppendUint64([]byte{0x81, 0x80 | 127}, 64<<20)
	fragments := maskedFrame(0x01, []byte("{"))
	for range messageBytes + 1 {
		fragments = append(fragments, maskedFrame(0x00, []byte(" "))...)
	}
	bomb := maskedFrame(0xc1, bytes.Repeat([]byte{0}, 1000)) // the reserved bit that says it is compressed
	for name, c := range map[string]struct {
		send []byte
		code uint16
	}{
		"a message of 64 MB":      {append(append(huge, 0, 0, 0, 0), make([]byte, messageBytes+1)...), 1009},
		"fragments of one byte":   {fragments, 1009},
		"a compressed message":    {bomb, 1002},
		"an unmasked frame":       {[]byte{0x81, 0x01, 'x'}, 0},
		"a binary message":        {maskedFrame(0x82, []byte("x")), 1003},
		"an unknown opcode":       {maskedFrame(0x83, nil), 1002},
		"a ping that is too long": {maskedFrame(0x89, make([]byte, 200)), 1002},
		"a continuation of none":  {maskedFrame(0x80, []byte("x")), 1002},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := s.rawSocket("Sec-WebSocket-Extensions: permessage-deflate\r\n")
			_, _ = conn.Write(c.send) // the server may close before it has read all
			wantClosed(t, name, conn, c.code)
		})
	}
}

func TestTenThousandSubscriptionsAreRefused(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{})
	conn := s.rawSocket("")
	go func() {
		for n := range 10_000 {
			if _, err := conn.Write(maskedFrame(0x81, fmt.Appendf(nil, `{"op":"subscribe","id":"s%d"}`, n))); err != nil {
				return
			}
		}
	}()
	got, _ := io.ReadAll(conn)
	if n := bytes.Count(got, []byte(`"subscribed"`)); n > 32 || !bytes.Contains(got, []byte("too many messages")) {
		t.Errorf("%d subscriptions", n)
	}
}

func TestConnectionsBeyondTheLimitAreAnswered503(t *testing.T) {
	t.Parallel()
	s := serveLive(t, newWorld(t), feed.Options{}, Options{Live: LiveOptions{Connections: 1}})
	l := s.listen("/v1/ws")
	if got := s.get("/v1/stream"); got.StatusCode != http.StatusServiceUnavailable || got.Header.Get("Retry-After") == "" {
		t.Errorf("%d %s", got.StatusCode, got.Header)
	}
	_ = l.conn.Close(websocket.StatusNormalClosure, "")
	eventually(t, "room again", func() bool { return s.status("/v1/stream", http.Header{}) == http.StatusOK })
	if got := s.get("/v1/ws"); got.StatusCode != http.StatusUpgradeRequired {
		t.Errorf("no upgrade: %d", got.StatusCode)
	}
}

func TestAReaderThatDoesNotReadIsCutOff(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := serveLive(t, w, feed.Options{Buffer: 16}, Options{Live: LiveOptions{Ping: 50 * time.Millisecond}})
	conn := s.rawSocket("")
	_ = conn.(*net.TCPConn).SetReadBuffer(4096)
	if _, err := conn.Write(maskedFrame(0x81, []byte(`{"op":"subscribe"}`))); err != nil {
		t.Fatal(err)
	}
	// Nobody reads and nobody answers a ping: the server gives up by itself.
	eventually(t, "cut off", func() bool { return len(s.api.live.slots) == 0 })
}

func TestTheEndOfTheServerIsSaid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.grow(1)
	s := serveLive(t, w, feed.Options{}, Options{})
	l := s.listen("/v1/ws?from=earliest")
	l.want("subscribed", "1 block canonical apply")
	events := s.stream("/v1/stream", "")
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	if c := l.closed(); c.Code != websocket.StatusGoingAway {
		t.Errorf("closed with %d %s", c.Code, c.Reason)
	}
	for events.lines.Scan() {
		continue // to its end
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// eventually polls cond, which is the only way to wait for what a server does by itself.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// eventuallyStatus asks until the status is as wanted.
func eventuallyStatus(t *testing.T, s *site, path string, want int) {
	t.Helper()
	eventually(t, fmt.Sprint(path, " answers ", want), func() bool { return s.status(path, http.Header{}) == want })
}
