// Package testenv hands tests the real services that the environment offers, one fresh corner of them per test.
package testenv

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// The variables that name the services.
const (
	mysqlVariable = "FIRSTSEEN_TEST_MYSQL_DSN" // go-sql-driver's form, of a user who may create databases
	redisVariable = "FIRSTSEEN_TEST_REDIS_URL" // redis://host:port
	gethVariable  = "FIRSTSEEN_TEST_GETH"      // path of the executable
)

const setup = 30 * time.Second

// MySQL creates a database for this test and returns its DSN in go-sql-driver's form. The database is dropped when the
// test ends.
func MySQL(t testing.TB) string {
	t.Helper()
	cfg, err := mysql.ParseDSN(need(t, mysqlVariable, "a MySQL or MariaDB server"))
	if err != nil {
		t.Fatalf("%s is not a DSN like root@tcp(127.0.0.1:3306)/", mysqlVariable)
	}
	cfg.DBName = ""
	admin, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		t.Fatal(err)
	}
	name := "firstseen_test_" + strings.ToLower(rand.Text()[:12])
	execute(t, admin, "CREATE DATABASE "+name)
	t.Cleanup(func() {
		execute(t, admin, "DROP DATABASE IF EXISTS "+name)
		_ = admin.Close()
	})
	cfg.DBName = name
	return cfg.FormatDSN()
}

func execute(t testing.TB, db *sql.DB, stmt string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), setup)
	defer cancel()
	if _, err := db.ExecContext(ctx, stmt); err != nil {
		t.Fatalf("%s: %v", stmt, err)
	}
}

// Redis claims one of the server's numbered databases for this test, empties it and returns its URL. Database 0 holds
// the claims, so that test programs that run at once stay apart. The database is emptied again when the test ends.
func Redis(t testing.TB) string {
	t.Helper()
	opts, err := redis.ParseURL(need(t, redisVariable, "a Redis server"))
	if err != nil {
		t.Fatalf("%s is not a URL like redis://127.0.0.1:6379", redisVariable)
	}
	opts.DB = 0
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	claims := redis.NewClient(opts)
	t.Cleanup(func() { _ = claims.Close() })
	db := claim(t, claims)
	flush(t, opts, db)
	t.Cleanup(func() { flush(t, opts, db) })
	scheme := "redis"
	if opts.TLSConfig != nil {
		scheme = "rediss"
	}
	user := ""
	if opts.Password != "" {
		user = opts.Username + ":" + opts.Password + "@"
	}
	return fmt.Sprintf("%s://%s%s/%d", scheme, user, opts.Addr, db)
}

// claim takes a free database number, waiting for one while other tests hold them all. A claim that its test could not
// release expires.
func claim(t testing.TB, claims *redis.Client) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*setup)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	owner := rand.Text()
	for {
		for db := 1; db < 16; db++ {
			key := fmt.Sprintf("firstseen:test:claim:%d", db)
			free, err := claims.SetNX(ctx, key, owner, 15*time.Minute).Result()
			if err != nil {
				t.Fatalf("claim a Redis database: %v", err)
			}
			if free {
				t.Cleanup(func() { claims.Del(context.Background(), key) })
				return db
			}
		}
		select {
		case <-ctx.Done():
			t.Fatal("claim a Redis database: other tests hold all of them")
		case <-tick.C:
		}
	}
}

func flush(t testing.TB, opts *redis.Options, db int) {
	t.Helper()
	at := *opts
	at.DB = db
	client := redis.NewClient(&at)
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), setup)
	defer cancel()
	if err := client.FlushDB(ctx).Err(); err != nil {
		t.Errorf("empty Redis database %d: %v", db, err)
	}
}

// Geth returns the path of a geth executable.
func Geth(t testing.TB) string {
	t.Helper()
	path := need(t, gethVariable, "a geth executable")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s: %v", gethVariable, err)
	}
	return path
}

// need returns the variable, or skips the test and says how to get what it names.
func need(t testing.TB, variable, service string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		t.Skipf("needs %s: run `make test`, which starts one, or set %s", service, variable)
	}
	return value
}
