package invariants

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/firstseen/firstseen/schema"
)

// Row is one record of a chain.
type Row struct {
	ID         uint64
	Chain      uint64
	Key        schema.Key
	Number     uint64
	Status     schema.Status
	Payload    []byte
	Observer   string // who was first
	ReceivedAt int64
	Token      string
	Observers  []string // whose observations of it are stored
}

// Tables is what a database holds. It can be read while servers write.
type Tables struct {
	Rows []Row
	Feed []schema.FeedEvent
}

// ReadTables reads a firstseen database of either dialect in one snapshot. Records of bare payloads are left out.
func ReadTables(ctx context.Context, db *sql.DB) (t Tables, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return t, fmt.Errorf("read tables: %w", err)
	}
	defer func() { _ = tx.Rollback() }() // nothing was written
	err = each(ctx, tx, "SELECT id, chain, `key`, number, status, payload, observer, received_at, token FROM records WHERE chain <> 0",
		func(scan func(...any) error) error {
			var r Row
			var token []byte
			err := scan(&r.ID, &r.Chain, &r.Key, &r.Number, &r.Status, &r.Payload, &r.Observer, &r.ReceivedAt, &token)
			r.Token = string(token)
			t.Rows = append(t.Rows, r)
			return err
		})
	observers := map[uint64][]string{}
	if err == nil {
		err = each(ctx, tx, "SELECT record, observer FROM observations", func(scan func(...any) error) error {
			var id uint64
			var observer string
			err := scan(&id, &observer)
			observers[id] = append(observers[id], observer)
			return err
		})
	}
	for i := range t.Rows {
		t.Rows[i].Observers = observers[t.Rows[i].ID]
	}
	if err == nil {
		err = each(ctx, tx, "SELECT seq, kind, chain, `key`, status, was FROM feed ORDER BY seq", func(scan func(...any) error) error {
			var e schema.FeedEvent
			var key, status, was sql.NullString
			err := scan(&e.Seq, &e.Kind, &e.Chain, &key, &status, &was)
			e.Key, e.Status, e.Was = schema.Key(key.String), schema.Status(status.String), schema.Status(was.String)
			t.Feed = append(t.Feed, e)
			return err
		})
	}
	if err != nil {
		return t, fmt.Errorf("read tables: %w", err)
	}
	return t, nil
}

// each calls visit for every row of a query.
func each(ctx context.Context, tx *sql.Tx, query string, visit func(scan func(...any) error) error) error {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := visit(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}

// Absent returns those of the keys that no committed record of the database has.
func Absent(ctx context.Context, db *sql.DB, keys []schema.Key) ([]schema.Key, error) {
	var absent []schema.Key
	for _, key := range keys {
		var n int
		if err := db.QueryRowContext(ctx, "SELECT COUNT(*) FROM records WHERE chain <> 0 AND `key` = ?", string(key)).Scan(&n); err != nil {
			return nil, fmt.Errorf("look for record: %w", err)
		}
		if n == 0 {
			absent = append(absent, key)
		}
	}
	return absent, nil
}
