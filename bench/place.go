package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/internal/store"
)

const mysqlVariable = "FIRSTSEEN_TEST_MYSQL_DSN"

// place is a database server, or SQLite, or none at all, and who is measured there: first the one that the others are
// held against.
type place struct {
	name  string
	field []contender
	fresh func(ctx context.Context) (dsn string, drop func(), err error) // a new database with all tables
}

// noDatabase is the place of servers that answer every offer at once: what remains is their own work.
const noDatabase = "none"

func places(dir string, s servers, python bool) []place {
	out := []place{{
		name: noDatabase, fresh: func(context.Context) (string, func(), error) { return "", func() {}, nil },
		field: []contender{{fewObservers, s.distinct(16)}, {"server, 1 observer", s.distinct(1)},
			{"server, 256 observers", s.distinct(256)}},
	}, {
		name: "sqlite", fresh: func(ctx context.Context) (string, func(), error) { return freshFile(ctx, dir) },
		field: append([]contender{
			{"driver, same tables", ceiling{connections: 1}.run},
			{"driver, one table", ceiling{connections: 1, oneTable: true}.run},
		}, ours(s, python)...),
	}}
	admin := os.Getenv(mysqlVariable)
	if admin == "" {
		fmt.Fprintf(os.Stderr, "bench: no MySQL: set %s, or run `make bench`\n", mysqlVariable)
		return out
	}
	return append([]place{{
		name: "mysql", fresh: func(ctx context.Context) (string, func(), error) { return freshDatabase(ctx, admin) },
		field: append([]contender{
			{"driver, same tables", ceiling{connections: 2}.run},
			{"driver, same tables, 1 connection", ceiling{connections: 1}.run},
			{"driver, same tables, 3 connections", ceiling{connections: 3}.run},
			{"driver, one table", ceiling{connections: 2, oneTable: true}.run},
		}, ours(s, python)...),
	}}, out...)
}

func freshFile(ctx context.Context, dir string) (string, func(), error) {
	folder, err := os.MkdirTemp(dir, "firstseen-bench-*")
	if err != nil {
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	drop := func() { _ = os.RemoveAll(folder) }
	dsn := "sqlite://" + filepath.Join(folder, "bench.db")
	if err := migrate(ctx, dsn); err != nil {
		drop()
		return "", nil, err
	}
	return dsn, drop, nil
}

func freshDatabase(ctx context.Context, admin string) (string, func(), error) {
	cfg, err := mysql.ParseDSN(admin)
	if err != nil {
		return "", nil, fmt.Errorf("%s is not a DSN like root@tcp(127.0.0.1:3306)/", mysqlVariable)
	}
	cfg.DBName = ""
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	name := "firstseen_bench_" + strings.ToLower(rand.Text()[:12])
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		_ = db.Close()
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	drop := func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		_, _ = db.ExecContext(late, "DROP DATABASE "+name)
		_ = db.Close()
	}
	cfg.DBName = name
	if err := migrate(ctx, cfg.FormatDSN()); err != nil {
		drop()
		return "", nil, err
	}
	return cfg.FormatDSN(), drop, nil
}

func migrate(ctx context.Context, dsn string) error {
	s, err := store.Open(ctx, store.Options{DSN: dsn})
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx); err != nil {
		_ = s.Close()
		return err
	}
	return s.Close()
}
