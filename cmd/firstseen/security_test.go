package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/firstseen/firstseen/internal/keys"
	"github.com/firstseen/firstseen/internal/testenv"
	"github.com/firstseen/firstseen/schema"
)

func aToken(t *testing.T) string {
	t.Helper()
	_, token, err := keys.Mint(schema.ScopeObserve, "paris-1", "")
	if err != nil {
		t.Fatal(err)
	}
	return token.Reveal()
}

func TestKeysAreCreatedListedAndRevoked(t *testing.T) {
	t.Parallel()
	db := "sqlite:" + t.TempDir() + "/firstseen.db"
	out, errs, code := firstseen(t, nil, "keys", "create", "--db", db, "--observer", "paris-1", "--label", "rack 4", "--output", "json")
	var made struct {
		schema.AccessKey
		Token string
	}
	if err := json.Unmarshal([]byte(out), &made); code != exitOK || err != nil || !strings.Contains(errs, "shown only now") {
		t.Fatal(code, errs, err)
	}
	token, err := keys.Parse(made.Token)
	if err != nil || token.ID() != made.ID || made.Observer != "paris-1" || made.Scope != schema.ScopeObserve || made.CreatedAt.IsZero() {
		t.Errorf("%+v: %v", made, err)
	}
	out, _, code = firstseen(t, nil, "keys", "create", "--db", db, "--scope", "read")
	reader := field(out, "token")
	if _, err := keys.Parse(reader); code != exitOK || err != nil || field(out, "observer") != "-" {
		t.Errorf("%s: %v", out, err)
	}

	out, _, _ = firstseen(t, nil, "keys", "list", "--db", db)
	if lines := strings.Split(out, "\n"); len(lines) != 4 || !strings.HasPrefix(lines[0], "ID ") || !strings.Contains(lines[1], "rack 4") ||
		!strings.HasSuffix(lines[1], " -") || strings.Contains(out, made.Token[30:]) {
		t.Errorf("%s", out)
	}
	for _, id := range []string{made.ID, made.Token} { // twice, and by what its owner has
		if out, errs, code := firstseen(t, nil, "keys", "revoke", "--db", db, id); code != exitOK || !strings.HasPrefix(out, made.ID+" revoked at ") {
			t.Error(code, out, errs)
		}
	}
	out, _, _ = firstseen(t, nil, "keys", "ls", "--db", db, "--output", "json")
	var all []schema.AccessKey
	if err := json.Unmarshal([]byte(out), &all); err != nil || len(all) != 2 || all[0].RevokedAt == nil || all[1].RevokedAt != nil {
		t.Errorf("%s: %v", out, err)
	}
}

// field is the value beside a word in a table.
func field(table, word string) string {
	for line := range strings.Lines(table) {
		if rest, ok := strings.CutPrefix(line, word+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

func TestWrongSecuritySettingsAreOneLineThatNamesTheFix(t *testing.T) {
	t.Parallel()
	token := aToken(t)
	_, secret, _ := strings.Cut(token[4:], "_")
	db := "sqlite:" + t.TempDir() + "/firstseen.db"
	badChain := write(t, "chain.yaml", "chains: {8217: {verfy: none}}\n")
	ca := testenv.NewAuthority(t)
	cert, _ := ca.Files(testenv.Leaf{})
	_, key := ca.Files(testenv.Leaf{})
	for _, tc := range []struct {
		name    string
		environ []string
		args    []string
		want    string
		code    int
	}{
		{"no observer", nil, []string{"keys", "create", "--db", db}, "give --observer, or --scope read", exitUsage},
		{"scope", nil, []string{"keys", "create", "--db", db, "--scope", "admin"}, `scope "admin"`, exitUsage},
		{"output", nil, []string{"keys", "list", "--db", db, "--output", "xml"}, "use table or json", exitUsage},
		{"revoke what", nil, []string{"keys", "revoke", "--db", db}, "which key?", exitUsage},
		{"revoke nonsense", nil, []string{"keys", "revoke", "--db", db, token[:40]}, "this is not the id", exitUsage},
		{"revoke unknown", nil, []string{"keys", "revoke", "--db", db, strings.Repeat("a", 16)}, "no access key aaaaaaaaaaaaaaaa", exitFailure},
		{"keys in memory", nil, []string{"keys", "list", "--db", "memory"}, "name another by --db", exitUsage},
		{"certificate alone", nil, []string{"server", "--tls-cert", cert}, "belong together", exitUsage},
		{"auth without TLS", nil, []string{"server", "--require-auth"}, "need TLS", exitUsage},
		{"certificate of another key", nil, []string{"server", "--db", "memory", "--tls-cert", cert, "--tls-key", key}, "does not match", exitUsage},
		{"bare", nil, []string{"server", "--bare", "maybe"}, `server.bare "maybe"`, exitUsage},
		{"proxies", nil, []string{"server", "--proxy-from", "lb.example"}, `server.proxy_from "lb.example"`, exitUsage},
		{"rate", nil, []string{"server", "--accept-rate", "-1"}, "server.accept_rate", exitUsage},
		{"CA without TLS", nil, []string{"client", "--tls-ca", cert}, "add --tls", exitUsage},
		{"token without TLS", []string{"FIRSTSEEN_CLIENT__TOKEN=" + token}, []string{"client"}, "add --tls", exitUsage},
		{"token to a bare server", []string{"FIRSTSEEN_CLIENT__TOKEN=" + token}, []string{"client", "--tls", "--bare"}, "relay mode", exitUsage},
		{"no token", []string{"FIRSTSEEN_CLIENT__TOKEN=" + secret}, []string{"client", "--tls"}, "client.token: not an access key", exitUsage},
		{"token of another type", []string{"FIRSTSEEN_CLIENT__TOKEN__X=" + token}, []string{"config", "dump"}, "client.token", exitUsage},
		{"chain", []string{"FIRSTSEEN_CHAINS__MAIN__VERIFY=none"}, []string{"config", "validate"}, "use a chain id", exitUsage},
		{"verify", []string{"FIRSTSEEN_CHAINS__5__VERIFY=maybe"}, []string{"config", "validate"}, "chains.5.verify", exitUsage},
		{"key of a chain", nil, []string{"config", "dump", "--config", badChain}, "unknown configuration key chains.8217.verfy", exitUsage},
		{"up with TLS", []string{"FIRSTSEEN_CLIENT__TLS=true"}, []string{"up", "--db", "memory"}, "run firstseen client, server and stats", exitUsage},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, errs, code := firstseen(t, tc.environ, tc.args...)
			last := strings.TrimRight(errs, "\n")
			last = last[strings.LastIndex(last, "\n")+1:]
			if code != tc.code || !strings.Contains(last, tc.want) || strings.Contains(errs, secret) {
				t.Errorf("%d %q, want %d and %q", code, errs, tc.code, tc.want)
			}
		})
	}
}

func TestTheTokenIsHiddenAndWhatIsInTheClearIsWarnedOf(t *testing.T) {
	t.Parallel()
	token := aToken(t)
	_, key := testenv.NewAuthority(t).Files(testenv.Leaf{})
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	file := write(t, "f.yaml", "db: mysql://u:hunter2@db/d\nadmin_token: hunter2hunter2hunter2\nchains: {8217: {verify: none}}\n"+
		"client: {tls: true, token: "+token+"}\nserver: {listen: ':9999', bare: off}\ngateway: {cert: c, key: "+key+"}\n"+
		"api_key: hunter2hunter2\nimport: {from_redis: 'redis://:hunter2@r/0'}\n")
	out, errs, code := firstseen(t, nil, "config", "dump", "--config", file)
	if code != exitOK || strings.Contains(out+errs, token) || strings.Contains(out+errs, "hunter2") ||
		!strings.Contains(out, "token: xxxxx") || !strings.Contains(out, "bare: \"off\"") || !strings.Contains(out, "verify: none") {
		t.Error(code, out, errs)
	}
	out, errs, code = firstseen(t, nil, "config", "validate", "--config", file)
	if code != exitOK || out != "configuration is valid\n" {
		t.Error(code, out, errs)
	}
	for _, want := range []string{"client.token stands in " + file, "FIRSTSEEN_CLIENT__TOKEN_FILE", "FIRSTSEEN_ADMIN_TOKEN_FILE",
		"FIRSTSEEN_DB_FILE", "FIRSTSEEN_API_KEY_FILE", "FIRSTSEEN_IMPORT__FROM_REDIS_FILE",
		"gateway.key " + key + " can be read by every user", "server.listen :9999 takes blocks from anybody"} {
		if strings.Count(errs, want) != 1 {
			t.Errorf("%d times %q in:\n%s", strings.Count(errs, want), want, errs)
		}
	}
	secret := write(t, "token", token+"\n")
	if _, errs, code := firstseen(t, []string{"FIRSTSEEN_CLIENT__TOKEN_FILE=" + secret}, "config", "validate"); code == exitOK || !strings.Contains(errs, "add --tls") {
		t.Error(code, errs)
	}
	if _, errs, code := firstseen(t, []string{"FIRSTSEEN_CLIENT__TOKEN_FILE=" + secret, "FIRSTSEEN_CLIENT__TLS=true"}, "config", "validate"); code != exitOK || errs != "" {
		t.Error(code, errs)
	}
}

func TestWhoMaySpeakBareModeByConfiguration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		bare     string
		auth     bool
		none     bool
		networks string
	}{
		{"auto", false, false, "[]"}, {"auto", true, true, "[]"}, {"", true, true, "[]"}, {"on", true, false, "[]"},
		{"off", false, true, "[]"}, {"10.0.0.0/8, ::1", true, false, "[10.0.0.0/8 ::1/128]"},
	} {
		none, from, err := ServerConfig{Bare: c.bare, RequireAuth: c.auth}.bare()
		if err != nil || none != c.none || fmt.Sprint(from) != c.networks {
			t.Errorf("%+v: %v %v %v", c, none, from, err)
		}
	}
}
