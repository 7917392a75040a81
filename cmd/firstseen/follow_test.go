package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/internal/testenv"
)

// following runs a replica and returns the address of its API; stop ends it and returns its exit code.
func following(t *testing.T, args ...string) (api string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	logged, log := io.Pipe()
	code := make(chan int, 1)
	args = append([]string{"follow", "--listen", "127.0.0.1:0", "--log-format", "json"}, args...)
	go func() {
		code <- run(ctx, args, nil, io.Discard, log)
		_ = log.Close()
	}()
	addr, said := make(chan string, 1), make(chan string, 1)
	go func() { // ends when the log is closed
		var all strings.Builder
		for lines := bufio.NewScanner(logged); lines.Scan(); {
			all.WriteString(lines.Text() + "\n")
			var line struct{ Msg, Component, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Component == "stats" && line.Msg == "listening" {
				addr <- line.Addr
			}
		}
		said <- all.String()
	}()
	stop = func() int { cancel(); return <-code }
	select {
	case a := <-addr:
		return "http://" + a, stop
	case text := <-said:
		t.Fatalf("exit code %d:\n%s", stop(), text)
		return "", nil
	}
}

func fetchText(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}

func TestFollowServesWhatIsShipped(t *testing.T) {
	t.Parallel()
	writer, place, replica := databaseWithRows(t, 7), "file:"+t.TempDir(), "sqlite://"+t.TempDir()+"/replica.db"
	ctx, cancel := context.WithCancel(t.Context())
	shipped := make(chan int, 1)
	go func() {
		shipped <- run(ctx, []string{"ship", "--db", writer, "--objects", place, "--log-level", "error"}, nil, &bytes.Buffer{}, &bytes.Buffer{})
	}()
	api, stop := following(t, "--objects", place, "--db", replica)
	testenv.Eventually(t, func() error {
		text, err := fetchText(api + "/v1/replica")
		if err == nil && (!strings.Contains(text, `"applied_seq":7`) || !strings.Contains(text, `"phase":"following"`)) {
			err = fmt.Errorf("replica %s", text)
		}
		return err
	})
	testenv.Eventually(t, func() error { _, err := fetchText(api + "/readyz"); return err })
	for path, want := range map[string]string{
		"/v1/stats":       `"bare":7`,
		"/v1/connections": `"total":null,"known":false`,
	} {
		if text, err := fetchText(api + path); err != nil || !strings.Contains(text, want) {
			t.Errorf("%s: %s, %v", path, text, err)
		}
	}
	if code := stop(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	cancel()
	<-shipped
	ours, _, code := firstseen(t, nil, "digest", "--db", replica)
	theirs, _, _ := firstseen(t, nil, "digest", "--db", writer)
	if code != exitOK || ours != theirs {
		t.Errorf("exit code %d, digest of the replica\n%sof the writer\n%s", code, ours, theirs)
	}
	for _, args := range [][]string{{"server", "--listen", "127.0.0.1:0"}, {"judge"}} {
		_, errs, code := firstseen(t, nil, append(args, "--db", replica)...)
		if code != exitUsage || !strings.Contains(errs, "is a replica of main/primary") {
			t.Errorf("%s into a replica: exit code %d: %s", args[0], code, errs)
		}
	}
}

func TestFollowRefusesWhatCanBeNoReplica(t *testing.T) {
	t.Parallel()
	place := "file:" + t.TempDir()
	for name, test := range map[string]struct {
		args []string
		code int
		says string
	}{
		"MySQL":               {[]string{"--db", "mysql://user:secret@127.0.0.1:1/db"}, exitUsage, "keeps its rows in SQLite"},
		"a writer's database": {[]string{"--db", databaseWithRows(t, 1)}, exitFailure, "has a feed of its own"},
		"no role":             {[]string{"--db", "memory", "--role", "a/b"}, exitUsage, "follow.role"},
		"a role like a chain": {[]string{"--db", "memory", "--role", "17"}, exitUsage, "role"},
		"a negative poll":     {[]string{"--db", "memory", "--poll", "-1s"}, exitUsage, "follow.poll"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"follow", "--listen", "127.0.0.1:0", "--objects", place}, test.args...)
			_, errs, code := firstseen(t, nil, args...)
			if code != test.code || !strings.Contains(errs, test.says) || strings.Contains(errs, "secret") {
				t.Errorf("exit code %d, want %d: %s", code, test.code, errs)
			}
		})
	}
}
