package live

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/statsapi"
)

// TestInstancesBehindNginxAreOne lets subscribers come and go through nginx with the shipped configuration, which sends
// them now to one instance and now to the other.
func TestInstancesBehindNginxAreOne(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("nginx"); err != nil {
		t.Skip("needs nginx: run `make test`, which installs it, or apt-get install nginx")
	}
	hints := feed.NewHints(feed.HintsOptions{})
	s := newSource(t, unreliable(hints.Tell))
	one, two := newInstance(t, s, hints, statsapi.LiveOptions{}), newInstance(t, s, hints, statsapi.LiveOptions{})
	handOver(t, s, []*instance{{addr: startNginx(t, one.addr, two.addr)}}, func() {})
}

// startNginx runs nginx before two instances and returns its address.
func startNginx(t *testing.T, one, two string) string {
	t.Helper()
	text, err := os.ReadFile("../../deploy/nginx/stats.conf")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	dir := t.TempDir()
	conf := string(text)
	for old, replacement := range map[string]string{
		"10.0.0.1:8080":        one,
		"10.0.0.2:8080":        two,
		"listen 8080;":         "listen " + addr + ";",
		"/run/nginx-stats.pid": filepath.Join(dir, "pid"),
		"http {\n": "http {\n" + fmt.Sprintf("client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c;"+
			"uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;\n", dir),
	} {
		if strings.Count(conf, old) != 1 {
			t.Fatalf("the configuration holds %q %d times, the test expects it once", old, strings.Count(conf, old))
		}
		conf = strings.ReplaceAll(conf, old, replacement)
	}
	file := filepath.Join(dir, "stats.conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nginx", "-e", "stderr", "-p", dir, "-c", file, "-g", "daemon off;")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	cmd.Stderr = testLog{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	})
	eventually(t, "nginx answers", func() bool {
		answer, err := http.Get("http://" + addr + "/livez")
		if err != nil {
			return false
		}
		_ = answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	})
	return addr
}
