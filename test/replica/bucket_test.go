package replica

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/test/process"
)

const bucketKey, bucketSecret = "firstseen", "firstseen-secret"

// bucket is an object store of a test's own, which may be killed, frozen and tampered with.
type bucket struct {
	t    *testing.T
	dir  string // the bucket's files
	addr string // once it listens, and then for good
	cmd  *exec.Cmd
	gone chan struct{} // closed once cmd has ended
	log  *process.Tail
}

func newBucket(t *testing.T) *bucket {
	t.Helper()
	b := &bucket{t: t, dir: filepath.Join(t.TempDir(), "bucket"), log: &process.Tail{}}
	if err := os.Mkdir(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			t.Logf("versitygw:\n%s", b.log)
		}
	})
	return b
}

// start serves the files, the first time on a free port and then on the same.
func (b *bucket) start() {
	b.t.Helper()
	binary := testenv.Versitygw(b.t)
	for range 5 {
		addr := b.addr
		if addr == "" {
			addr = freeAddress(b.t)
		}
		b.cmd = exec.Command(binary, "--quiet", "--keep-alive", "--port", addr, "posix", filepath.Dir(b.dir))
		b.cmd.Env = []string{"ROOT_ACCESS_KEY=" + bucketKey, "ROOT_SECRET_KEY=" + bucketSecret}
		b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		b.cmd.Stdout, b.cmd.Stderr = b.log, b.log
		if err := b.cmd.Start(); err != nil {
			b.t.Fatal(err)
		}
		b.gone = make(chan struct{})
		go func(cmd *exec.Cmd, gone chan struct{}) {
			_ = cmd.Wait()
			close(gone)
		}(b.cmd, b.gone)
		if b.listens(addr) {
			b.addr = addr
			return
		}
	}
	b.t.Fatalf("versitygw did not start\n%s", b.log)
}

// listens waits until the store takes connections; false means that it ended.
func (b *bucket) listens(addr string) (alive bool) {
	b.t.Helper()
	testenv.Eventually(b.t, func() error {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			alive = true
			return conn.Close()
		}
		select {
		case <-b.gone:
			return nil
		default:
			return err
		}
	})
	return alive
}

// url is where processes find the store, with environ.
func (b *bucket) url() string { return "s3://bucket?endpoint=http://" + b.addr }

func (b *bucket) environ() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + bucketKey, "AWS_SECRET_ACCESS_KEY=" + bucketSecret}
}

func (b *bucket) kill() {
	_ = b.cmd.Process.Kill()
	<-b.gone
}

func (b *bucket) signal(s syscall.Signal) {
	b.t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		b.t.Fatal(err)
	}
}

// objects lists the keys that begin with a prefix, in their order.
func (b *bucket) objects(prefix string) (keys []string) {
	b.t.Helper()
	err := filepath.WalkDir(b.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		key, err := filepath.Rel(b.dir, path)
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return keys
}

// read returns an object as it lies on disk.
func (b *bucket) read(key string) []byte {
	b.t.Helper()
	body, err := os.ReadFile(filepath.Join(b.dir, key))
	if err != nil {
		b.t.Fatal(err)
	}
	return body
}

// tamper replaces what an object holds behind the store's back; its entity tag stays.
func (b *bucket) tamper(key string, body []byte) {
	b.t.Helper()
	file, err := os.OpenFile(filepath.Join(b.dir, key), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		b.t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.Write(body); err != nil {
		b.t.Fatal(err)
	}
}

// hide takes an object away until heal is called.
func (b *bucket) hide(key string) (heal func()) {
	b.t.Helper()
	from, to := filepath.Join(b.dir, key), filepath.Join(filepath.Dir(b.dir), "hidden")
	if err := os.Rename(from, to); err != nil {
		b.t.Fatal(err)
	}
	return func() {
		b.t.Helper()
		if err := os.Rename(to, from); err != nil {
			b.t.Fatal(err)
		}
	}
}

// freeAddress answers an address that nobody listens on, below the ports that the kernel hands out by itself, so that it
// is still free when the store comes back to it.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		addr := fmt.Sprint("127.0.0.1:", 20000+rand.IntN(12000))
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", addr)
		if err == nil {
			_ = l.Close()
			return addr
		}
	}
	t.Fatal("no free port")
	return ""
}
