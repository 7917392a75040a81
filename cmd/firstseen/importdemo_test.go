package main

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/schema"
)

// demoDatabase is a database of the original demo with two payloads and three rows that are wrong.
func demoDatabase(t *testing.T) (dsn string, keys []schema.Key) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "demo.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE ethereum_data (id INTEGER PRIMARY KEY, hash VARCHAR(64) UNIQUE, payload TEXT)"); err != nil {
		t.Fatal(err)
	}
	insert := func(hash, payload any) {
		if _, err := db.ExecContext(t.Context(), "INSERT INTO ethereum_data (hash, payload) VALUES (?, ?)", hash, payload); err != nil {
			t.Fatal(err)
		}
	}
	for _, payload := range []string{"<p>one</p>", "<p>it's two</p>"} {
		keys = append(keys, schema.PayloadKey([]byte(payload)))
		insert(string(keys[len(keys)-1]), payload)
	}
	insert(strings.Repeat("0", 64), "not what it says")
	insert("x", nil)
	insert(string(schema.PayloadKey(nil)), "")
	return "sqlite://" + path, keys
}

func TestTheDemosDatabaseIsCopiedOnce(t *testing.T) {
	t.Parallel()
	from, keys := demoDatabase(t)
	redis := miniredis.RunT(t)
	for key, at := range map[schema.Key]float64{keys[0]: 1767323045.5, keys[1]: 1767323050.25} {
		if _, err := redis.ZAdd(demoHashes, at, string(key)); err != nil {
			t.Fatal(err)
		}
	}
	redis.HSet(demoClients, "192.0.2.7", "3", "[", "5", "::ffff:192.0.2.7", "1", "2001:db8::1", "many")
	to := "sqlite://" + filepath.Join(t.TempDir(), "ours.db")
	args := []string{"migrate", "import-demo", "--from", from, "--from-redis", "redis://" + redis.Addr() + "/0", "--db", to}
	for _, step := range []struct {
		args []string
		want string
	}{
		{append(args, "--dry-run"), "would copy 2 payloads, 3 left out; counts of 1 clients; 2 clients left out that are no addresses\n"},
		{args, "copied 2 payloads, 3 left out; counts of 1 clients; 2 clients left out that are no addresses\n"},
		{args, "copied 0 payloads, 2 were there, 3 left out; counts of clients had been added before; 2 clients left out that are no addresses\n"},
	} {
		out, errs, code := firstseen(t, nil, step.args...)
		if code != exitOK || out != step.want {
			t.Fatalf("%v: %d %q\n%s", step.args, code, out, errs)
		}
	}
	s, err := store.Open(t.Context(), store.Options{DSN: to})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.NewestKeys(t.Context(), 10)
	want := []schema.KeyTime{
		{Key: keys[1], ReceivedAt: schema.FromMicros(1767323050_250000)}, {Key: keys[0], ReceivedAt: schema.FromMicros(1767323045_500000)},
	}
	if d := cmp.Diff(want, got); err != nil || d != "" {
		t.Error(err, d)
	}
	clients, err := s.Clients(t.Context(), 10)
	if d := cmp.Diff([]schema.ClientCount{{IP: "192.0.2.7", Count: 4}}, clients); err != nil || d != "" {
		t.Error(err, d)
	}
	records, err := s.RecordsByKey(t.Context(), keys[1], []uint64{schema.BareChain})
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	if payload, err := s.Payload(t.Context(), records[0].ID); err != nil || string(payload) != "<p>it's two</p>" {
		t.Errorf("%q, %v", payload, err)
	}
}

func TestWhatKeepsADemoFromBeingImportedIsOneLine(t *testing.T) {
	t.Parallel()
	from, _ := demoDatabase(t)
	empty := "sqlite://" + filepath.Join(t.TempDir(), "empty.db")
	for _, c := range []struct {
		name string
		args []string
		want string
		code int
	}{
		{"no source", nil, "--from", exitUsage},
		{"not a demo's", []string{"--from", empty}, "no table ethereum_data", exitFailure},
		{"nobody there", []string{"--from", "mysql://u:s3cret@127.0.0.1:1/x"}, "127.0.0.1:1", exitFailure},
		{"Redis not understood", []string{"--from", from, "--from-redis", "nonsense://x:s3cret@h"}, "--from-redis", exitUsage},
		{"Redis away", []string{"--from", from, "--from-redis", "redis://x:s3cret@127.0.0.1:1/0"}, "demo's Redis", exitFailure},
	} {
		to := "sqlite://" + filepath.Join(t.TempDir(), "ours.db")
		out, errs, code := firstseen(t, nil, append([]string{"migrate", "import-demo", "--db", to, "--log-level", "error"}, c.args...)...)
		if code != c.code || out != "" || !strings.Contains(errs, c.want) || strings.Contains(errs, "s3cret") {
			t.Errorf("%s: %d %q %q", c.name, code, out, errs)
		}
	}
}

func TestPasswordsOfADemoAreNotShown(t *testing.T) {
	t.Parallel()
	environ := []string{"FIRSTSEEN_IMPORT__FROM=mysql://u:s3cret@h/x", "FIRSTSEEN_IMPORT__FROM_REDIS=redis://u:s3cret@h/0"}
	if out, errs, code := firstseen(t, environ, "config", "dump"); code != exitOK || strings.Contains(out+errs, "s3cret") {
		t.Errorf("%d %s %s", code, out, errs)
	}
}
