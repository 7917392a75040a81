package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

// databaseWithRows returns the DSN of a database whose feed has so many rows.
func databaseWithRows(t *testing.T, rows int) string {
	t.Helper()
	dsn := "sqlite://" + t.TempDir() + "/firstseen.db"
	s, err := store.Open(t.Context(), store.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	settled := make(chan schema.Settlement, rows)
	for i := range rows {
		payload := fmt.Append(nil, i)
		err := s.Offer(ctx, &schema.Offer{
			Key: schema.PayloadKey(payload), Payload: payload, ContentType: "text/plain", Server: "s1", Remote: "192.0.2.1",
			ReceivedAt: time.Unix(1e9, 0),
		}, func(answer schema.Settlement) { settled <- answer })
		if err != nil {
			t.Fatal(err)
		}
	}
	for range rows {
		if answer := <-settled; answer.Outcome != schema.First {
			t.Fatalf("settled as %s: %s", answer.Outcome, answer.Reason)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dsn
}

func TestShipShipsAndShippedShowsIt(t *testing.T) {
	t.Parallel()
	dsn, place := databaseWithRows(t, 7), "file:"+t.TempDir()
	shipped := func() (view shipped, err error) {
		out, errs, code := firstseen(t, nil, "shipped", "--objects", place, "--output", "json")
		if code != exitOK {
			return view, fmt.Errorf("exit code %d: %s", code, errs)
		}
		return view, json.Unmarshal([]byte(out), &view)
	}
	if _, _, code := firstseen(t, nil, "shipped", "--objects", place); code != exitMissing {
		t.Errorf("of nothing: exit code %d, want %d", code, exitMissing)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	code := make(chan int, 1)
	var errs bytes.Buffer
	go func() {
		code <- run(ctx, []string{"ship", "--db", dsn, "--objects", place, "--log-level", "error"}, nil, &bytes.Buffer{}, &errs)
	}()
	testenv.Eventually(t, func() error {
		view, err := shipped()
		if err == nil && view.Checkpoint.Seq != 7 {
			err = fmt.Errorf("shipped up to %d, want 7", view.Checkpoint.Seq)
		}
		return err
	})
	cancel()
	if got := <-code; got != exitOK || errs.Len() > 0 {
		t.Errorf("exit code %d: %s", got, errs.String())
	}
	out, _, got := firstseen(t, nil, "shipped", "--objects", place)
	if got != exitOK || !strings.Contains(out, "7 of 7") {
		t.Errorf("exit code %d: %s", got, out)
	}
}

func TestShipRefusesWhatIsAnotherDatabases(t *testing.T) {
	t.Parallel()
	place := "file:" + t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	code := make(chan int, 1)
	first := databaseWithRows(t, 3)
	go func() {
		code <- run(ctx, []string{"ship", "--db", first, "--objects", place, "--log-level", "error"}, nil, &bytes.Buffer{}, &bytes.Buffer{})
	}()
	testenv.Eventually(t, func() error {
		if out, errs, got := firstseen(t, nil, "shipped", "--objects", place); !strings.Contains(out, "3 of 3") {
			return fmt.Errorf("exit code %d: %s", got, out+errs)
		}
		return nil
	})
	cancel()
	if got := <-code; got != exitOK {
		t.Errorf("exit code %d", got)
	}
	_, errs, got := firstseen(t, nil, "ship", "--db", databaseWithRows(t, 4), "--objects", place, "--log-level", "error")
	if got != exitFailure || !strings.Contains(errs, "--role") {
		t.Errorf("exit code %d: %s", got, errs)
	}
}

func TestShipSettingsAreChecked(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--db", "memory"}, {"--role", "a/b"}, {"--role", "17"}, {"--poll", "2s"}, {"--uploads", "0"}, {"--grace", "1s"},
	} {
		place := "file:" + t.TempDir()
		_, errs, code := firstseen(t, nil, append([]string{"ship", "--objects", place}, args...)...)
		if code != exitUsage || !strings.Contains(errs, strings.TrimPrefix(args[0], "--")) {
			t.Errorf("%v: exit code %d: %s", args, code, errs)
		}
	}
}
