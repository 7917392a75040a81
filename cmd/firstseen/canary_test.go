package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
)

// A secret stays hidden whatever is wrong with it or around it. Commands that would run for long are ended.
func TestNoCommandShowsASecret(t *testing.T) {
	t.Parallel()
	const canary = "c4nary"
	token := aToken(t)
	_, secret, _ := strings.Cut(token[4:], "_")
	short := [][]string{{"config", "dump"}, {"config", "validate"}, {"keys", "list"}}
	long := map[string][][]string{ // by what they read
		"db:":     {{"migrate"}, {"server", "--listen", "127.0.0.1:0"}, {"stats", "--listen", "127.0.0.1:0"}},
		"redis:":  {{"server", "--listen", "127.0.0.1:0"}},
		"client:": {{"client", "--log-level", "debug", "--server", "127.0.0.1:1"}, {"gateway", "--listen", "127.0.0.1:0", "--log-level", "debug"}},
	}
	files := map[string]string{
		"db as a list":          "db: ['mysql://u:c4nary@127.0.0.1:1/d']",
		"db of another kind":    "db: postgres://u:c4nary@h/d",
		"db badly escaped":      "db: 'mysql://u:c4nary%zz@127.0.0.1:1/d'",
		"db unreachable":        "db: mysql://u:c4nary@127.0.0.1:1/d",
		"db native":             "db: 'u:c4nary@tcp(127.0.0.1:1)/d'",
		"db native, broken":     "db: 'u:c4nary@tcp(127.0.0.1:1'",
		"redis as a map":        "redis: {url: 'redis://:c4nary@h:1/0'}",
		"redis badly escaped":   "redis: 'redis://:c4nary%zz@h:1/0'",
		"redis of another kind": "redis: http://:c4nary@h:1/0",
		"redis database":        "redis: redis://:c4nary@127.0.0.1:1/x",
		"redis unreachable":     "redis: redis://:c4nary@127.0.0.1:1/0",
		"node":                  "client: {node: ['http://u:c4nary@127.0.0.1:1/c4nary?key=c4nary']}",
		"node badly escaped":    "client: {node: ['http://u:c4nary%zz@127.0.0.1:1/']}",
		"node, bad port":        "client: {node: ['http://127.0.0.1:c4nary/']}",
		"node of another kind":  "client: {node: ['ftp://u:c4nary@h/c4nary']}",
		"node as a map":         "client: {node: {a: {b: 'http://h/c4nary'}}}",
		"reference":             "client: {node: ['http://127.0.0.1:1'], reference: 'https://127.0.0.1:1/c4nary'}",
		"reference, broken":     "client: {reference: 'https://h:c4nary%zz/c4nary'}",
		"admin token, short":    "admin_token: c4nary",
		"admin token as a list": "admin_token: [c4nary, c4nary]",
		"token, broken":         "client: {tls: true, token: fsk_c4nary_c4nary}",
		"token as a list":       "client: {tls: true, token: [c4nary]}",
		"token":                 "client: {tls: true, token: " + token + "}",
	}
	for name, text := range files {
		section, _, _ := strings.Cut(text, " ")
		for _, args := range append(slices.Clone(short), long[section]...) {
			t.Run(name+", "+strings.Join(args[:min(2, len(args))], " "), func(t *testing.T) {
				t.Parallel()
				file := write(t, "f.yaml", text+"\n")
				if !strings.HasPrefix(text, "db:") {
					file = write(t, "f.yaml", text+"\ndb: sqlite:"+t.TempDir()+"/d.db\n")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
				defer cancel()
				var out, errs strings.Builder
				code := run(ctx, append(slices.Clone(args), "--config", file), nil, &out, &errs)
				if all := out.String() + errs.String(); strings.Contains(all, canary) || strings.Contains(all, secret) {
					t.Errorf("exit code %d:\n%s", code, all)
				}
			})
		}
	}
}
