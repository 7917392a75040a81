package store

import (
	"cmp"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"modernc.org/sqlite"
)

const dsnForms = "want sqlite:///path/to/file, memory, mysql://user:password@host:port/database or " +
	"user:password@tcp(host:port)/database"

// source is a database named by a DSN. Its text form is safe to log: it never holds the password.
type source struct {
	dialect dialect
	mysql   *mysql.Config // for MySQL
	path    string        // for SQLite; empty means in memory
}

// String names the database for people, without the password.
func (s source) String() string {
	switch {
	case s.dialect == dialectMySQL:
		return fmt.Sprintf("MySQL database %q at %s as user %q", s.mysql.DBName, s.mysql.Addr, s.mysql.User)
	case s.path == "":
		return "SQLite database in memory"
	default:
		return "SQLite database " + s.path
	}
}

// CheckDSN tells whether a DSN has one of the forms that Open takes, without connecting. Its error never quotes it.
func CheckDSN(dsn string) error {
	_, err := parseDSN(dsn)
	return err
}

// parseDSN reads the forms that dsnForms lists. Its errors never quote the DSN, because any part of one that is
// misread may be the password.
func parseDSN(dsn string) (source, error) {
	switch {
	case dsn == "":
		return source{}, errors.New("no database given: " + dsnForms)
	case dsn == "memory", dsn == "sqlite::memory:", dsn == "sqlite://:memory:":
		return source{dialect: dialectSQLite}, nil
	case strings.HasPrefix(dsn, "sqlite:"):
		return parseSQLite(strings.TrimPrefix(dsn, "sqlite:"))
	case strings.HasPrefix(dsn, "mysql://"), strings.HasPrefix(dsn, "mariadb://"):
		return parseMySQLURL(dsn)
	case strings.Contains(dsn, "://") || !strings.Contains(dsn, "/"):
		return source{}, errors.New("database not understood: " + dsnForms)
	}
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return source{}, errors.New("database not understood: " + dsnForms)
	}
	return finishMySQL(cfg)
}

// parseSQLite takes what follows "sqlite:", as a URL with an empty host or as a bare path.
func parseSQLite(rest string) (source, error) {
	path := strings.TrimPrefix(rest, "//")
	if path == "" || path == "/" || strings.Contains(path, "?") {
		return source{}, errors.New("SQLite database not understood: want sqlite:///path/to/file without parameters")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return source{}, fmt.Errorf("locate SQLite database: %w", err)
	}
	return source{dialect: dialectSQLite, path: path}, nil
}

// parseMySQLURL translates a URL into the driver's own configuration; its query holds the driver's parameters.
func parseMySQLURL(dsn string) (source, error) {
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		// The error is left out because it quotes the URL.
		return source{}, errors.New("database URL not understood (are special characters in the password " +
			"percent-encoded?): want mysql://user:password@host:port/database")
	}
	cfg, err := mysql.ParseDSN("/?" + u.RawQuery)
	if err != nil {
		return source{}, errors.New("parameters of the database URL not understood: want those of go-sql-driver/mysql")
	}
	cfg.Net, cfg.Addr = "tcp", u.Host
	if u.Port() == "" {
		cfg.Addr = u.Host + ":3306"
	}
	cfg.User = u.User.Username()
	cfg.Passwd, _ = u.User.Password()
	cfg.DBName = strings.TrimPrefix(u.Path, "/")
	return finishMySQL(cfg)
}

// finishMySQL sets what the store relies on, whatever the DSN said, and defaults where it said nothing.
func finishMySQL(cfg *mysql.Config) (source, error) {
	if cfg.DBName == "" {
		return source{}, fmt.Errorf("no database named for MySQL at %s: %s", cfg.Addr, dsnForms)
	}
	cfg.ClientFoundRows = false // RowsAffected must count what changed, not what matched
	cfg.InterpolateParams = true
	cfg.MultiStatements = false
	cfg.AllowAllFiles = false
	cfg.MaxAllowedPacket = 0  // ask the server, so that what it would cut the connection for is refused before
	cfg.RejectReadOnly = true // a demoted primary: reconnect until the name leads to the new one
	cfg.Collation = "utf8mb4_bin"
	cfg.Timeout = cmp.Or(cfg.Timeout, 5*time.Second)
	cfg.ReadTimeout = cmp.Or(cfg.ReadTimeout, 30*time.Second)
	cfg.WriteTimeout = cmp.Or(cfg.WriteTimeout, 30*time.Second)
	cfg.Logger = &mysql.NopLogger{} // its errors come back to us too
	return source{dialect: dialectMySQL, mysql: cfg}, nil
}

// connector opens connections of the source.
func (s source) connector() (driver.Connector, error) {
	if s.dialect == dialectMySQL {
		return newMySQLConnector(s.mysql)
	}
	return s.sqliteConnector("FULL") // acknowledged means on disk
}

// sqliteConnector opens connections that flush as the word says, and that run the given statements first.
func (s source) sqliteConnector(synchronous string, pragmas ...string) (driver.Connector, error) {
	params := url.Values{
		"_txlock":       {"immediate"}, // a transaction that reads before it writes never finds itself outrun
		"_busy_timeout": {"10000"},
		"_foreign_keys": {"1"},
		"_synchronous":  {synchronous},
		"_time_format":  {"sqlite"},
		"_timezone":     {"UTC"},
		"_error_rc":     {"1"},
		"_pragma":       pragmas,
	}
	if s.path == "" {
		return sqlite.NewConnector("file::memory:?" + params.Encode())
	}
	if info, err := os.Stat(filepath.Dir(s.path)); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("open %s: there is no folder %s: create it", s, filepath.Dir(s.path))
	}
	params.Set("_journal_mode", "WAL")
	file := url.URL{Scheme: "file", OmitHost: true, Path: s.path, RawQuery: params.Encode()}
	return sqlite.NewConnector(file.String())
}
