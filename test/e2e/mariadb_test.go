package e2e

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/test/process"
)

// mariadb is a MariaDB of a test's own, which may be killed, frozen and run out of disk.
type mariadb struct {
	t      *testing.T
	dir    string // of its data
	port   int
	as     *syscall.Credential // whom it runs as: it refuses root
	cmd    *exec.Cmd
	exited chan struct{}
	log    *process.Tail
}

// newMariaDB installs a database system in dir and starts it. The log of a failed test shows what it had to say.
func newMariaDB(t *testing.T, dir string) *mariadb {
	t.Helper()
	if testing.Short() {
		t.Skip("needs the time to install a MariaDB of its own: run without -short")
	}
	for _, program := range []string{"mariadbd", "mariadb-install-db"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs %s: run `make test`, which installs it, or install mariadb-server", program)
		}
	}
	m := &mariadb{t: t, dir: filepath.Join(dir, "data"), log: &process.Tail{}}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	account := "mysql"
	if os.Geteuid() != 0 {
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		account = me.Username
	}
	m.as = reachable(t, m.dir, account)
	// A MariaDB that starts removes temporary tables that it finds in its tmpdir, those of others too: each has its own.
	install := exec.CommandContext(t.Context(), "mariadb-install-db", append([]string{"--no-defaults", "--user=" + account,
		"--datadir=" + m.dir, "--tmpdir=" + m.dir, "--auth-root-authentication-method=normal", "--skip-test-db"}, innodb...)...)
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("mariadb-install-db: %v\n%s", err, out)
	}
	m.start()
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("mariadbd:\n%s", m.log)
		}
	})
	return m
}

// innodb is what decides on the files' form and size, and on what a commit promises.
var innodb = []string{"--innodb-log-file-size=8M", "--innodb-buffer-pool-size=32M", "--innodb-flush-log-at-trx-commit=1"}

// reachable gives dir to the account, lets it through the folders above, which are the test's own, and returns what it
// takes to run as the account: nothing, unless we are root.
func reachable(t *testing.T, dir, account string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	who, err := user.Lookup(account)
	if err != nil {
		t.Skipf("needs the account %s, as the package mariadb-server makes it: %v", account, err)
	}
	uid, err := strconv.ParseUint(who.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(who.Gid, 10, 32)
	if err := errors.Join(err, err2, os.Chown(dir, int(uid), int(gid))); err != nil {
		t.Fatal(err)
	}
	for above := filepath.Dir(dir); above != filepath.Clean(os.TempDir()) && above != "/"; above = filepath.Dir(above) {
		if err := os.Chmod(above, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// start runs the installed system, the first time on a free port and then on the same.
func (m *mariadb) start() {
	m.t.Helper()
	if m.port > 0 {
		if !m.spawn() {
			m.t.Fatalf("MariaDB did not start again\n%s", m.log)
		}
		return
	}
	for range 5 {
		if m.port = freePort(m.t); m.spawn() {
			return
		}
	}
	m.t.Fatalf("MariaDB did not start\n%s", m.log)
}

func (m *mariadb) spawn() bool {
	m.t.Helper()
	socket := filepath.Join(m.dir, "sock")
	m.cmd = exec.Command("mariadbd", append([]string{"--no-defaults", "--datadir=" + m.dir, "--tmpdir=" + m.dir,
		"--socket=" + socket, "--bind-address=127.0.0.1", fmt.Sprint("--port=", m.port), "--skip-name-resolve",
		"--skip-log-bin", "--character-set-server=utf8mb4"}, innodb...)...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Credential: m.as}
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.exited = make(chan struct{})
	go func(cmd *exec.Cmd, exited chan struct{}) {
		_ = cmd.Wait()
		close(exited)
	}(m.cmd, m.exited)
	return m.answers()
}

// answers waits until the database answers; false means that it ended.
func (m *mariadb) answers() bool {
	m.t.Helper()
	db, err := sql.Open("mysql", m.dsn(""))
	if err != nil {
		m.t.Fatal(err)
	}
	defer db.Close()
	alive := true
	eventually(m.t, time.Minute, func() error {
		select {
		case <-m.exited:
			alive = false
			return nil
		default:
			return db.PingContext(m.t.Context())
		}
	})
	return alive
}

// kill ends the database with SIGKILL and waits for it.
func (m *mariadb) kill() {
	_ = m.cmd.Process.Kill()
	<-m.exited
}

// signal sends SIGSTOP or SIGCONT.
func (m *mariadb) signal(s syscall.Signal) {
	m.t.Helper()
	if err := m.cmd.Process.Signal(s); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mariadb) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

// dsn names a database of the system, in the driver's form.
func (m *mariadb) dsn(database string) string {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "root", "tcp", m.address(), database
	cfg.Timeout, cfg.Logger = 5*time.Second, &mysql.NopLogger{}
	return cfg.FormatDSN()
}

// database creates a database and returns its DSN.
func (m *mariadb) database(name string) string {
	m.t.Helper()
	db, err := sql.Open("mysql", m.dsn(""))
	if err == nil {
		defer db.Close()
		_, err = db.ExecContext(m.t.Context(), "CREATE DATABASE "+name)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return m.dsn(name)
}

// freePort answers a port that nobody listens on, below the range from which the kernel hands out ports by itself, so
// that it is still free when the database comes back to it.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		port := 20000 + rand.IntN(12000)
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			_ = l.Close()
			return port
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
}

// full fills a small file system of its own to the last byte, and makes room again.
type full struct {
	t       *testing.T
	dir     string
	ballast string
}

// newFull mounts a file system of so many bytes in memory.
func newFull(t *testing.T, bytes int) *full {
	t.Helper()
	f := &full{t: t, dir: filepath.Join(t.TempDir(), "small")}
	if err := os.Mkdir(f.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	f.ballast = filepath.Join(f.dir, "ballast")
	if err := syscall.Mount("firstseen", f.dir, "tmpfs", 0, fmt.Sprint("mode=755,size=", bytes)); err != nil {
		t.Skipf("needs to be root and allowed to mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(f.dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return f
}

// fill takes all that is free.
func (f *full) fill() {
	f.t.Helper()
	file, err := os.Create(f.ballast)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	block := bytes.Repeat([]byte{1}, 4096)
	for err == nil {
		_, err = file.Write(block)
	}
}

// empty gives it back.
func (f *full) empty() {
	f.t.Helper()
	if err := os.Remove(f.ballast); err != nil {
		f.t.Fatal(err)
	}
}
