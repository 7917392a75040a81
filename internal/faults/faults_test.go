package faults

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestReaderAndWriterFailAsOftenAsTold(t *testing.T) {
	t.Parallel()
	disk := errors.New("disk full")
	reads, writes := Times(2), Times(1)
	r := Reader(strings.NewReader("x"), reads, nil)
	var out bytes.Buffer
	w := Writer(&out, writes, disk)
	for range 2 {
		if _, err := r.Read(make([]byte, 1)); err != ErrInjected {
			t.Errorf("read: %v", err)
		}
	}
	if got, err := io.ReadAll(r); string(got) != "x" || err != nil {
		t.Errorf("then read %q, %v", got, err)
	}
	if _, err := w.Write([]byte("a")); err != disk {
		t.Errorf("write: %v", err)
	}
	if _, err := w.Write([]byte("b")); err != nil || out.String() != "b" {
		t.Errorf("then wrote %q, %v", out.String(), err)
	}
	if reads.Fired() != 2 || writes.Fired() != 1 {
		t.Errorf("fired %d and %d times", reads.Fired(), writes.Fired())
	}
}

// pair returns the two ends of a TCP connection, the first of them wrapped.
func pair(t *testing.T, plan Plan) (*Conn, *net.TCPConn) {
	t.Helper()
	l := listen(t)
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = near.Close() })
	return Wrap(near, plan), far.(*net.TCPConn)
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestWriteIsCutAtEachByte(t *testing.T) {
	t.Parallel()
	const text = "12:hello world!,"
	for cut := 1; cut < len(text); cut++ {
		budget := Times(1)
		near, far := pair(t, Plan{CutWriteAfter: cut, Slice: 3, Budget: budget})
		n, err := near.Write([]byte(text))
		if n != cut || err != ErrInjected {
			t.Errorf("cut at %d: wrote %d, %v", cut, n, err)
		}
		if got, err := io.ReadAll(far); string(got) != text[:cut] || err != nil {
			t.Errorf("cut at %d: the peer read %q, %v", cut, got, err)
		}
		if budget.Fired() != 1 {
			t.Errorf("cut at %d: fired %d times", cut, budget.Fired())
		}
	}
}

func TestReadIsCutAndReset(t *testing.T) {
	t.Parallel()
	near, far := pair(t, Plan{CutReadAfter: 4, Reset: true})
	if _, err := far.Write([]byte("abcdef")); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(near); string(got) != "abcd" || err != ErrInjected {
		t.Errorf("read %q, %v", got, err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the peer saw %v", err)
	}
	if _, err := near.Write([]byte("x")); err != ErrInjected {
		t.Errorf("write after the cut: %v", err)
	}
}

func TestCutBeforeTheFirstByte(t *testing.T) {
	t.Parallel()
	near, far := pair(t, Plan{CutReadAfter: -1})
	if _, err := near.Read(make([]byte, 1)); err != ErrInjected {
		t.Errorf("read: %v", err)
	}
	if _, err := far.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the peer saw %v", err)
	}
}

func TestBudgetSparesLaterConnections(t *testing.T) {
	t.Parallel()
	l := Listen(listen(t), Times(1), Plan{CutReadAfter: 2, Budget: Times(1)})
	if _, err := l.Accept(); !errors.Is(err, syscall.EMFILE) {
		t.Fatalf("accept: %v", err)
	}
	for _, want := range []string{"ab", "abcd"} {
		far, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		near, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = far.Write([]byte("abcd"))
		_ = far.(*net.TCPConn).CloseWrite()
		if got, _ := io.ReadAll(near); string(got) != want {
			t.Errorf("read %q, want %q", got, want)
		}
		_, _ = near.Close(), far.Close()
	}
}

func TestSlicesAndDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		near := Wrap(a, Plan{Slice: 1, Delay: time.Second})
		start := time.Now()
		go func() {
			_, _ = b.Write([]byte("abc"))
			_ = b.Close()
		}()
		got, err := io.ReadAll(near)
		if string(got) != "abc" || err != nil || time.Since(start) != 3*time.Second {
			t.Errorf("read %q in %v, %v", got, time.Since(start), err)
		}
		if err := near.CloseWrite(); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("half-close of a pipe: %v", err)
		}
	})
}

// echo serves connections that send back what they get, and half-close when the client does.
func echo(t *testing.T) string {
	t.Helper()
	l := listen(t)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().String()
}

func proxy(t *testing.T) *Proxy {
	t.Helper()
	p, err := NewProxy(echo(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func exchange(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestProxyPassesBytesAndHalfCloses(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	c := dial(t, p)
	exchange(t, c, "hello")
	if p.Open() != 1 {
		t.Errorf("%d connections open", p.Open())
	}
	big := bytes.Repeat([]byte("x"), 1<<20)
	go func() {
		_, _ = c.Write(big)
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c); !bytes.Equal(got, big) || err != nil {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestProxyBlocksAndUnblocks(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	c := dial(t, p)
	exchange(t, c, "before")
	p.Block()
	p.Block()
	if _, err := c.Write([]byte("held")); err != nil {
		t.Fatalf("a write into a partition: %v", err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("read in a partition: %v", err)
	}
	_ = c.SetReadDeadline(time.Time{})
	p.Unblock()
	p.Unblock()
	got := make([]byte, 4)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "held" {
		t.Errorf("after the partition: %q, %v", got, err)
	}
}

func TestProxyCutsByPlanAndByHand(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	budget := Times(1)
	p.Plan(Plan{CutWriteAfter: 3, Reset: true, Budget: budget})
	c := dial(t, p)
	_, _ = c.Write([]byte("abcdef"))
	// A reset may overtake the bytes before it.
	if got, err := io.ReadAll(c); len(got) > 3 || !errors.Is(err, syscall.ECONNRESET) || budget.Fired() != 1 {
		t.Errorf("read %q, %v, fired %d times", got, err, budget.Fired())
	}
	c = dial(t, p)
	exchange(t, c, "spared by the budget")
	if n := p.Cut(true); n < 1 {
		t.Errorf("cut %d connections", n)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("after the cut: %v", err)
	}
}

func TestProxyGoesDownAndComesBack(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	p.Down(true)
	c, err := net.Dial("tcp", p.Addr()) // the reset may come before the dial returns
	if err == nil {
		_, err = io.ReadAll(c)
		_ = c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("while down: %v", err)
	}
	p.Down(false)
	exchange(t, dial(t, p), "back")
}

func TestProxyCloseWaitsEvenWhileBlocked(t *testing.T) {
	t.Parallel()
	p := proxy(t)
	c := dial(t, p)
	exchange(t, c, "x")
	p.Block()
	_, _ = c.Write([]byte("held"))
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if p.Open() != 0 {
		t.Errorf("%d connections open", p.Open())
	}
}

func TestHandlerFaults(t *testing.T) {
	t.Parallel()
	fine := Answer(200, "application/json", `{"ok":true}`)
	for name, c := range map[string]struct {
		fault http.Handler
		check func(code int, body string, err error) bool
	}{
		"too many": {Answer(429, "text/plain", "slow down"),
			func(code int, body string, err error) bool { return code == 429 && body == "slow down" && err == nil }},
		"truncated": {Truncate(`{"ok":true}`, 4),
			func(_ int, body string, err error) bool { return body == `{"ok` && errors.Is(err, io.ErrUnexpectedEOF) }},
		"hanging": {Hang(),
			func(_ int, _ string, err error) bool { return errors.Is(err, context.DeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			budget := Times(1)
			srv := httptest.NewServer(Handler(fine, budget, c.fault))
			defer srv.Close()
			wait := 50 * time.Millisecond
			if name != "hanging" {
				wait = time.Minute
			}
			if code, body, err := post(t, srv.URL, wait); !c.check(code, body, err) {
				t.Errorf("faulty: %d, %q, %v", code, body, err)
			}
			if code, body, err := post(t, srv.URL, time.Minute); code != 200 || body != `{"ok":true}` || err != nil {
				t.Errorf("after the fault: %d, %q, %v", code, body, err)
			}
			if budget.Fired() != 1 {
				t.Errorf("fired %d times", budget.Fired())
			}
		})
	}
}

func post(t *testing.T, url string, wait time.Duration) (code int, body string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
