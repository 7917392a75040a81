package store

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/firstseen/firstseen/internal/testenv"
)

func TestDSNForms(t *testing.T) {
	t.Parallel()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for dsn, want := range map[string]string{
		"memory":                      "SQLite database in memory",
		"sqlite::memory:":             "SQLite database in memory",
		"sqlite://:memory:":           "SQLite database in memory",
		"sqlite:///var/lib/a b%.db":   "SQLite database /var/lib/a b%.db",
		"sqlite:fs.db":                "SQLite database " + filepath.Join(here, "fs.db"),
		"mysql://u:p%40ss@db:3307/fs": `MySQL database "fs" at db:3307 as user "u"`,
		"mysql://u:p@db/fs?tls=true":  `MySQL database "fs" at db:3306 as user "u"`,
		"mariadb://u@[::1]/fs":        `MySQL database "fs" at [::1]:3306 as user "u"`,
		"u:p/a@s:s@tcp(db:3307)/fs":   `MySQL database "fs" at db:3307 as user "u"`,
		"u:p@unix(/run/my.sock)/fs":   `MySQL database "fs" at /run/my.sock as user "u"`,
	} {
		src, err := parseDSN(dsn)
		if err != nil || src.String() != want {
			t.Errorf("%s: %s, %v; want %s", dsn, src, err, want)
		}
	}
}

func TestDSNMistakesAreOneLineWithoutThePassword(t *testing.T) {
	t.Parallel()
	const secret = "hunter2"
	for _, dsn := range []string{
		"", "hunter2", "postgres://u:hunter2@h/db", "mysql://u:hunter2%zz@h/db", "mysql://u:hunter2@h:port/db",
		"mysql://u:hunter2@h/", "u:hunter2@tcp(h)/", "u:hunter2@tcp(h/db", "u:hunter2@tcp(h:1)/db?timeout=hunter2",
		"sqlite:", "sqlite:///", "sqlite:///a.db?mode=hunter2", "mysql://u:hunter2@h/db?timeout=hunter2",
		"sqlite:///no/such/folder/a.db", "u:x/hunter2@tcp(h/db?y=1", "mysql:///db",
		"u:hunter2@tcp(127.0.0.1:1)/db", "mysql://u:hunter2@127.0.0.1:1/db",
	} {
		_, err := Open(t.Context(), Options{DSN: dsn})
		if err == nil {
			t.Errorf("%s: no error", dsn)
			continue
		}
		if text := err.Error(); strings.Contains(text, secret) || strings.Contains(text, "\n") {
			t.Errorf("%s: %s", dsn, text)
		}
	}
}

func TestAnUnreachableDatabaseIsNamed(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = Open(ctx, Options{DSN: "mysql://me:secret@" + silent.Addr().String() + "/fs"})
	if err == nil || !strings.Contains(err.Error(), `connect to MySQL database "fs" at `+silent.Addr().String()) {
		t.Errorf("server that never greets: %v", err)
	}
}

func TestADurableServerIsNotWarnedAbout(t *testing.T) {
	t.Parallel()
	dsn := testenv.MySQL(t)
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	s := opened(t, Options{DSN: dsn, Log: log})
	var flush int
	if err := s.db.Raw("SELECT @@GLOBAL.innodb_flush_log_at_trx_commit").Scan(&flush).Error; err != nil {
		t.Fatal(err)
	}
	if warned := strings.Contains(out.String(), "power loss"); warned != (flush != 1) {
		t.Errorf("flush at commit is %d, log says %q", flush, out.String())
	}
}

func TestEveryConnectionIsSetUp(t *testing.T) {
	t.Parallel()
	s := opened(t, Options{DSN: testenv.MySQL(t)})
	var row struct{ Mode, Charset string }
	err := s.db.Raw("SELECT @@SESSION.sql_mode AS mode, @@SESSION.character_set_connection AS charset").Scan(&row).Error
	if err != nil || !strings.Contains(row.Mode, "STRICT_ALL_TABLES") || row.Charset != "utf8mb4" {
		t.Errorf("%+v: %v", row, err)
	}
	lite := opened(t, Options{DSN: sqliteDSN(t)})
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "10000",
	} {
		var got string
		if err := lite.db.Raw("PRAGMA " + pragma).Scan(&got).Error; err != nil || got != want {
			t.Errorf("%s is %q, want %q: %v", pragma, got, want, err)
		}
	}
}
