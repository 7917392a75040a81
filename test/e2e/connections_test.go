package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/faults"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/test/process"
)

// strongCount is /v1/connections as far as these tests care.
type strongCount struct {
	Total   *int
	Known   bool
	Reason  string
	Counted *int
	Missing []struct{ Server, Reason string }
	Groups  []struct {
		Name  string
		Count int
	}
}

// console says a line to a console and returns its answer.
func console(addr, line string) (string, error) {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, line+"\r\n"); err != nil {
		return "", err
	}
	return bufio.NewReader(conn).ReadString('\n')
}

// Two servers, one Redis that comes and goes: beats count without asking, strong asks each server and names the frozen
// one, the console says the same, and what is not known is never 0.
func TestConnectionsAreCountedByBeatsAndByAsking(t *testing.T) {
	t.Parallel()
	redisURL := testenv.Redis(t)
	scheme, rest, _ := strings.Cut(redisURL, "://")
	host, db, _ := strings.Cut(rest, "/")
	proxy, err := faults.NewProxy(host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = proxy.Close() })
	redis := scheme + "://" + proxy.Addr() + "/" + db
	config := filepath.Join(t.TempDir(), "firstseen.yaml")
	if err := os.WriteFile(config, []byte("admin_token: 0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var servers []*process.Process
	for _, name := range []string{"server-a", "server-b"} {
		s := start(t, "server", "--name", name, "--listen", "127.0.0.1:0", "--db", "memory", "--redis", redis,
			"--admin", "127.0.0.1:0", "--console", "127.0.0.1:0", "--config", config)
		servers = append(servers, s)
		for range 3 {
			conn, err := net.Dial("tcp", s.Addr(t, "server"))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
		}
	}
	stats := start(t, "stats", "--listen", "127.0.0.1:0", "--db", "memory", "--redis", redis, "--config", config)
	api := "http://" + stats.Addr(t, "stats") + "/v1/connections"
	says := func(query string, ok func(c strongCount) bool) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			var c strongCount
			if err := getJSON(t.Context(), api+query, &c); err != nil {
				return err
			}
			if !ok(c) {
				return fmt.Errorf("%s: %+v", query, c)
			}
			return nil
		})
	}
	six := func(c strongCount) bool { return c.Known && c.Total != nil && *c.Total == 6 }
	says("", six)
	says("?consistency=strong", six)
	says("?by=ip", func(c strongCount) bool {
		return six(c) && len(c.Groups) == 1 && c.Groups[0].Name == "127.0.0.1" && c.Groups[0].Count == 6
	})
	who := func(want string) {
		t.Helper()
		eventually(t, 20*time.Second, func() error {
			got, err := console(servers[0].Addr(t, "console"), "WHO")
			if err == nil && got != want+"\r\n" {
				err = errors.New(got)
			}
			return err
		})
	}
	who("Users connected: 6")
	if where, err := console(servers[1].Addr(t, "console"), "WHERE"); err != nil || !strings.HasPrefix(where, "Machine name is server-b") ||
		len(where) != len("Machine name is server-b\r\n")+36 {
		t.Errorf("%q %v", where, err)
	}

	if err := servers[1].Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Until its beats have stood still for long enough, the frozen server is asked and named; after that it is forgotten.
	says("?consistency=strong", func(c strongCount) bool {
		named := !c.Known && c.Total == nil && len(c.Missing) == 1 && c.Missing[0].Server == "server-b" && *c.Counted == 3
		return named || six3(c)
	})
	if err := servers[1].Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	says("?consistency=strong", six)

	proxy.Down(true)
	unknown := func(c strongCount) bool { return !c.Known && c.Total == nil && c.Reason != "" }
	says("", unknown)
	says("?consistency=strong", unknown)
	who("Users connected: unknown")
	proxy.Down(false)
	says("", six)
	who("Users connected: 6")
}

func six3(c strongCount) bool { return c.Known && c.Total != nil && *c.Total == 3 }
