package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// firstseen runs one command line in-process.
func firstseen(t *testing.T, environ []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errs bytes.Buffer
	code = run(t.Context(), args, environ, &out, &errs)
	return out.String(), errs.String(), code
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFlagsBeatEnvironmentBeatsFileBeatsDefaults(t *testing.T) {
	t.Parallel()
	file := write(t, "f.yaml", "stats: {listen: '127.0.0.1:1'}\nlog: {level: warn, format: text}\nserver: {name: file}\n")
	environ := []string{"FIRSTSEEN_SERVER__NAME=environment", "FIRSTSEEN_LOG__LEVEL=error", "FIRSTSEEN_CONFIG=" + file}
	out, errs, code := firstseen(t, environ, "config", "dump", "--log-level", "debug")
	if code != exitOK {
		t.Fatal(errs)
	}
	for _, want := range []string{"level: debug", "name: environment", "format: text", "listen: 127.0.0.1:1", "poll: 1s"} {
		if !strings.Contains(out, want) {
			t.Errorf("dump lacks %q:\n%s", want, out)
		}
	}
}

func TestSecretsComeFromFilesAndAreNeverShown(t *testing.T) {
	t.Parallel()
	secret := write(t, "db", "mysql://relay:hunter2@db.example:3306/firstseen\n")
	out, errs, code := firstseen(t, []string{
		"FIRSTSEEN_DB_FILE=" + secret,
		"REDIS_URL=redis://:hunter2@cache.example:6379/0",
		"ETH_RPC_URL=https://node.example/v3/hunter2",
		"FIRSTSEEN_STATS__RPC_UPSTREAM=https://gateway.example/hunter2",
		"FIRSTSEEN_CLIENT__NODE=a=https://hunter2@node.example,https://b.example/hunter2?key=hunter2",
	}, "config", "dump")
	if code != exitOK {
		t.Fatal(errs)
	}
	if strings.Contains(out, "hunter2") {
		t.Errorf("dump shows a secret:\n%s", out)
	}
	for _, want := range []string{"mysql://relay:xxxxx@db.example:3306/firstseen", "redis://:xxxxx@cache.example:6379/0",
		"a=https://node.example/xxxxx", "https://b.example/xxxxx"} {
		if !strings.Contains(out, want) {
			t.Errorf("dump lacks %q:\n%s", want, out)
		}
	}
}

func TestRedactionOfNativeDataSourceNames(t *testing.T) {
	t.Parallel()
	for dsn, want := range map[string]string{
		"relay:p@ss:w@tcp(db:3306)/firstseen": "relay:xxxxx@tcp(db:3306)/firstseen",
		"mysql://u:%zz@h/db":                  "xxxxx",
		"sqlite:///var/lib/firstseen.db":      "sqlite:///var/lib/firstseen.db",
	} {
		if got := redact(dsn); got != want {
			t.Errorf("redact(%q) = %q, want %q", dsn, got, want)
		}
	}
}

func TestWrongInputIsOneLineThatNamesTheFix(t *testing.T) {
	t.Parallel()
	unknown := write(t, "unknown.yaml", "sevrer: {listen: ':1'}\n")
	broken := write(t, "broken.yaml", "server: [\n")
	for _, tc := range []struct {
		name    string
		environ []string
		args    []string
		want    string
	}{
		{"unknown flag", nil, []string{"server", "--lisen", ":1"}, "unknown flag: --lisen; see `firstseen server --help`"},
		{"unknown command", nil, []string{"sevrer"}, `unknown argument "sevrer" for ` + "`firstseen`; did you mean server?"},
		{"unknown subcommand", nil, []string{"config", "dumpp"}, `unknown argument "dumpp" for ` + "`firstseen config`"},
		{"secret given twice", []string{"FIRSTSEEN_DB=memory", "FIRSTSEEN_DB_FILE=" + broken}, []string{"config", "dump"}, "FIRSTSEEN_DB and FIRSTSEEN_DB_FILE are both set"},
		{"database", nil, []string{"server", "--db", "postgres://localhost/d"}, "db: "},
		{"redis", nil, []string{"stats", "--redis", "http://localhost"}, "--redis"},
		{"port", nil, []string{"client", "--server", "127.0.0.1:99999"}, "client.server"},
		{"duration in the environment", []string{"FIRSTSEEN_CLIENT__POLL=fast"}, []string{"config", "dump"}, "client.poll: use a duration"},
		{"stray argument", nil, []string{"version", "now"}, `unknown argument "now"`},
		{"unknown key in file", nil, []string{"config", "dump", "--config", unknown}, "unknown configuration key sevrer.listen"},
		{"unknown key in environment", []string{"FIRSTSEEN_CLENT__NODE=x"}, []string{"config", "dump"}, "unknown configuration key clent.node"},
		{"broken file", nil, []string{"config", "dump", "--config", broken}, "read config file"},
		{"missing file", nil, []string{"config", "dump", "--config", "/nowhere.yaml"}, "/nowhere.yaml"},
		{"missing secret file", []string{"FIRSTSEEN_DB_FILE=/nowhere"}, []string{"config", "dump"}, "FIRSTSEEN_DB_FILE"},
		{"duration without a unit", nil, []string{"client", "--poll", "five"}, "five"},
		{"level", nil, []string{"config", "validate", "--log-level", "loud"}, `log.level "loud"`},
		{"node is no URL", []string{"FIRSTSEEN_CLIENT__NODE=localhost"}, []string{"config", "validate"}, "use a URL such as"},
		{"name", []string{"FIRSTSEEN_CLIENT__NAME=a b"}, []string{"config", "validate"}, "client.name"},
		{"listen", []string{"FIRSTSEEN_SERVER__LISTEN=9999"}, []string{"config", "validate"}, "server.listen"},
		{"upstream", []string{"FIRSTSEEN_STATS__RPC_UPSTREAM=node:8545"}, []string{"config", "validate"}, "stats.rpc_upstream"},
		{"--use-mysql alone", nil, []string{"server", "--use-mysql"}, "--use-mysql needs --mysql-host"},
		{"--use-redis alone", nil, []string{"server", "--use-redis", "--redis-host", "h"}, "--use-redis needs --redis-port"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, errs, code := firstseen(t, tc.environ, tc.args...)
			if code != exitUsage {
				t.Errorf("exit code %d, want %d", code, exitUsage)
			}
			if !strings.Contains(errs, tc.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("stderr %q, want one line with %q", errs, tc.want)
			}
		})
	}
}

func TestTheDemosFlagsAreUnderstood(t *testing.T) {
	t.Parallel()
	flags := serverCommand(nil).Flags()
	demoCommonFlags(flags)
	err := flags.Parse([]string{"-v", "--host", "localhost", "--port", "8888", "--use-redis", "--redis-host", "r",
		"--redis-port", "6379", "--redis-db", "2", "--use-mysql", "--mysql-host", "m", "--mysql-user", "u",
		"--mysql-pass", "p@:/", "--mysql-db", "d"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := load(flags, nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.Listen != "localhost:8888" || c.Redis != "redis://r:6379/2" || c.Log.Level != "debug" ||
		c.DB != "mysql://u:p%40%3A%2F@m:3306/d" {
		t.Errorf("%+v", c)
	}
}

func TestEveryCommandExplainsItself(t *testing.T) {
	t.Parallel()
	for _, cmd := range []string{"client", "server", "stats", "up", "migrate", "config", "version", "healthcheck",
		"nodes", "cordon", "uncordon"} {
		out, errs, code := firstseen(t, nil, cmd, "--help")
		if code != exitOK || !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help: %d %s", cmd, code, errs)
		}
	}
}

func TestNumbersThatCannotWorkAreRefusedInOneLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"client: {poll: 5}":                          "lacks its unit",
		"client: {drain: -1s}":                       "client.drain -1s",
		"server: {drain: -1s}":                       "server.drain -1s",
		"server: {connections: 0}":                   "server.connections 0",
		"server: {connections: 9223372036854775807}": "server.connections 9223372036854775807",
	} {
		_, errs, code := firstseen(t, nil, "config", "validate", "--config", write(t, "f.yaml", text))
		if code != exitUsage || !strings.Contains(errs, want) || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %s", text, code, errs)
		}
	}
}

func TestInterruptWhileStartingIsNoFailure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, name := range []string{"up", "server", "stats"} {
		var out, errs bytes.Buffer
		db := "sqlite://" + filepath.Join(t.TempDir(), "x.db")
		if code := run(ctx, []string{name, "--db", db}, nil, &out, &errs); code != exitOK || errs.Len() > 0 {
			t.Errorf("%s: exit %d, %s", name, code, errs.String())
		}
	}
}

func TestConfigValidateNamesEveryProblem(t *testing.T) {
	t.Parallel()
	_, errs, code := firstseen(t, []string{"FIRSTSEEN_DB=nonsense", "FIRSTSEEN_SERVER__DRAIN=-5s",
		"FIRSTSEEN_CLIENT__SERVER=127.0.0.1:99999", "FIRSTSEEN_LOG__LEVEL=loud"}, "config", "validate")
	if code != exitUsage {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"db: ", "server.drain", "client.server", "log.level"} {
		if !strings.Contains(errs, want) {
			t.Errorf("stderr lacks %q:\n%s", want, errs)
		}
	}
}
