package templates

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestLoadRendersAUsersTemplate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ source, want string }{
		"numbers.txt": {"{{.Number}} {{printf \"%012d|%-6s|%x\" .Number \"ab\" 255}}\n", "19000000 000019000000|ab    |ff"},
		"keeps.txt":   {"{{.Number}}\n\n", "19000000\n"},
		"calls.txt":   {`{{define "tx"}}{{slice .Hash 0 4}};{{end}}{{range .Transactions}}{{template "tx" .}}{{end}}`, "0x01;0x02;"},
		"block.txt":   {`{{block "b" .}}{{if and (gt .GasUsed 1) (ne .BaseFee "")}}yes{{end}}{{end}}`, "yes"},
		"escaped.html": {`<p title="{{.ExtraText}}">{{.ExtraText}}</p>{{range .Transactions}}{{.Index}}{{end}}`,
			`<p title="geth/go1.21/linux">geth/go1.21/linux</p>01`},
		"script.html": {`<script>var x = {{.ExtraText}}{{range .Transactions}}+{{.Value}}{{end}};</script>`,
			`<script>var x = "geth/go1.21/linux"+"1000000000000000000"+"0";</script>`},
		"valid.json": {`{"n": {{.Number}}, "x": {{json .ExtraText}}}`, `{"n": 19000000, "x": "geth/go1.21/linux"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tmpl, err := Load(write(t, t.TempDir(), name, c.source))
			if err != nil {
				t.Fatal(err)
			}
			out, err := tmpl.Render(t.Context(), sample())
			if err != nil || string(out) != c.want {
				t.Errorf("%q, %v, want %q", out, err, c.want)
			}
		})
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, source, message string }{
		"nothing at all":             {"a.html", "\n", "empty"},
		"an unknown extension":       {"a.xml", "x", "extension"},
		"no extension":               {"a", "x", "extension"},
		"a syntax error":             {"a.txt", "\n{{if}}", "a.txt:2"},
		"a misspelled field":         {"a.txt", "{{.Nummer}}", "Nummer"},
		"a field of receipts":        {"a.txt", "{{range .Transactions}}{{.Status}}{{end}}", "Status"},
		"a method of time":           {"a.txt", "{{.Time.Local}}", "Local"},
		"JSON that is none":          {"a.json", "{{.Number}},", "JSON"},
		"markup that cannot be safe": {"a.html", "<a href='{{if .Hash}}x{{else}}x' y='{{end}}'>", "a.html"},
		"invalid UTF-8":              {"a.txt", "\xff", "UTF-8"},
		"a template too large":       {"a.txt", strings.Repeat("x", maxSource+1), "larger"},
		"recursion":                  {"a.txt", `{{define "a"}}{{template "a"}}{{end}}{{template "a"}}`, "calls itself"},
		"recursion through others": {"a.html",
			`{{define "a"}}{{if 1}}{{template "b"}}{{end}}{{end}}{{define "b"}}{{with 1}}{{else}}{{template "a"}}{{end}}{{end}}`,
			"calls itself"},
		"recursion of the template itself": {"a.txt", `{{template "a.txt"}}`, "calls itself"},
		"call":                             {"a.txt", "{{call .Hash}}", `"call"`},
		"print":                            {"a.txt", "{{print 1}}", `"print"`},
		"html":                             {"a.html", "{{.Hash | html}}", `"html"`},
		"js in parentheses":                {"a.txt", "{{if (len (js .Hash))}}{{end}}", `"js"`},
		"the guard's own function":         {"a.txt", "{{_step}}", `"_step"`},
		"a huge width":                     {"a.txt", `{{printf "%99999999d" 1}}`, "format"},
		"a width of 65":                    {"a.txt", `{{printf "%65d" 1}}`, "format"},
		"a width out of an argument":       {"a.txt", `{{printf "%*d" 99999999 1}}`, "format"},
		"a huge precision":                 {"a.txt", `{{printf "%.99999999d" 1}}`, "format"},
		"an argument index":                {"a.txt", `{{printf "%[1]d" 1}}`, "format"},
		"a directive cut off":              {"a.txt", `{{printf "%" 1}}`, "format"},
		"printf of a whole block":          {"a.txt", `{{printf "%v" .}}`, "neither"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Load(write(t, t.TempDir(), c.file, c.source))
			if err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("error %v, want one naming %q", err, c.message)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestLoadStaysWithinTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0o700); err != nil {
		t.Fatal(err)
	}
	secret := write(t, dir, "secret.txt", "secret")
	write(t, inner, "real.txt", "fine")
	for link, target := range map[string]string{
		"absolute.txt": secret, "relative.txt": "../secret.txt", "within.txt": "real.txt", "dangling.txt": "nothing",
	} {
		if err := os.Symlink(target, filepath.Join(inner, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, ok := range map[string]bool{
		inner + "/real.txt":                    true,
		inner + "/within.txt":                  true, // as Kubernetes mounts configuration
		inner + "/absolute.txt":                false,
		inner + "/relative.txt":                false,
		inner + "/dangling.txt":                false,
		inner + "/../secret.txt":               false,
		inner + "/../inner/real.txt":           false,
		inner:                                  false,
		"../templates/block.txt":               false,
		"testdata/../../schema/schema.go":      false,
		"testdata/../block.txt":                true,
		"block.txt":                            true,
		"":                                     false,
		inner + "/real.txt/":                   false,
		"/dev/stdin":                           false,
		filepath.Join(dir, "missing", "x.txt"): false,
	} {
		if _, err := Load(path); (err == nil) != ok {
			t.Errorf("%q: %v", path, err)
		}
	}
	if _, err := Load(inner + "/missing.txt"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: %v", err)
	}
}
