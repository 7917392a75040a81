package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	_ "modernc.org/sqlite" // to look into the server's database

	"github.com/firstseen/firstseen/internal/devnet"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/process"
)

// waitingBlocks is what an observer says of its outbox.
var waitingBlocks = regexp.MustCompile(`(?m)^firstseen_client_outbox_blocks\{.*\} (\d+)$`)

func waiting(t *testing.T, observer *process.Process) (int, error) {
	t.Helper()
	_, body, err := fetch(t.Context(), "http://"+observer.Addr(t, "admin")+"/metrics")
	if err != nil {
		return 0, err
	}
	found := waitingBlocks.FindSubmatch(body)
	if found == nil {
		return 0, fmt.Errorf("no such metric in %d bytes", len(body))
	}
	return strconv.Atoi(string(found[1]))
}

// storedIn checks that every block is in the database once.
func storedIn(t *testing.T, db *sql.DB, chain []schema.Hash) error {
	t.Helper()
	for number, hash := range chain {
		var n int
		err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM records WHERE key = ?", string(hash.Key())).Scan(&n)
		if err == nil && n != 1 {
			err = fmt.Errorf("block %d is stored %d times", number, n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// An observer with a spool is killed again and again while no server lives. Then its node is gone, too. All that it ever
// saw is stored once a server is back.
func TestSpoolOutlivesObserverServerAndNode(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	chain, err := devnet.New(devnet.Options{Endpoints: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, database := filepath.Join(dir, "spool"), filepath.Join(dir, "firstseen.db")
	server := start(t, "server", "--db", "sqlite:"+database, "--listen", "127.0.0.1:0")
	addr := server.Addr(t, "server")
	args := []string{"client", "--name", "keeper", "--node", chain.URLs()[0], "--server", addr, "--poll", "20ms",
		"--spool", path, "--start", "earliest", "--admin", "127.0.0.1:0"}
	observer := start(t, args...)
	if err := chain.Mine(ctx, 5); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite", database)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	eventually(t, 30*time.Second, func() error { return storedIn(t, db, chain.Canonical()) })

	server.Kill()
	const rounds, each = 6, 40
	for round := range rounds {
		if err := chain.Mine(ctx, each); err != nil {
			t.Fatal(err)
		}
		eventually(t, 30*time.Second, func() error { // and somewhere in the middle of the rest it dies
			n, err := waiting(t, observer)
			if err == nil && n < round*each+5 {
				err = fmt.Errorf("%d blocks wait", n)
			}
			return err
		})
		observer.Kill()
		observer = start(t, args...)
	}
	eventually(t, 30*time.Second, func() error {
		n, err := waiting(t, observer)
		if err == nil && n < rounds*each {
			err = fmt.Errorf("%d blocks wait, want %d", n, rounds*each)
		}
		return err
	})
	if _, stderr, code := once(t, "spool", "ls", "--spool", path); code != 1 {
		t.Errorf("the spool of a running observer: %d %s", code, stderr)
	}
	observer.Kill()
	all := chain.Canonical()
	if err := chain.Close(); err != nil {
		t.Fatal(err)
	}
	listing(t, path, uint64(len(all)-1), rounds*each)

	start(t, "server", "--db", "sqlite:"+database, "--listen", addr)
	observer = start(t, args...)
	eventually(t, 30*time.Second, func() error { return storedIn(t, db, all) })
	if err := observer.Stop(t); err != nil {
		t.Error(err)
	}
	listing(t, path, uint64(len(all)-1), 0)
}

// listing checks what `spool ls` says of a spool that nothing uses.
func listing(t *testing.T, path string, finished uint64, least int) {
	t.Helper()
	out, stderr, code := once(t, "spool", "ls", "--spool", path, "--output", "json")
	var l struct {
		Finished schema.Point
		Waiting  []struct{ Block schema.Point }
		Letters  []any
	}
	if err := json.Unmarshal([]byte(out), &l); err != nil {
		t.Fatal(code, stderr, err)
	}
	if l.Finished.Number != finished || len(l.Waiting) < least || least == 0 && len(l.Waiting) > 0 || len(l.Letters) > 0 {
		t.Errorf("finished %d, want %d; %d wait, want %d; %d dead letters", l.Finished.Number, finished, len(l.Waiting), least,
			len(l.Letters))
	}
}
