package objects

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// folder is a Store of plain files. An object is written to a file of another name, flushed, and then given its own by
// a link, which fails where there is one, or by a rename under the lock; so a crash leaves nothing under the name, or
// the whole. What is not an object has a ~ in its name, which no key has.
type folder struct {
	root    string
	limit   int64
	timeout time.Duration
}

const (
	temporary = "~tmp"  // folder of files that are being written
	lockFile  = "~lock" // held for changes other than by Create

	// staleAfter is far beyond what writing a file takes, so that no other writer is still at it.
	staleAfter = time.Hour
	lockPoll   = 5 * time.Millisecond

	// Replicas run under users of their own, and what they read is no secret from who may enter the folder.
	fileMode   = 0o644
	folderMode = 0o755
)

func openFolder(root string, o Options) (*folder, error) {
	f := &folder{root: root, limit: o.Limit, timeout: o.Timeout}
	if !o.Writer {
		return f, nil
	}
	if err := os.MkdirAll(filepath.Join(root, temporary), folderMode); err != nil {
		return nil, fmt.Errorf("create object store: %w", err)
	}
	return f, f.sweep(time.Now())
}

// sweep removes what crashed writers left half written.
func (f *folder) sweep(now time.Time) error {
	entries, err := os.ReadDir(filepath.Join(f.root, temporary))
	if err != nil {
		return fmt.Errorf("sweep object store: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < staleAfter {
			continue // gone meanwhile, or somebody's who is at it
		}
		if err := os.Remove(filepath.Join(f.root, temporary, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("sweep object store: %w", err)
		}
	}
	return nil
}

func (f *folder) String() string { return "file://" + f.root }

func (f *folder) Close() error { return nil }

func (f *folder) path(key string) string { return filepath.Join(f.root, filepath.FromSlash(key)) }

// wrap names what failed. An error of a file system names the path itself.
func (f *folder) wrap(verb, key string, err error) error {
	return fmt.Errorf("%s %s in %s: %w", verb, key, f, err)
}

func (f *folder) Get(_ context.Context, key string) ([]byte, string, error) {
	if err := CheckKey(key); err != nil {
		return nil, "", err
	}
	body, err := f.read(f.path(key))
	if err != nil {
		return nil, "", f.wrap("get", key, err)
	}
	return body, tagOf(body), nil
}

func (f *folder) read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, f.missing()
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > f.limit {
		return nil, fmt.Errorf("%w: %d bytes", ErrTooLarge, info.Size())
	}
	body := make([]byte, info.Size()) // a file of ours never grows
	_, err = io.ReadFull(file, body)
	return body, err
}

// missing tells an object that is not there from a folder that is not, such as one that is not mounted: a reader would
// wait for ever for the first object.
func (f *folder) missing() error {
	if _, err := os.Stat(f.root); err != nil {
		return err
	}
	return ErrNotFound
}

func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func (f *folder) Create(ctx context.Context, key string, body []byte) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.create(key, body); err != nil {
		return f.wrap("create", key, err)
	}
	return nil
}

func (f *folder) create(key string, body []byte) error {
	path := f.path(key)
	if _, err := os.Lstat(path); err == nil {
		return f.existing(path) // sooner than writing it all
	}
	temp, err := f.write(body)
	if err != nil {
		return err
	}
	defer os.Remove(temp) // the link stays
	if err := f.makeFolders(filepath.Dir(path)); err != nil {
		return err
	}
	err = os.Link(temp, path)
	if errors.Is(err, fs.ErrExist) {
		return f.existing(path)
	}
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// existing makes sure that what another has created is durable: it may have crashed before it did so itself.
func (f *folder) existing(path string) error {
	if err := syncFolder(filepath.Dir(path)); err != nil {
		return err
	}
	return ErrExists
}

// write puts body into a temporary file that is on disk when it returns.
func (f *folder) write(body []byte) (path string, err error) {
	path = filepath.Join(f.root, temporary, rand.Text())
	file, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return "", err
	}
	_, err = file.Write(body)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(path) // else the next sweep will
		return "", err
	}
	return path, nil
}

// makeFolders creates dir and what lacks above it, durably, from the top down.
func (f *folder) makeFolders(dir string) error {
	if info, err := os.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	if len(dir) > len(f.root) {
		if err := f.makeFolders(filepath.Dir(dir)); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, folderMode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncFolder(filepath.Dir(dir))
}

// syncFolder makes the names in dir durable. Windows has no such call, and journals names by itself.
func syncFolder(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (f *folder) Replace(ctx context.Context, key string, body []byte, tag string) (string, error) {
	if err := CheckKey(key); err != nil {
		return "", err
	}
	if err := f.replace(ctx, key, body, tag); err != nil {
		return "", f.wrap("replace", key, err)
	}
	return tagOf(body), nil
}

func (f *folder) replace(ctx context.Context, key string, body []byte, tag string) error {
	if tag == "" {
		err := f.create(key, body)
		if errors.Is(err, ErrExists) {
			return ErrConflict
		}
		return err
	}
	temp, err := f.write(body) // before the lock, which is then held for moments
	if err != nil {
		return err
	}
	defer os.Remove(temp) // unless it was renamed
	path := f.path(key)
	err = f.locked(ctx, func() error {
		now, err := f.read(path)
		if errors.Is(err, ErrNotFound) || err == nil && tagOf(now) != tag {
			return ErrConflict
		}
		if err != nil {
			return err
		}
		return os.Rename(temp, path)
	})
	if err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

func (f *folder) Delete(ctx context.Context, key string) error {
	if err := CheckKey(key); err != nil {
		return err
	}
	path := f.path(key)
	err := f.locked(ctx, func() error { return os.Remove(path) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return f.wrap("delete", key, err)
	}
	return nil
}

// locked does what one process at a time may do. The lock ends with the process that holds it, however it ends; one
// that is stopped while it holds it makes others fail until it goes on or is killed.
func (f *folder) locked(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	lock := flock.New(filepath.Join(f.root, lockFile), flock.SetPermissions(fileMode))
	if _, err := lock.TryLockContext(ctx, lockPoll); err != nil {
		return fmt.Errorf("wait for the lock, which another process may hold: %w", err)
	}
	return errors.Join(do(), strip(lock.Close()))
}

// strip keeps the lock's errors from being taken for the object's.
func strip(err error) error {
	if err == nil {
		return nil
	}
	return errors.New("release the lock: " + strings.TrimSpace(err.Error()))
}
