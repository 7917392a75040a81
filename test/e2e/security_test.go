package e2e

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/test/process"
)

// givenKey is a key as `keys create` printed it, in a file as its owner keeps it.
type givenKey struct {
	ID, Token string
	file      string
}

func giveKey(t *testing.T, database, observer string) givenKey {
	t.Helper()
	stdout, stderr, code := once(t, "keys", "create", "--db", database, "--observer", observer, "--output", "json")
	var k givenKey
	if err := json.Unmarshal([]byte(stdout), &k); code != 0 || err != nil {
		t.Fatalf("keys create: %d %v %s", code, err, stderr)
	}
	k.file = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(k.file, []byte(k.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return k
}

// secret is the part of the token that nobody else may know.
func (k givenKey) secret() string { return k.Token[len("fsk_")+len(k.ID)+1:] }

// An observer with an access key relays over TLS. Its key is revoked: its session is cut, it ends with one line and does
// not come back; with a new key it goes on where it was. Meanwhile no secret is written down anywhere.
func TestAnAccessKeyOpensAndItsRevocationCloses(t *testing.T) {
	t.Parallel()
	ca := testenv.NewAuthority(t)
	cert, key := ca.Files(testenv.Leaf{Hosts: []string{"127.0.0.1"}})
	chain := newDevnet(t, 1)
	t.Cleanup(func() { _ = chain.Close() })
	path := filepath.Join(t.TempDir(), "firstseen.db")
	database := "sqlite:" + path
	server := start(t, "server", "--db", database, "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key, "--require-auth")
	addr := server.Addr(t, "server")
	observe := func(environ ...string) *process.Process {
		return binary.Start(t, environ, "client", "--name", "paris-1", "--node", chain.URLs()[0], "--server", addr, "--poll", "20ms",
			"--start", "earliest", "--tls", "--tls-ca", ca.File())
	}
	// endsWith waits until a process has ended by itself, with one line that says why.
	endsWith := func(p *process.Process, within time.Duration, why string) {
		t.Helper()
		select {
		case <-p.Exited:
		case <-time.After(within):
			t.Fatalf("still running after %s\n%s", within, p.Log)
		}
		last := lastLine(p.Log.String())
		if p.ExitCode() != 1 || !strings.HasPrefix(last, "firstseen: ") || !strings.HasSuffix(last, why) {
			t.Errorf("exit code %d, %q; want 1 and %q", p.ExitCode(), last, why)
		}
	}
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	first := giveKey(t, database, "paris-1")
	endsWith(observe(), time.Minute, "auth: this server wants an access key (client.token, over TLS)")
	paris := observe("FIRSTSEEN_CLIENT__TOKEN_FILE=" + first.file)
	if err := chain.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	eventually(t, time.Minute, func() error { return storedIn(t, db, chain.Canonical()) })

	if _, stderr, code := once(t, "keys", "revoke", first.ID, "--db", database); code != 0 {
		t.Fatal(stderr)
	}
	endsWith(paris, time.Minute, "auth: the access key was revoked")
	if err := chain.Mine(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	again := observe("FIRSTSEEN_CLIENT__TOKEN_FILE=" + first.file)
	endsWith(again, time.Minute, "auth: the access key was revoked")

	second := giveKey(t, database, "paris-1")
	observer := observe("FIRSTSEEN_CLIENT__TOKEN_FILE=" + second.file)
	eventually(t, time.Minute, func() error { return storedIn(t, db, chain.Canonical()) })
	listed, _, _ := once(t, "keys", "list", "--db", database)
	if err := observer.Stop(t); err != nil {
		t.Error(err)
	}
	if err := server.Stop(t); err != nil {
		t.Error(err)
	}
	for _, k := range []givenKey{first, second} {
		for what, text := range map[string]string{"the server's log": server.Log.String(), "the list of keys": listed,
			"an observer's log": paris.Log.String() + again.Log.String() + observer.Log.String()} {
			if strings.Contains(text, k.secret()) {
				t.Errorf("a secret is in %s", what)
			}
		}
		for _, file := range []string{path, path + "-wal"} {
			if content, err := os.ReadFile(file); err == nil && bytes.Contains(content, []byte(k.secret())) {
				t.Errorf("a secret is in %s", filepath.Base(file))
			}
		}
	}
	if !strings.Contains(server.Log.String(), first.ID) {
		t.Error("the server's log does not name the key that it refused")
	}
}
