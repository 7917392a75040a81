package e2e

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// maxBinary is what the production binary may weigh, stripped. The clients of S3 and Kafka are a quarter of it; a
// simulated chain that got linked by mistake would go beyond.
const maxBinary = 56 << 20

func TestTheProductionBinaryIsSmall(t *testing.T) {
	t.Parallel()
	info, err := os.Stat(string(binary))
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > maxBinary {
		t.Errorf("%d bytes, at most %d", info.Size(), maxBinary)
	}
}

func TestVersionIsReadableByScripts(t *testing.T) {
	t.Parallel()
	out, stderr, code := once(t, "version", "--output", "json")
	var info struct{ Version, Go, Platform string }
	if err := json.Unmarshal([]byte(out), &info); err != nil || code != 0 || info.Version == "" || info.Go == "" {
		t.Errorf("%d %q %q %v", code, out, stderr, err)
	}
}

func TestWhatCannotBeReachedIsOneLineThatSaysWhichAndWhatToDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		want []string
	}{
		{"database", []string{"server", "--listen", "127.0.0.1:0", "--db", "mysql://u:hunter2@127.0.0.1:1/d"}, []string{"127.0.0.1:1", "--db"}},
		{"database's name", []string{"migrate", "--db", "postgres://localhost/d"}, []string{"mysql://", "sqlite:"}},
		{"folder", []string{"up", "--db", "sqlite:///nowhere/f.db"}, []string{"/nowhere/f.db", "--db"}},
		{"address in use", []string{"up", "--db", "memory", "--listen", "192.0.2.1:9"}, []string{"192.0.2.1:9", "--listen"}},
		{"template", []string{"client", "--template", "nowhere.html"}, []string{"nowhere.html", "block.html"}},
		{"redis", []string{"stats", "--redis", "http://x"}, []string{"--redis"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, stderr, code := once(t, tc.args...)
			if code == 0 {
				t.Fatal("exit code 0")
			}
			line := lastLine(stderr)
			for _, want := range tc.want {
				if !strings.Contains(line, want) {
					t.Errorf("%q does not name %q", line, want)
				}
			}
			if strings.Contains(stderr, "hunter2") {
				t.Errorf("the password is shown: %s", stderr)
			}
		})
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
