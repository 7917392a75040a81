// Package process runs the production binary for tests: built once, its addresses read from its log, killed at the end.
package process

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long a process has to listen, or to end when it was asked to.
const Patience = 30 * time.Second

// Binary is the path of the built program.
type Binary string

// Main is a TestMain for packages whose tests run the binary: it builds that, tells where it is, and runs the tests, six
// at once by default: they wait more than they work. Its result is the exit code.
func Main(m *testing.M, built func(Binary)) int {
	_ = flag.Set("test.parallel", "6")
	dir, err := os.MkdirTemp("", "firstseen-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "firstseen")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "../../cmd/firstseen") //nolint:noctx // TestMain has none
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build cmd/firstseen:", err)
		return 1
	}
	built(Binary(binary))
	return m.Run()
}

// Process is one running firstseen. What it logs is shown if its test fails.
type Process struct {
	Args   []string
	Log    *Tail
	Exited chan struct{} // closed once the process has ended

	cmd *exec.Cmd
	err error // set before Exited is closed

	mu    sync.Mutex               // guards addrs
	addrs map[string]chan struct{} // per component, closed once it listens
	at    map[string]string        // and where
}

// Tail keeps what a process printed.
type Tail struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write appends to what was printed.
func (l *Tail) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// String is all that was printed so far.
func (l *Tail) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Start runs the binary until the test ends, with something more in its environment.
func (b Binary) Start(t *testing.T, environ []string, args ...string) *Process {
	t.Helper()
	p := &Process{Args: args, Log: &Tail{}, Exited: make(chan struct{}), addrs: map[string]chan struct{}{}, at: map[string]string{}}
	p.cmd = exec.Command(string(b), append(args, "--log-format", "json", "--log-level", "debug")...) //nolint:noctx // the test ends it
	p.cmd.Env = append(environment(t), environ...)
	p.cmd.Dir = t.TempDir()
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout = p.Log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.watch(stderr)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), p.Log)
		}
	})
	return p
}

// Once runs the binary to its end and returns what it printed and its exit code.
func (b Binary) Once(t *testing.T, environ []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, string(b), args...)
	cmd.Env = append(environment(t), environ...)
	cmd.Dir = t.TempDir()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the exit code says it
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// environment is that of every process of a test: nothing of the caller's own settings, and a quick presence, so that
// a dead server is noticed in a moment.
func environment(t *testing.T) []string {
	t.Helper()
	return []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "FIRSTSEEN_SERVER__BEAT=300ms"}
}

// watch reads the log until the process ends.
func (p *Process) watch(stderr io.Reader) {
	scan := bufio.NewScanner(io.TeeReader(stderr, p.Log))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var line struct{ Msg, Component, Addr string }
		if json.Unmarshal(scan.Bytes(), &line) == nil && line.Msg == "listening" {
			p.listens(line.Component, line.Addr)
		}
	}
	p.err = p.cmd.Wait()
	close(p.Exited)
}

// listens notes the first address of a component.
func (p *Process) listens(component, addr string) {
	said := p.said(component)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.at[component] == "" {
		p.at[component] = addr
		close(said)
	}
}

func (p *Process) said(component string) chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.addrs[component] == nil {
		p.addrs[component] = make(chan struct{})
	}
	return p.addrs[component]
}

// Addr waits until the component says where it listens.
func (p *Process) Addr(t *testing.T, component string) string {
	t.Helper()
	select {
	case <-p.said(component):
	case <-p.Exited:
		t.Fatalf("ended before it listened: %v\n%s", p.err, p.Log)
	case <-time.After(Patience):
		t.Fatalf("no %s address within %s\n%s", component, Patience, p.Log)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.at[component]
}

// Kill ends the process with SIGKILL and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.Exited
}

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Pid is the process's number.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Stop asks the process to end and returns what it ended with.
func (p *Process) Stop(t *testing.T) error {
	t.Helper()
	p.Terminate()
	return p.Wait(t)
}

// Terminate sends SIGTERM.
func (p *Process) Terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

// Wait returns what the process, which was asked to end or ends by itself, ended with.
func (p *Process) Wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.Exited:
	case <-time.After(Patience):
		t.Fatalf("still running after %s\n%s", Patience, p.Log)
	}
	return p.err
}

// ExitCode is what the process, which has ended, ended with; -1 if a signal ended it.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }
