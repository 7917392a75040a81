package statsapi

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/internal/feed"
	"github.com/firstseen/firstseen/schema"
)

// commands are the lines of a page's shell blocks.
func commands(page string) []string {
	var out []string
	for i, block := range strings.Split(page, "```") {
		if shell, ok := strings.CutPrefix(block, "sh\n"); ok && i%2 == 1 {
			out = append(out, strings.Split(strings.TrimSpace(shell), "\n")...)
		}
	}
	return out
}

func TestCommandsOfTheReferenceAreAnswered(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	w := drawn(t)
	w.nodes()
	s := serve(t, Options{Store: w.store})
	values := strings.NewReplacer(
		"$TRANSACTION", named("t1").String(), "$ACCOUNT", schema.Address{0xaa}.String(), "$BLOCK", named("b2").String())
	form := regexp.MustCompile(`^curl -s (?:-H '([^:]+): ([^']+)' |--compressed )?['"]?http://127\.0\.0\.1:8080(/[^'"]*)['"]?$`)
	lines := commands(string(text))
	if len(lines) < 20 {
		t.Fatalf("%d commands", len(lines))
	}
	for _, line := range lines {
		part := form.FindStringSubmatch(line)
		if part == nil {
			t.Errorf("a command that this test cannot run: %s", line)
			continue
		}
		var header []string
		if part[1] != "" {
			header = part[1:3]
		}
		if got := s.do(http.MethodGet, values.Replace(part[3]), header...); got.StatusCode != http.StatusOK {
			t.Errorf("%s: %d %s", line, got.StatusCode, got.body)
		}
	}
}

func TestReferenceNamesEveryRoute(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	for pattern, item := range serveLive(t, newWorld(t), feed.Options{}, Options{}).api.huma.OpenAPI().Paths {
		if !strings.Contains(string(text), "`"+pattern+"`") {
			t.Errorf("docs/API.md does not name %s", pattern)
		}
		if item.Get.Summary == "" {
			t.Errorf("%s has no summary", pattern)
		}
	}
}
