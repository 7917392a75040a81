package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/firstseen/firstseen/internal/testenv"
)

// begin runs a command until the test ends and answers the words it prints, line by line, up to the last expected.
func begin(t *testing.T, last string, args ...string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(in)
	root.SetErr(t.Output())
	done := make(chan error, 1)
	go func() {
		err := root.ExecuteContext(ctx)
		in.CloseWithError(io.EOF)
		done <- err
	}()
	t.Cleanup(func() {
		cancel()
		go io.Copy(io.Discard, out)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	words := map[string]string{}
	for lines := bufio.NewScanner(out); words[last] == "" && lines.Scan(); {
		fields := strings.Fields(lines.Text())
		for i, field := range fields {
			if strings.HasPrefix(field, "http://") {
				words[strings.Join(fields[:i], " ")] = field
			}
		}
	}
	if words[last] == "" {
		t.Fatalf("%q never came: %v", last, words)
	}
	return words
}

func height(t *testing.T, url string) uint64 {
	t.Helper()
	c, err := ethclient.DialContext(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	n, err := c.BlockNumber(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// reach polls until a node is at a height.
func reach(t *testing.T, url string, want uint64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for got := height(t, url); got != want; got = height(t, url) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s stays at %d, want %d", url, got, want)
		}
	}
}

func order(t *testing.T, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestServeMinesReorganisesAndBreaksOnCommand(t *testing.T) {
	t.Parallel()
	urls := begin(t, "admin", "serve", "--listen", "127.0.0.1:0", "--endpoints", "2", "--period", "1ms",
		"--blocks", "10", "--reorg", "6:2", "--fault", "2=lag:3", "--admin", "127.0.0.1:0")
	reach(t, urls["truth"], 10)
	if one, two := height(t, urls["endpoint 1"]), height(t, urls["endpoint 2"]); one != 10 || two != 7 {
		t.Errorf("endpoints at %d and %d", one, two)
	}
	if code, text := order(t, urls["admin"]+"/admin/fault?endpoint=2&fault=none"); code != http.StatusOK {
		t.Errorf("fault: %d %s", code, text)
	}
	if code, text := order(t, urls["admin"]+"/admin/mine?blocks=2"); code != http.StatusOK {
		t.Errorf("mine: %d %s", code, text)
	}
	code, text := order(t, urls["admin"]+"/admin/reorg?depth=1")
	var reply struct{ Head struct{ Number uint64 } }
	if err := json.Unmarshal([]byte(text), &reply); err != nil || code != http.StatusOK || reply.Head.Number != 13 {
		t.Errorf("reorg: %d %s", code, text)
	}
	if two := height(t, urls["endpoint 2"]); two != 13 {
		t.Errorf("healed, endpoint 2 is at %d", two)
	}
	if code, text := order(t, urls["admin"]+"/admin/split?endpoint=1&depth=2"); code != http.StatusOK {
		t.Errorf("split: %d %s", code, text)
	}
	for _, bad := range []string{"fault?endpoint=3", "fault?endpoint=1&fault=x", "mine", "reorg?depth=99", "split?endpoint=1&depth=0"} {
		if code, _ := order(t, urls["admin"]+"/admin/"+bad); code != http.StatusBadRequest {
			t.Errorf("%s: %d", bad, code)
		}
	}
}

func TestDriveMinesOnRealGeths(t *testing.T) {
	t.Parallel()
	urls := begin(t, "geth 2", "drive", "--geth", testenv.Geth(t), "--period", "20ms", "--blocks", "12", "--reorg", "8:3")
	reach(t, urls["geth 1"], 12)
	reach(t, urls["geth 2"], 12)
}

func TestWrongFlagsAreRefused(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"serve", "--reorg", "3"},
		{"serve", "--reorg", "3:4"},
		{"serve", "--period", "0s"},
		{"serve", "--listen", "8545"},
		{"serve", "--listen", "127.0.0.1:0", "--fault", "9=lag:1"},
		{"serve", "--listen", "127.0.0.1:0", "--fault", "1=odd"},
		{"serve", "extra"},
		{"drive", "--geth", "/nonexistent/geth"},
	} {
		root := newRoot()
		root.SetArgs(args)
		root.SetOut(io.Discard)
		if err := root.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}

func TestOneAddressIsExtendedToConsecutivePorts(t *testing.T) {
	t.Parallel()
	got, err := addresses([]string{"[::1]:8545"}, 3)
	if err != nil || strings.Join(got, " ") != "[::1]:8545 [::1]:8546 [::1]:8547" {
		t.Errorf("%v, %v", got, err)
	}
}
