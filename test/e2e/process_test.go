package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// binary is the production binary, built once for all tests of this package by TestMain.
var binary string

func TestMain(m *testing.M) {
	_ = flag.Set("test.parallel", "6")      // by default: these tests wait more than they work
	_ = mysql.SetLogger(&mysql.NopLogger{}) // databases come and go here
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "firstseen-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "firstseen")
		build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/firstseen")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Fprintln(os.Stderr, "build cmd/firstseen:", err)
			return 1
		}
		return m.Run()
	}())
}

// process is one running firstseen.
type process struct {
	args   []string
	cmd    *exec.Cmd
	addrs  map[string]chan string // per component, the address it listens on
	exited chan struct{}          // closed once err is set
	err    error
	log    *tail
}

// tail keeps what a process printed, for the log of a failed test.
type tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// start runs the binary until the test ends. What it logs is shown if the test fails.
func start(t *testing.T, args ...string) *process {
	t.Helper()
	return startWith(t, nil, args...)
}

// startWith is start with something more in the environment.
func startWith(t *testing.T, environ []string, args ...string) *process {
	t.Helper()
	p := &process{args: args, exited: make(chan struct{}), log: &tail{}, addrs: map[string]chan string{
		"server": make(chan string, 1), "stats": make(chan string, 1), "admin": make(chan string, 1), "gateway http": make(chan string, 1),
		"console": make(chan string, 1)}}
	p.cmd = exec.Command(binary, append(args, "--log-format", "json", "--log-level", "debug")...)
	p.cmd.Env = append(environment(t), environ...)
	p.cmd.Dir = t.TempDir()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.watch(stderr)
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), p.log)
		}
	})
	return p
}

// environment is that of every process of a test: nothing of the caller's own settings, and a quick presence, so that
// a dead server is noticed in a moment.
func environment(t *testing.T) []string {
	t.Helper()
	return []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "FIRSTSEEN_SERVER__BEAT=300ms"}
}

// watch reads the log until the process ends.
func (p *process) watch(stderr io.Reader) {
	scan := bufio.NewScanner(io.TeeReader(stderr, p.log))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var line struct{ Msg, Component, Addr string }
		if json.Unmarshal(scan.Bytes(), &line) != nil || line.Msg != "listening" {
			continue
		}
		select {
		case p.addrs[line.Component] <- line.Addr:
		default:
		}
	}
	p.err = p.cmd.Wait()
	close(p.exited)
}

// addr waits until the component says where it listens.
func (p *process) addr(t *testing.T, component string) string {
	t.Helper()
	select {
	case addr := <-p.addrs[component]:
		p.addrs[component] <- addr
		return addr
	case <-p.exited:
		t.Fatalf("ended before it listened: %v\n%s", p.err, p.log)
	case <-time.After(30 * time.Second):
		t.Fatalf("no %s address within 30 s\n%s", component, p.log)
	}
	return ""
}

// kill ends the process with SIGKILL and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop asks the process to end and returns what it ended with.
func (p *process) stop(t *testing.T) error {
	t.Helper()
	p.terminate()
	return p.wait(t)
}

// terminate sends SIGTERM.
func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// wait returns what the process, which was asked to end, ended with.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		t.Fatalf("still running 30 s after SIGTERM\n%s", p.log)
	}
	return p.err
}

// once runs the binary to its end and returns what it printed and its exit code.
func once(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = environment(t)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says it
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// eventually tries until it succeeds or the time is up, and then fails with the last error.
func eventually(t *testing.T, within time.Duration, try func() error) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("not within %s: %v", within, err)
		case <-again.C:
		}
	}
}

// fetch asks over HTTP and returns status code and body.
func fetch(ctx context.Context, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

// getJSON asks the stats API; a status other than 200 is an error.
func getJSON(ctx context.Context, url string, into any) error {
	code, body, err := fetch(ctx, url)
	if err != nil {
		return err
	}
	if code != http.StatusOK {
		return fmt.Errorf("GET %s: %d: %s", url, code, body)
	}
	return json.Unmarshal(body, into)
}
