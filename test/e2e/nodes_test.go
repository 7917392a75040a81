package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
)

// endpoints starts a devnet that grows by a block each period until the test ends and returns the URLs of its endpoints.
func endpoints(t *testing.T, n int, period time.Duration) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	chain, err := devnet.New(devnet.Options{Endpoints: n, Period: period})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- chain.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ran, chain.Close()); err != nil {
			t.Error(err)
		}
	})
	return chain.URLs()
}

type listedNode struct {
	Observer, Name, State string
	Height                *uint64
	Cordoned              bool
	History               []struct{ From, To, Reason string }
}

// listNodes runs `firstseen nodes` for nodes of one name.
func listNodes(t *testing.T, api, name string) (nodes []listedNode, code int, err error) {
	t.Helper()
	out, stderr, code := once(t, "nodes", "--api", api, "--name", name, "--output", "json")
	var list struct{ Data []listedNode }
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, code, fmt.Errorf("%d %q %q: %w", code, out, stderr, err)
	}
	return list.Data, code, nil
}

// What an observer thinks of its nodes reaches an operator's terminal, and the exit code tells a script.
func TestNodesAreShownToOperatorsAndScripts(t *testing.T) {
	t.Parallel()
	urls := endpoints(t, 2, 100*time.Millisecond)
	up := start(t, "up", "--db", "memory", "--name", "paris-1", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0",
		"--node", "one="+urls[0], "--node", "two="+urls[1], "--node", "dead=http://127.0.0.1:1")
	api := "http://" + up.Addr(t, "stats")

	eventually(t, 30*time.Second, func() error {
		nodes, code, err := listNodes(t, api, "one")
		if err != nil || code != 0 || len(nodes) != 1 || nodes[0].Observer != "paris-1" || nodes[0].Height == nil ||
			len(nodes[0].History) == 0 || nodes[0].History[0].To != nodes[0].State {
			return fmt.Errorf("%d %+v %w", code, nodes, err)
		}
		return nil
	})
	out, stderr, code := once(t, "nodes", "--api", api)
	if code != 3 || strings.Count(out, "\n") != 4 || !strings.Contains(out, "dead") || !strings.Contains(stderr, "not ready") {
		t.Errorf("with a dead node: %d %q\n%s", code, stderr, out)
	}
}

// An operator takes a node out over the admin port of the process that holds it, and the API shows it.
func TestANodeIsCordonedByHand(t *testing.T) {
	t.Parallel()
	urls := endpoints(t, 2, 100*time.Millisecond)
	config := filepath.Join(t.TempDir(), "firstseen.yaml")
	if err := os.WriteFile(config, []byte("admin_token: 0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	up := start(t, "up", "--db", "memory", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0", "--admin", "127.0.0.1:0",
		"--config", config, "--node", "one="+urls[0], "--node", "two="+urls[1])
	api, admin := "http://"+up.Addr(t, "stats"), up.Addr(t, "admin")

	for _, step := range []struct {
		verb     string
		cordoned bool
		code     int
	}{{"cordon", true, 3}, {"uncordon", false, 0}} {
		out, stderr, code := once(t, step.verb, "one", "--admin", admin, "--config", config)
		if code != 0 || out != "node one is "+step.verb+"ed\n" {
			t.Fatalf("%s: %d %q %q", step.verb, code, out, stderr)
		}
		eventually(t, 30*time.Second, func() error {
			nodes, code, err := listNodes(t, api, "one")
			if err != nil || code != step.code || len(nodes) != 1 || nodes[0].Cordoned != step.cordoned {
				return fmt.Errorf("after %s: %d %+v %w", step.verb, code, nodes, err)
			}
			return nil
		})
	}
	if _, stderr, code := once(t, "cordon", "three", "--admin", admin, "--config", config); code != 1 || !strings.Contains(stderr, "three") {
		t.Errorf("a node that is not there: %d %q", code, stderr)
	}
	if _, stderr, code := once(t, "cordon", "one", "--admin", admin); code != 2 || !strings.Contains(stderr, "FIRSTSEEN_ADMIN_TOKEN") {
		t.Errorf("without a token: %d %q", code, stderr)
	}
}
