package quiet_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"

	"github.com/firstseen/firstseen/internal/quiet"
)

// serve runs a server until the test ends. What is asked of it is answered once leave is closed.
func serve(t *testing.T, l logrus.FieldLogger, entered chan<- struct{}, leave <-chan struct{}) (*http.Server, string) {
	t.Helper()
	s := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/panic" {
			panic("as asked")
		}
		entered <- struct{}{}
		<-leave
		_, _ = io.WriteString(w, "answered")
	})}
	quiet.Server(s, l)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener) }()
	t.Cleanup(func() {
		_ = s.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
	})
	return s, listener.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShutdownClosesSilentConnectionsAndNoOthers(t *testing.T) {
	t.Parallel()
	l, _ := test.NewNullLogger()
	entered, leave := make(chan struct{}), make(chan struct{})
	s, addr := serve(t, l, entered, leave)
	silent, busy := dial(t, addr), dial(t, addr)
	if _, err := io.WriteString(busy, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-entered // connections are accepted in order: the silent one has been

	start := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(t.Context()) }()
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the silent connection: %v, want its end", err)
	}
	close(leave)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil {
		t.Fatalf("the request in flight: %v", err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "answered" {
		t.Errorf("the request in flight: %q, %v", body, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the end took %s", took)
	}
}

func TestComplaintsAreDebuggingDetail(t *testing.T) {
	t.Parallel()
	l, hook := test.NewNullLogger()
	l.SetLevel(logrus.DebugLevel)
	_, addr := serve(t, l, nil, nil)
	c := dial(t, addr)
	if _, err := io.WriteString(c, "GET /panic HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // after the panic was logged
		t.Fatal(err)
	}
	last := hook.LastEntry()
	if last == nil || last.Level != logrus.DebugLevel || !strings.Contains(last.Message, "as asked") {
		t.Errorf("logged %+v", last)
	}
}
