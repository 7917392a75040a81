package templates

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	htmltemplate "html/template"
	"io"
	"os"
	"path/filepath"
	"strings"
	texttemplate "text/template"
	"unicode/utf8"
)

//go:embed block.html block.json block.txt
var embedded embed.FS

// maxSource bounds a template's own text, and with it the nesting that its engine walks recursively.
const maxSource = 256 << 10

// Default returns an embedded template: block.html, block.json or block.txt.
func Default(name string) (*Template, error) {
	source, err := embedded.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("no template %q; there are block.html, block.json and block.txt", name)
	}
	return parseTemplate(name, source)
}

// Load reads a user's template of at most 256 KiB of UTF-8. The extension decides: .html is html/template, .json and
// .txt are text/template, and what a .json template renders must be valid JSON.
//
// A relative path stays within the current directory, an absolute one within the file's own directory: neither ".."
// nor a symbolic link leads out. A template has only the functions listed in the package's documentation, cannot call
// itself, and is stopped at 1 MiB of output or after 2 s. Load renders a made-up block of two transactions, so that a
// misspelled field is reported at start, not at the first block.
func Load(path string) (*Template, error) {
	source, err := readWithin(path)
	if err != nil {
		return nil, fmt.Errorf("load template: %w", err)
	}
	t, err := parseTemplate(filepath.Base(path), source)
	if err != nil {
		return nil, fmt.Errorf("load template: %w", err)
	}
	// A template may have nothing to say of the made-up block, but not of any.
	if err := t.rehearse(); err != nil && (!errors.Is(err, errEmpty) || len(bytes.TrimSpace(source)) == 0) {
		return nil, fmt.Errorf("load template: %w", err)
	}
	return t, nil
}

func readWithin(path string) ([]byte, error) {
	dir, name := ".", path
	if filepath.IsAbs(path) {
		dir, name = filepath.Split(path)
		if path != filepath.Clean(path) {
			return nil, fmt.Errorf("%s: an absolute path must not hold .., . or //", path)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	// Opening a named pipe would block for ever.
	if info, err := root.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	source, err := io.ReadAll(io.LimitReader(f, maxSource+1))
	if err != nil {
		return nil, err
	}
	if len(source) > maxSource {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxSource)
	}
	return source, nil
}

// parseTemplate builds a template; the extension of its name picks the engine.
func parseTemplate(name string, source []byte) (*Template, error) {
	if !utf8.Valid(source) {
		return nil, fmt.Errorf("%s: not UTF-8", name)
	}
	text := strings.TrimSuffix(string(source), "\n")
	t := &Template{name: name, maxOutput: maxOutput, timeout: timeout}
	var err error
	switch ext := strings.ToLower(filepath.Ext(name)); ext {
	case ".html":
		t.contentType = "text/html; charset=utf-8"
		err = t.parseHTML(text)
	case ".json":
		t.contentType, t.json = "application/json", true
		err = t.parseText(text)
	case ".txt":
		t.contentType = "text/plain; charset=utf-8"
		err = t.parseText(text)
	default:
		err = errors.New("the extension must be .html, .json or .txt")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

// parseHTML and parseText hand the engine only trees that the guard has seen.
func (t *Template) parseHTML(text string) error {
	trees, err := parseGuarded(t.name, text)
	if err != nil {
		return err
	}
	tmpl := htmltemplate.New(t.name).Funcs(t.funcs())
	for name, tree := range trees {
		if _, err := tmpl.AddParseTree(name, tree); err != nil {
			return err
		}
	}
	t.engine = tmpl.Lookup(t.name)
	return nil
}

func (t *Template) parseText(text string) error {
	trees, err := parseGuarded(t.name, text)
	if err != nil {
		return err
	}
	tmpl := texttemplate.New(t.name).Funcs(t.funcs())
	for name, tree := range trees {
		if _, err := tmpl.AddParseTree(name, tree); err != nil {
			return err
		}
	}
	t.engine = tmpl.Lookup(t.name)
	return nil
}

func (t *Template) funcs() map[string]any {
	return map[string]any{"json": jsonString, "printf": printf, stepName: t.step}
}
