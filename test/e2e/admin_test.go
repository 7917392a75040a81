package e2e

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/firstseen/firstseen/netstring"
)

// Whoever watches a process that drains is told so to its end, not turned away.
func TestTheAdminPortSaysNotReadyWhileTheServerDrains(t *testing.T) {
	t.Parallel()
	server := start(t, "server", "--db", "memory", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
	url := "http://" + server.Addr(t, "admin") + "/readyz"
	becomes := func(want int) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			code, body, err := fetch(t.Context(), url)
			if err == nil && code != want {
				err = fmt.Errorf("%s answers %d %s, want %d", url, code, body, want)
			}
			return err
		})
	}
	becomes(http.StatusOK)
	observer, err := net.Dial("tcp", server.Addr(t, "server"))
	if err != nil {
		t.Fatal(err)
	}
	defer observer.Close()
	if _, err := observer.Write(netstring.Append(nil, []byte(`<!--firstseen/1 {"observer":"slow-to-leave"}-->`))); err != nil {
		t.Fatal(err)
	}
	if _, err := observer.Read(make([]byte, 1)); err != nil { // of the welcome: from here on the server waits for it
		t.Fatal(err)
	}
	server.Terminate()
	becomes(http.StatusServiceUnavailable)
	if err := observer.Close(); err != nil {
		t.Error(err)
	}
	if err := server.Wait(t); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
}
