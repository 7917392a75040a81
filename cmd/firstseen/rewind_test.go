package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

const rewindChain = 1337

// drawnReplica makes a database with a chain of blocks, ships it into a folder and has a replica follow it to its end.
func drawnReplica(t *testing.T, blocks uint64) (writer, db, folder string) {
	t.Helper()
	dir := t.TempDir()
	writer, db, folder = "sqlite:"+dir+"/writer.db", "sqlite:"+dir+"/replica.db", "file:"+dir+"/objects"
	from, to := opened(t, writer), opened(t, db)
	behind := during(t, from.Run)
	drawChain(t, from, blocks)
	behind()
	place, err := objects.Open(t.Context(), folder, objects.Options{Writer: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = place.Close() })
	names := replica.Names{Env: "main", Role: "primary"}
	shipper, err := replica.NewShipper(replica.ShipOptions{Names: names, Store: from, Objects: place, Poll: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	follower, err := replica.NewFollower(replica.FollowOptions{Names: names, Store: to, Objects: place, Poll: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	shipping, following := during(t, shipper.Run), during(t, follower.Run)
	testenv.Eventually(t, func() error {
		// Headers come after the segment, from which the replica may have the rows already.
		if st, shipped := follower.State(), shipper.Stats(); st.Seq != blocks || shipped.Seq != blocks {
			return fmt.Errorf("%+v, %+v", st, shipped)
		}
		return nil
	})
	shipping()
	following()
	return writer, db, folder
}

func opened(t *testing.T, dsn string) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{DSN: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	if err := s.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// during runs something until stop is called.
func during(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func drawChain(t *testing.T, s *store.Store, blocks uint64) {
	t.Helper()
	settled := make(chan schema.Settlement, blocks)
	for n := uint64(1); n <= blocks; n++ {
		h := &schema.Header{Hash: schema.Hash{byte(n)}, Parent: schema.Hash{byte(n - 1)}, Number: n, Time: time.Unix(int64(n), 0)}
		err := s.Offer(t.Context(), &schema.Offer{
			Chain: rewindChain, Key: h.Hash.Key(), Header: h, HeaderRLP: []byte{byte(n)}, Payload: []byte("p"), Observer: "alice", Node: "n",
			Origin: schema.OriginHead, Server: "s", Remote: "127.0.0.1", ObservedAt: time.Unix(1e9, 0), ReceivedAt: time.Unix(1e9, 0),
		}, func(a schema.Settlement) { settled <- a })
		if err != nil {
			t.Fatal(err)
		}
	}
	for range blocks {
		if a := <-settled; a.Outcome != schema.First {
			t.Fatal(a)
		}
	}
}

func TestARewindIsShownThenDone(t *testing.T) {
	t.Parallel()
	_, db, folder := drawnReplica(t, 9)
	args := []string{"rewind", "--db", db, "--objects", folder, "--to-height", "6", "--output", "json"}
	var shown [3]rewindView
	for i, more := range [][]string{{"--dry-run"}, {"--dry-run", "--chain", "1337"}, nil} {
		out, errs, code := firstseen(t, nil, append(args, more...)...)
		if code != exitOK || errs != "" {
			t.Fatalf("%v: %d %s", more, code, errs)
		}
		if err := json.Unmarshal([]byte(out), &shown[i]); err != nil {
			t.Fatal(err, out)
		}
		v := shown[i]
		if v.DryRun != (more != nil) || v.Leaving != 3 || v.Lowest.Number != 7 || v.Highest.Number != 9 || v.After.Head.Number != 6 ||
			v.Before.Head.Number != 9 || v.InBoth != 3 || len(v.OnlyHere)+len(v.OnlyThere) != 0 || v.Applied != 9 || v.Stood != 6 {
			t.Errorf("%v: %s", more, out)
		}
	}
	s := opened(t, db)
	chains, err := s.Chains(t.Context())
	if err != nil || chains[0].Head.Number != 6 {
		t.Errorf("%+v, %v", chains, err)
	}
	entries, err := s.Audit(t.Context(), 5)
	if err != nil || len(entries) != 1 || entries[0].Action != "rewind" || !strings.Contains(entries[0].Actor, "@") {
		t.Errorf("%+v, %v", entries, err)
	}
	out, _, code := firstseen(t, nil, "rewind", "--db", db, "--objects", folder, "--to-height", "6")
	if code != exitOK || !strings.Contains(out, "is above height 6") {
		t.Errorf("once more: %d %s", code, out)
	}
}

func TestWhatKeepsAReplicaFromBeingRewoundIsOneLineWithTheFix(t *testing.T) {
	t.Parallel()
	writer, db, folder := drawnReplica(t, 5)
	for _, c := range []struct {
		name, want string
		args       []string
	}{
		{"no height", "--to-height is missing", nil},
		{"above the head", "is at height 5", []string{"--to-height", "6"}},
		{"another chain", "there is 1337", []string{"--to-height", "1", "--chain", "1"}},
		{"another environment", "--env main", []string{"--to-height", "1", "--env", "staging"}},
		{"a writer", "is no replica", []string{"--to-height", "1", "--db", writer}},
		{"no such file", "--db", []string{"--to-height", "1", "--db", db + "x"}},
		{"another database", "SQLite", []string{"--to-height", "1", "--db", "mysql://u@127.0.0.1:1/x"}},
		{"another output", "table or json", []string{"--to-height", "1", "--output", "xml"}},
	} {
		args := append([]string{"rewind", "--db", db, "--objects", folder}, c.args...)
		out, errs, code := firstseen(t, nil, args...)
		if code != exitUsage || out != "" || strings.Count(errs, "\n") != 1 || !strings.Contains(errs, c.want) {
			t.Errorf("%s: %d %q %q", c.name, code, out, errs)
		}
	}
}

func TestAReplicaIsSwitchedOverItsAdminPort(t *testing.T) {
	t.Parallel()
	var asked []string
	do := func(_ context.Context, role, actor string) (*replica.Switch, error) {
		asked = append(asked, role+" "+actor)
		switch role {
		case "standby":
			return &replica.Switch{From: "primary", To: role, Resume: 7, Chains: []replica.SwitchedChain{{Chain: 1, Leaving: 3}}}, nil
		case "primary":
			return nil, nil
		case "broken":
			return nil, errors.New("the disk is full")
		}
		return nil, replica.Refused("role nobody has shipped nothing")
	}
	addr := adminPortOf(t, adminOptions{token: testToken, switcher: do})
	none := adminPortOf(t, adminOptions{token: testToken})
	token := []string{"FIRSTSEEN_ADMIN_TOKEN=" + testToken}
	for _, c := range []struct {
		role, addr string
		environ    []string
		code       int
		want       string
	}{
		{"standby", addr, token, exitOK, "following  standby, not primary; behind row 7"},
		{"primary", addr, token, exitOK, "follows primary already"},
		{"nobody", addr, token, exitFailure, "has shipped nothing"},
		{"broken", addr, token, exitFailure, "the disk is full"},
		{"standby", none, token, exitFailure, "is no replica"},
		{"standby", addr, []string{"FIRSTSEEN_ADMIN_TOKEN=0123456789abcdeX"}, exitFailure, "missing or another"},
		{"standby", addr, nil, exitUsage, "FIRSTSEEN_ADMIN_TOKEN_FILE"},
		{"stand/by", addr, token, exitUsage, "--role"},
	} {
		out, errs, code := firstseen(t, c.environ, "switch", "--role", c.role, "--admin", c.addr)
		if code != c.code || !strings.Contains(out+errs, c.want) {
			t.Errorf("%s: %d %q %q", c.role, code, out, errs)
		}
	}
	out, _, _ := firstseen(t, token, "switch", "--role", "standby", "--admin", addr, "--output", "json")
	var v switchView
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.To != "standby" || v.Chains[0].Leaving != 3 {
		t.Errorf("%s: %v", out, err)
	}
	if len(asked) != 5 || !strings.HasPrefix(asked[0], "standby ") || !strings.Contains(asked[0], "@") {
		t.Errorf("asked %q", asked)
	}
}
