package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/devnet"
)

// What an observer thinks of its nodes reaches an operator's terminal, and the exit code tells a script.
func TestNodesAreShownToOperatorsAndScripts(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	chain, err := devnet.New(devnet.Options{Endpoints: 2, Period: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- chain.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
		if err := chain.Close(); err != nil {
			t.Error(err)
		}
	})
	urls := chain.URLs()
	up := start(t, "up", "--db", "memory", "--name", "paris-1", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0",
		"--node", "one="+urls[0], "--node", "two="+urls[1], "--node", "dead=http://127.0.0.1:1")
	api := "http://" + up.addr(t, "stats")

	eventually(t, 30*time.Second, func() error {
		out, stderr, code := once(t, "nodes", "--api", api, "--name", "one", "--output", "json")
		var list struct {
			Data []struct {
				Observer, Name, State string
				Height                *uint64
			}
		}
		if err := json.Unmarshal([]byte(out), &list); err != nil || code != 0 || len(list.Data) != 1 ||
			list.Data[0].Observer != "paris-1" || list.Data[0].Height == nil {
			return fmt.Errorf("%d %q %q", code, out, stderr)
		}
		return nil
	})
	out, stderr, code := once(t, "nodes", "--api", api)
	if code != 3 || strings.Count(out, "\n") != 4 || !strings.Contains(out, "dead") || !strings.Contains(stderr, "not ready") {
		t.Errorf("with a dead node: %d %q\n%s", code, stderr, out)
	}
}
