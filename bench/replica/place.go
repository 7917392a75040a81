package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/firstseen/firstseen/internal/objects"
	"github.com/firstseen/firstseen/internal/replica"
	"github.com/firstseen/firstseen/internal/store"
)

const (
	s3Variable       = "FIRSTSEEN_TEST_S3_URL"
	s3KeyVariable    = "FIRSTSEEN_TEST_S3_KEY"
	s3SecretVariable = "FIRSTSEEN_TEST_S3_SECRET"
	kafkaVariable    = "FIRSTSEEN_TEST_KAFKA"
	mysqlVariable    = "FIRSTSEEN_TEST_MYSQL_DSN"
)

// place is where everything lies: a folder for databases, and a prefix of its own in the bucket.
type place struct {
	options
	names replica.Names
	url   string
	files int // databases made so far
}

func newPlace(o options) (*place, error) {
	at, err := url.Parse(os.Getenv(s3Variable))
	if err != nil || at.Scheme != "s3" {
		return nil, fmt.Errorf("set %s, %s and %s, or run this under deploy/dev/with-services", s3Variable, s3KeyVariable, s3SecretVariable)
	}
	p := &place{options: o, names: replica.Names{Env: "bench", Role: "main"}}
	p.url = at.JoinPath("bench-" + strings.ToLower(rand.Text()[:12])).String()
	p.dir, err = os.MkdirTemp(o.dir, "firstseen-bench-*")
	return p, err
}

func (p *place) remove() { _ = os.RemoveAll(p.dir) }

func (p *place) objects(ctx context.Context) (objects.Store, error) {
	return objects.Open(ctx, p.url, objects.Options{Key: os.Getenv(s3KeyVariable), Secret: os.Getenv(s3SecretVariable)})
}

// fresh is the path of a new migrated SQLite database.
func (p *place) fresh(ctx context.Context) (path string, err error) {
	p.files++
	path = filepath.Join(p.dir, fmt.Sprintf("%d.db", p.files))
	return path, migrate(ctx, dsnOf(path))
}

func dsnOf(path string) string { return "sqlite://" + path }

func migrate(ctx context.Context, dsn string) error {
	s, err := store.Open(ctx, store.Options{DSN: dsn})
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	return s.Migrate(ctx)
}

// freshMySQL is a new migrated database of the server that the environment names, empty if it names none.
func freshMySQL(ctx context.Context) (dsn string, drop func(), err error) {
	cfg, err := mysql.ParseDSN(os.Getenv(mysqlVariable))
	if err != nil || os.Getenv(mysqlVariable) == "" {
		return "", func() {}, err
	}
	cfg.DBName = ""
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	name := "firstseen_replica_" + strings.ToLower(rand.Text()[:12])
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		_ = db.Close()
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	drop = func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
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
