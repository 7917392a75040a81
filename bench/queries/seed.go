package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/firstseen/firstseen/internal/store"
)

const (
	mysqlVariable = "FIRSTSEEN_TEST_MYSQL_DSN"
	seedChain     = 1
	seedAccounts  = 1000
)

// freshDatabase creates a migrated database.
func freshDatabase(ctx context.Context) (string, func(), error) {
	cfg, err := mysql.ParseDSN(os.Getenv(mysqlVariable))
	if err != nil || os.Getenv(mysqlVariable) == "" {
		return "", nil, fmt.Errorf("set %s to a DSN like root@tcp(127.0.0.1:3306)/, or run `make bench`", mysqlVariable)
	}
	cfg.DBName = ""
	db, err := sql.Open("mysql", cfg.FormatDSN())
	if err != nil {
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	name := "firstseen_queries_" + strings.ToLower(rand.Text()[:12])
	if _, err := db.ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		_ = db.Close()
		return "", nil, fmt.Errorf("create database: %w", err)
	}
	drop := func() {
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_, _ = db.ExecContext(late, "DROP DATABASE "+name)
		_ = db.Close()
	}
	cfg.DBName = name
	s, err := store.Open(ctx, store.Options{DSN: cfg.FormatDSN()})
	if err == nil {
		err = s.Migrate(ctx)
		_ = s.Close()
	}
	if err != nil {
		drop()
		return "", nil, err
	}
	return cfg.FormatDSN(), drop, nil
}

// table is how one table is filled: the select gives the rows of the blocks n of numbers.
type table struct{ name, fill string }

// tables make one chain of blocks, seen by five observers through seven nodes, with a transaction each: a quarter of them
// from one account, the rest from and to a thousand. The database makes the rows itself, so that nothing is sent.
func tables() []table {
	const hash, parent = "SHA2(CONCAT('block ', n), 256)", "SHA2(CONCAT('block ', n - 1), 256)"
	const micros = "1700000000000000 + n * 12000000"
	return []table{
		{"records", "INSERT INTO records (id, chain, `key`, number, parent, status, block_time, observed_at, received_at, " +
			"content_type, payload, observer, node, origin, server, remote, token) SELECT n, 1, " + hash + ", n, " + parent +
			", IF(n % 100 = 0, 'orphaned', 'finalized'), " + micros + ", " + micros + " + 300000, " + micros + " + 350000, " +
			"'text/html; charset=utf-8', REPEAT('x', 200), CONCAT('observer-', n % 5), CONCAT('geth-', n % 7), 'head', " +
			"CONCAT('server-', n % 3), '192.0.2.1', UNHEX(MD5(n)) FROM numbers"},
		{"observations", "INSERT INTO observations (record, observer, node, server, origin, observed_at, received_at) " +
			"SELECT n, CONCAT('observer-', n % 5), CONCAT('geth-', n % 7), CONCAT('server-', n % 3), 'head', " + micros +
			" + 300000, " + micros + " + 350000 FROM numbers"},
		{"transactions", "INSERT INTO transactions (chain, block, hash, number, tx_index, sender, recipient, value, gas_used, " +
			"tx_status) SELECT 1, " + hash + ", SHA2(CONCAT('transaction ', n), 256), n, 0, " + account("IF(n % 4 = 0, 0, n % 1000)") +
			", " + account("(n * 7 + 1) % 1000") + ", UNHEX(LPAD(HEX(n), 64, '0')), 21000, 1 FROM numbers"},
		{"feed", "INSERT INTO feed (seq, kind, chain, `key`, number, status, at) SELECT n, 'block', 1, " + hash + ", n, " +
			"'canonical', " + micros + " FROM numbers"},
	}
}

// account is SQL for the address of the account of a number.
func account(number string) string { return "SHA1(CONCAT('account ', " + number + "))" }

// seed fills a migrated database. Secondary indexes are built after the rows, which is much faster.
func seed(ctx context.Context, dsn string, rows int) error {
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	defer func() { _ = db.Close() }()
	begun := time.Now()
	if err := number(ctx, db, rows); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	var work errgroup.Group
	work.SetLimit(2)
	for _, t := range tables() {
		work.Go(func() error {
			if err := fill(ctx, db, t); err != nil {
				return fmt.Errorf("seed %s: %w", t.name, err)
			}
			fmt.Fprintf(os.Stderr, "%s: %d rows, %v since the start\n", t.name, rows, time.Since(begun).Round(time.Second))
			return nil
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	for _, statement := range []string{
		"DROP TABLE numbers",
		fmt.Sprintf("UPDATE feed_counter SET last_seq = %d WHERE id = 1", rows),
		fmt.Sprintf("INSERT INTO chains (chain, root_key, root_number, root_parent, head_key, head_number, safe_number, "+
			"finalized_number) SELECT %d, SHA2('block 1', 256), 1, SHA2('block 0', 256), SHA2('block %d', 256), %d, %d, %d",
			seedChain, rows, rows, rows, rows),
		"ANALYZE TABLE records, observations, transactions, feed",
	} {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	return nil
}

// number makes a table of the numbers from 1 to rows: ten, and then each ten times as many, crossed with themselves.
func number(ctx context.Context, db *sql.DB, rows int) error {
	statements := []string{
		"DROP TABLE IF EXISTS numbers, digits",
		"CREATE TABLE digits (d INT NOT NULL PRIMARY KEY)",
		"INSERT INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
		"CREATE TABLE numbers (n BIGINT NOT NULL PRIMARY KEY)",
		fmt.Sprintf("INSERT INTO numbers SELECT n FROM (SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * d.d + 10000 * e.d + "+
			"100000 * f.d + 1000000 * g.d AS n FROM digits g, digits f, digits e, digits d, digits c, digits b, digits a) AS all_n "+
			"WHERE n <= %d ORDER BY n", rows),
		"DROP TABLE digits",
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

func fill(ctx context.Context, db *sql.DB, t table) error {
	indexes, err := secondaryIndexes(ctx, db, t.name)
	if err != nil {
		return err
	}
	var drops, adds []string
	for _, i := range indexes {
		kind := "INDEX"
		if i.unique {
			kind = "UNIQUE INDEX"
		}
		drops = append(drops, "DROP INDEX "+i.name)
		adds = append(adds, fmt.Sprintf("ADD %s %s (%s)", kind, i.name, i.columns))
	}
	statements := []string{t.fill + " ORDER BY n"}
	if len(indexes) > 0 {
		statements = []string{
			"ALTER TABLE " + t.name + " " + strings.Join(drops, ", "), t.fill + " ORDER BY n",
			"ALTER TABLE " + t.name + " " + strings.Join(adds, ", "),
		}
	}
	for _, statement := range statements {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}

type index struct {
	name    string
	unique  bool
	columns string
}

// secondaryIndexes reads a table's indexes but the primary one, so that they can be put back as they were.
func secondaryIndexes(ctx context.Context, db *sql.DB, table string) ([]index, error) {
	rows, err := db.QueryContext(ctx, "SELECT index_name, MAX(non_unique) = 0, "+
		"GROUP_CONCAT(CONCAT('`', column_name, '`') ORDER BY seq_in_index) FROM information_schema.statistics "+
		"WHERE table_schema = DATABASE() AND table_name = ? AND index_name <> 'PRIMARY' GROUP BY index_name", table)
	if err != nil {
		return nil, fmt.Errorf("read indexes: %w", err)
	}
	defer func() { _ = rows.Close() }()
	var out []index
	for rows.Next() {
		var i index
		if err := rows.Scan(&i.name, &i.unique, &i.columns); err != nil {
			return nil, fmt.Errorf("read indexes: %w", err)
		}
		out = append(out, i)
	}
	return out, rows.Err()
}
