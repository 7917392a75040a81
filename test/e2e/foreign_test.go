package e2e

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
	"github.com/firstseen/firstseen/test/process"
)

var anyHash = regexp.MustCompile(`0x[0-9a-f]{64}\b`)

// foreign stands in front of a node and gives everything that has a hash another one, and takes these for the right
// ones: as on a chain whose hashes are made in a way of its own.
func foreign(t *testing.T, node string) string {
	t.Helper()
	turn := func(text []byte) []byte {
		return anyHash.ReplaceAllFunc(text, func(hash []byte) []byte {
			h, err := schema.ParseHash(string(hash))
			if err != nil {
				return hash
			}
			return []byte(turned(h).String())
		})
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		resp, err := http.Post(node, "application/json", bytes.NewReader(turn(asked)))
		if err != nil {
			http.Error(w, "no node", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		answer, err := io.ReadAll(resp.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(turn(answer))
	}))
	t.Cleanup(front.Close)
	return front.URL
}

func turned(h schema.Hash) schema.Hash {
	h[0] ^= 0xff
	return h
}

// Blocks of a chain whose hashes cannot be recomputed are stored for an observer that has proved its name, where both
// sides were told of the exception, and refused to one that has not.
func TestBlocksThatCannotBeVerifiedNeedAnObserverThatIsKnown(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"127.0.0.1"}})
	chain := newDevnet(t, 1)
	t.Cleanup(func() { _ = chain.Close() })
	if err := chain.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	node, path := foreign(t, chain.URLs()[0]), filepath.Join(t.TempDir(), "firstseen.db")
	except := "FIRSTSEEN_CHAINS__1337__VERIFY=none"
	server := binary.Start(t, []string{except}, "server", "--db", "sqlite:"+path, "--listen", "127.0.0.1:0", "--tls-cert", cert,
		"--tls-key", key)
	observe := func(name string, environ ...string) *process.Process {
		return binary.Start(t, environ, "client", "--name", name, "--node", node, "--server", server.Addr(t, "server"), "--poll", "20ms",
			"--start", "earliest", "--tls", "--tls-ca", ca.File())
	}
	says := func(p *process.Process, text string) {
		t.Helper()
		eventually(t, time.Minute, func() error {
			if !strings.Contains(p.Log.String(), text) {
				return fmt.Errorf("the log has no %q", text)
			}
			return nil
		})
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	stranger := observe("stranger", except)
	says(stranger, `"code":"auth"`)
	says(observe("verifier"), "hash")
	if n := blocksIn(t, db); n != 0 {
		t.Errorf("%d blocks of strangers are stored", n)
	}
	stranger.Kill()

	given := giveKey(t, "sqlite:"+path, "paris-1")
	observe("paris-1", except, "FIRSTSEEN_CLIENT__TOKEN_FILE="+given.file)
	var want []schema.Hash
	for _, h := range chain.Canonical() {
		want = append(want, turned(h))
	}
	eventually(t, time.Minute, func() error { return storedIn(t, db, want) })
	if n := blocksIn(t, db); n != len(want) {
		t.Errorf("%d blocks are stored, the chain has %d", n, len(want))
	}
}

func blocksIn(t *testing.T, db *sql.DB) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM records").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
