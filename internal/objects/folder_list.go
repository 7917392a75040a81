package objects

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// List walks folders in the order of keys. Of each folder it holds at most as many names as are still wanted.
func (f *folder) List(ctx context.Context, prefix, after string, limit int) ([]string, error) {
	if err := checkPrefix(prefix); err != nil {
		return nil, err
	}
	w := walk{root: f.root, prefix: prefix, after: after, limit: limit}
	dir := ""
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		dir = prefix[:i+1]
	}
	if err := w.folder(ctx, dir); err != nil {
		return nil, f.wrap("list", prefix, err)
	}
	if len(w.found) == 0 {
		if err := f.missing(); !errors.Is(err, ErrNotFound) {
			return nil, f.wrap("list", prefix, err)
		}
	}
	return w.found, nil
}

type walk struct {
	root, prefix, after string
	limit               int
	found               []string
}

func (w *walk) full() bool { return len(w.found) >= w.limit }

// folder collects from the folder whose keys begin with dir, which is empty or ends in a slash.
func (w *walk) folder(ctx context.Context, dir string) error {
	last := ""
	for !w.full() {
		names, more, err := w.names(dir, last, w.limit-len(w.found))
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := w.entry(ctx, dir+name); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		last = names[len(names)-1] // the names so far were of folders with too few keys in them
	}
	return nil
}

// entry collects a key, or those of a folder, whose name ends in a slash.
func (w *walk) entry(ctx context.Context, name string) error {
	if w.full() {
		return nil
	}
	if !strings.HasSuffix(name, "/") {
		w.found = append(w.found, name)
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return w.folder(ctx, name)
}

// names returns the most first names in dir that come after last and may lead to keys that are wanted, in the order of
// their keys, and whether there are more. Folders' names end in a slash, which is what puts them in that order.
func (w *walk) names(dir, last string, most int) (names []string, more bool, err error) {
	d, err := os.Open(filepath.Join(w.root, filepath.FromSlash(path.Clean("/"+dir))))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer d.Close()
	for {
		entries, err := d.ReadDir(1024)
		for _, e := range entries {
			name := e.Name()
			if e.IsDir() {
				name += "/"
			}
			if name > last && w.wanted(dir+name) {
				names = append(names, name)
			}
		}
		if len(names) > 2*most {
			more = true
			names = first(names, most)
		}
		if errors.Is(err, io.EOF) {
			more = more || len(names) > most
			return first(names, most), more, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
}

func first(names []string, most int) []string {
	slices.SortFunc(names, cmp.Compare[string])
	return names[:min(most, len(names))]
}

// wanted tells whether name is a key to list, or a folder that may hold some.
func (w *walk) wanted(name string) bool {
	whole, isFolder := strings.CutSuffix(name, "/")
	if CheckKey(whole) != nil {
		return false // not ours: a temporary file, the lock, or somebody's note
	}
	if isFolder {
		return (strings.HasPrefix(name, w.prefix) || strings.HasPrefix(w.prefix, name)) &&
			(name > w.after || strings.HasPrefix(w.after, name))
	}
	return strings.HasPrefix(name, w.prefix) && name > w.after
}
