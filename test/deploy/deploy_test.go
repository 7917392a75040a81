// Package deploy checks the Dockerfiles and the compose file where no container engine is at hand: that they keep our
// rules for images, and that everything they tell the program is something it understands.
package deploy

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/knadh/koanf/parsers/yaml"
)

const root = "../.."

// instruction is one instruction of a Dockerfile, its continued lines joined.
type instruction struct{ word, args string }

func dockerfile(t *testing.T, name string) []instruction {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	joined := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), "")
	var out []instruction
	for line := range strings.Lines(joined) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, args, _ := strings.Cut(line, " ")
		out = append(out, instruction{word, strings.TrimSpace(args)})
	}
	return out
}

func TestDockerfilesKeepTheRulesForImages(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"Dockerfile-client", "Dockerfile-server"} {
		all := dockerfile(t, name)
		last := func(word string) string {
			for _, in := range slices.Backward(all) {
				if in.word == word {
					return in.args
				}
			}
			return ""
		}
		known := []string{"ARG", "FROM", "WORKDIR", "COPY", "RUN", "LABEL", "ENV", "VOLUME", "EXPOSE", "USER",
			"HEALTHCHECK", "ENTRYPOINT", "CMD"}
		for _, in := range all {
			if !slices.Contains(known, in.word) {
				t.Errorf("%s: unexpected instruction %s", name, in.word)
			}
			if in.word == "FROM" && !strings.HasPrefix(in.args, "${") {
				t.Errorf("%s: base image %q is not an ARG", name, in.args)
			}
			if in.word == "RUN" && strings.Contains(in.args, "go build") && !strings.Contains(in.args, "CGO_ENABLED=0 ") {
				t.Errorf("%s: the binary is not static", name)
			}
		}
		if last("USER") != "65532:65532" || last("ENTRYPOINT") != `["/firstseen"]` || !strings.HasPrefix(last("CMD"), "[") {
			t.Errorf("%s: user %q, entrypoint %q, command %q", name, last("USER"), last("ENTRYPOINT"), last("CMD"))
		}
		for _, label := range []string{"title", "description", "source", "version"} {
			if !strings.Contains(last("LABEL"), "org.opencontainers.image."+label+"=") {
				t.Errorf("%s: no label %s", name, label)
			}
		}
	}
}

// image is what a Dockerfile tells the program: its environment, its command and its health check's.
func image(t *testing.T, name string) (environ []string, commands [][]string) {
	t.Helper()
	for _, in := range dockerfile(t, name) {
		switch in.word {
		case "ENV":
			environ = append(environ, strings.Fields(in.args)...)
		case "CMD", "HEALTHCHECK":
			list := regexp.MustCompile(`\[.*\]`).FindString(in.args)
			words, err := yaml.Parser().Unmarshal([]byte("words: " + list))
			if err != nil {
				t.Fatalf("%s: %s: %v", name, in.word, err)
			}
			command := stringsOf(words["words"])
			commands = append(commands, slices.DeleteFunc(command, func(s string) bool { return s == "/firstseen" }))
		}
	}
	return environ, commands
}

type object = map[string]any

func compose(t *testing.T) (services object) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := yaml.Parser().Unmarshal(text)
	if err != nil {
		t.Fatal(err)
	}
	services, _ = file["services"].(object)
	if len(services) == 0 {
		t.Fatal("no services")
	}
	return services
}

func stringsOf(list any) []string {
	items, _ := list.([]any)
	out := make([]string, len(items))
	for i, item := range items {
		out[i] = fmt.Sprint(item)
	}
	return out
}

func TestComposeServicesExistAndWaitForEachOther(t *testing.T) {
	t.Parallel()
	services := compose(t)
	for _, name := range []string{"geth", "mysql", "redis", "migrate", "server-1", "server-2", "stats", "client-1", "client-2"} {
		if services[name] == nil {
			t.Errorf("no service %s", name)
		}
	}
	for name, s := range services {
		service := s.(object)
		if service["image"] == nil {
			t.Errorf("%s has no image", name)
		}
		needs, _ := service["depends_on"].(object)
		for other, how := range needs {
			needed, ok := services[other].(object)
			if !ok {
				t.Errorf("%s waits for %s, which does not exist", name, other)
				continue
			}
			ours := strings.HasPrefix(fmt.Sprint(needed["image"]), "firstseen-")
			if how.(object)["condition"] == "service_healthy" && !ours && needed["healthcheck"] == nil {
				t.Errorf("%s waits for the health of %s, which has no check", name, other)
			}
		}
		for _, argument := range stringsOf(service["command"]) {
			host, _, found := strings.Cut(strings.TrimPrefix(argument, "http://"), ":")
			if found && host != "" && services[host] == nil && !strings.HasPrefix(argument, "--") {
				t.Errorf("%s talks to %s, which does not exist", name, argument)
			}
		}
	}
}

func TestTheProgramUnderstandsWhatItIsTold(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "firstseen")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "./cmd/firstseen")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	check := func(who string, environ, command []string) {
		// Flags are parsed before --help is met, so a wrong one is an error and nothing is started.
		if out, err := run(t, binary, environ, append(slices.Clone(command), "--help")); err != nil {
			t.Errorf("%s: %v: %v\n%s", who, command, err, out)
		}
		if out, err := run(t, binary, environ, []string{"config", "validate"}); err != nil {
			t.Errorf("%s: environment %v: %v\n%s", who, environ, err, out)
		}
	}
	environs := map[string][]string{}
	for name, file := range map[string]string{"firstseen-client": "Dockerfile-client", "firstseen-server": "Dockerfile-server"} {
		environ, commands := image(t, file)
		environs[name] = environ
		for _, command := range commands {
			check(file, environ, command)
		}
	}
	for name, s := range compose(t) {
		service := s.(object)
		environ, ours := environs[fmt.Sprint(service["image"])]
		if !ours {
			continue
		}
		environ = slices.Clone(environ)
		settings, _ := service["environment"].(object)
		for key, value := range settings {
			plain := regexp.MustCompile(`\$\{\w+:-(\w*)\}`).ReplaceAllString(fmt.Sprint(value), "$1")
			environ = append(environ, key+"="+plain)
		}
		check(name, environ, stringsOf(service["command"]))
	}
}

func run(t *testing.T, binary string, environ, args []string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir()}, environ...) // not this process's: it may hold settings too
	cmd.Dir = t.TempDir()
	out, err := cmd.CombinedOutput()
	return string(out), err
}
