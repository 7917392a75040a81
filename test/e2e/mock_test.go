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
	api := "http://" + up.addr(t, "stats")
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
	if err := up.stop(t); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	if _, stderr, code := once(t, "up", "--mock", "--db", "mysql://u:hunter2@127.0.0.1:1/d"); code != 2 ||
		!strings.Contains(stderr, "--db memory") || strings.Contains(stderr, "hunter2") {
		t.Errorf("made-up blocks in a database: %d %q", code, stderr)
	}
}
