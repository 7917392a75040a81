// Package layers holds the architecture diagram as a test: imports go strictly downward, and siblings never import
// each other.
package layers

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/firstseen/firstseen/"

// layer reads the diagram of docs/ARCHITECTURE.md: each line "N  package package …" of the block marked layers.
func layers(t *testing.T) map[string]int {
	t.Helper()
	text, err := os.ReadFile("../../docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```layers\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatal("docs/ARCHITECTURE.md has no fenced block marked layers")
	}
	out := map[string]int{}
	for line := range strings.Lines(string(block[1])) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		n, err := strconv.Atoi(fields[0])
		if err != nil {
			t.Fatalf("layer line %q does not begin with a number", line)
		}
		for _, pkg := range fields[1:] {
			out[pkg] = n
		}
	}
	return out
}

// layerOf finds the longest entry that pkg is or lies below.
func layerOf(diagram map[string]int, pkg string) (entry string, layer int, ok bool) {
	for name, n := range diagram {
		if (pkg == name || strings.HasPrefix(pkg, name+"/")) && len(name) > len(entry) {
			entry, layer, ok = name, n, true
		}
	}
	return entry, layer, ok
}

type listed struct {
	path    string
	imports []string
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list"}, args...)...)
	cmd.Dir = "../.."
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	return out
}

func packages(t *testing.T) []listed {
	t.Helper()
	out := goList(t, "-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, "./...")
	var pkgs []listed
	scan := bufio.NewScanner(bytes.NewReader(out))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		fields := strings.Fields(scan.Text())
		p := listed{path: strings.TrimPrefix(fields[0], module)}
		for _, imp := range fields[1:] {
			if ours, ok := strings.CutPrefix(imp, module); ok {
				p.imports = append(p.imports, ours)
			}
		}
		pkgs = append(pkgs, p)
	}
	return pkgs
}

func TestImportsGoStrictlyDownward(t *testing.T) {
	t.Parallel()
	diagram := layers(t)
	for _, p := range packages(t) {
		from, layer, ok := layerOf(diagram, p.path)
		if !ok {
			t.Errorf("%s is not in the diagram of docs/ARCHITECTURE.md", p.path)
			continue
		}
		for _, imp := range p.imports {
			if err := downward(diagram, from, layer, imp); err != nil {
				t.Errorf("%s imports %s: %v", p.path, imp, err)
			}
		}
	}
}

func downward(diagram map[string]int, from string, layer int, imp string) error {
	to, below, ok := layerOf(diagram, imp)
	switch {
	case !ok:
		return fmt.Errorf("which is not in the diagram")
	case to == from || below < layer:
		return nil
	}
	return fmt.Errorf("layer %d may only import layers below it, not %d", layer, below)
}

func TestSharedVocabularyNeedsTheStandardLibraryOnly(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{"schema", "netstring", "internal/faults", "internal/lifecycle", "internal/health"} {
		out := goList(t, "-f", `{{join .Deps "\n"}}`, "./"+pkg)
		for dep := range strings.Lines(string(out)) {
			dep = strings.TrimSpace(dep)
			if first, _, _ := strings.Cut(dep, "/"); strings.Contains(first, ".") && dep != module+pkg {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
}

// The simulated chain and the test rooms would add 60 MB, or a way to inject faults, to what runs in production.
func TestTheProductionBinaryLeavesTestRoomsOut(t *testing.T) {
	t.Parallel()
	deps := strings.Fields(string(goList(t, "-f", `{{join .Deps "\n"}}`, "./cmd/firstseen")))
	for _, banned := range []string{module + "internal/devnet", module + "internal/faults", module + "internal/testenv",
		"github.com/ethereum/go-ethereum/ethclient/simulated", "github.com/ethereum/go-ethereum/node", "testing"} {
		if slices.Contains(deps, banned) {
			t.Errorf("cmd/firstseen depends on %s", banned)
		}
	}
}

func TestTestRoomsAreImportedByTestsOnly(t *testing.T) {
	t.Parallel()
	for _, p := range packages(t) {
		for _, imp := range p.imports {
			if imp == "internal/testenv" || imp == "internal/faults" {
				t.Errorf("%s imports %s outside a test", p.path, imp)
			}
		}
	}
}
