package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// All in one process, nothing else installed: blocks, transactions and accounts to look at, in ours and in the event
// store's words.
func TestUpShowsAMadeUpChain(t *testing.T) {
	t.Parallel()
	up := start(t, "up", "--db", "memory", "--mock", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0")
	api := "http://" + up.Addr(t, "stats")
	var page struct {
		Data []struct {
			BlockHash, Proposer, State string
			Height, EraID              uint64
			Deploys                    []string
		}
		ItemCount int
	}
	eventually(t, 30*time.Second, func() error {
		err := getJSON(t.Context(), api+"/blocks?limit=20", &page)
		if err == nil && page.ItemCount < 60 {
			err = fmt.Errorf("%d blocks so far", page.ItemCount)
		}
		return err
	})
	for _, b := range page.Data {
		if b.State == "" || b.Proposer == "" {
			t.Errorf("%+v", b)
		}
		if len(b.Deploys) == 0 {
			continue
		}
		var deploy struct{ DeployHash, Account, BlockHash string }
		if err := getJSON(t.Context(), api+"/deploy/"+b.Deploys[0], &deploy); err != nil || deploy.DeployHash != b.Deploys[0] {
			t.Fatalf("%+v, %v", deploy, err)
		}
		var sent struct{ ItemCount int }
		if err := getJSON(t.Context(), api+"/accountDeploys/"+deploy.Account, &sent); err != nil || sent.ItemCount == 0 {
			t.Errorf("%+v, %v", sent, err)
		}
		break
	}
	if err := up.Stop(t); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if _, stderr, code := once(t, "up", "--mock", "--db", "mysql://u:hunter2@127.0.0.1:1/d"); code != 2 ||
		!strings.Contains(stderr, "--db memory") || strings.Contains(stderr, "hunter2") {
		t.Errorf("made-up blocks in a database: %d %q", code, stderr)
	}
}

// The commands are thin clients of the API: what they are told is what it answers, live events included.
func TestCommandsShowWhatTheAPIKnows(t *testing.T) {
	t.Parallel()
	up := start(t, "up", "--mock", "--name", "paris-1", "--listen", "127.0.0.1:0", "--stats-listen", "127.0.0.1:0")
	api := "http://" + up.Addr(t, "stats")
	eventually(t, 30*time.Second, func() error {
		out, stderr, code := once(t, "blocks", "--api", api, "--limit", "70")
		if code != 0 || strings.Count(out, "\n") < 60 || !strings.Contains(out, "paris-1") {
			return fmt.Errorf("%d %s %s", code, out, stderr)
		}
		return nil
	})
	out, stderr, code := once(t, "tail", "--api", api, "--from", "earliest", "--kind", "block", "--count", "60")
	if code != 0 || strings.Count(out, "\n") != 61 {
		t.Errorf("history: %d %s\n%s", code, stderr, out)
	}
	if out, stderr, code := once(t, "tail", "--api", api, "--kind", "block", "--count", "1", "--output", "json"); code != 0 ||
		!strings.Contains(out, `"kind":"block"`) {
		t.Errorf("live: %d %s\n%s", code, stderr, out)
	}
	if out, stderr, code := once(t, "observers", "--api", api); code != 0 || !strings.Contains(out, "paris-1") {
		t.Errorf("%d %s\n%s", code, stderr, out)
	}
	eventually(t, 20*time.Second, func() error {
		out, stderr, code := once(t, "connections", "--strong", "--by", "observer", "--api", api)
		if code != 0 || !strings.Contains(out, "paris-1") {
			return fmt.Errorf("%d %s\n%s", code, stderr, out)
		}
		return nil
	})
}
