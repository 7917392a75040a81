package store

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/firstseen/firstseen/schema"
)

// Demo is a database of the original demo: one table, ethereum_data, of payloads and the SHA-256 of each. It is only read.
type Demo struct {
	source source
	pool   *sql.DB
}

// DemoRow is one payload. Hash is what the demo stored; whether it is the payload's is for the reader to see.
type DemoRow struct {
	ID      uint64
	Hash    string
	Payload []byte
}

// OpenDemo connects to a demo's database, named as Options.DSN names one. It fails if the table is not there.
func OpenDemo(ctx context.Context, dsn string) (*Demo, error) {
	src, err := parseDSN(dsn)
	if err != nil {
		return nil, err
	}
	connector, err := src.connector()
	if err != nil {
		return nil, err
	}
	d := &Demo{source: src, pool: newPool(src, connector)}
	if _, err := d.Rows(ctx, 0, 1); err != nil {
		_ = d.Close()
		if noTable(err) {
			err = fmt.Errorf("%s has no table ethereum_data: it is no database of the demo", src)
		}
		return nil, err
	}
	return d, nil
}

// String names the database without its password.
func (d *Demo) String() string { return d.source.String() }

// Rows returns up to limit rows whose id is above after, by id.
func (d *Demo) Rows(ctx context.Context, after uint64, limit int) ([]DemoRow, error) {
	rows, err := d.pool.QueryContext(ctx, "SELECT id, hash, payload FROM ethereum_data WHERE id > ? ORDER BY id LIMIT ?", after, limit)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", d.source, err)
	}
	defer func() { _ = rows.Close() }()
	var out []DemoRow
	for rows.Next() {
		var r DemoRow
		var hash sql.NullString
		if err := rows.Scan(&r.ID, &hash, &r.Payload); err != nil {
			return nil, fmt.Errorf("read %s: %w", d.source, err)
		}
		r.Hash = hash.String
		out = append(out, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read %s: %w", d.source, err)
	}
	return out, nil
}

// Close ends the connection.
func (d *Demo) Close() error { return d.pool.Close() }

// importRow is a mark of what was imported.
type importRow struct {
	Source     string `gorm:"primaryKey"`
	ImportedAt int64
}

func (importRow) TableName() string { return "imports" }

// AddClients adds counts that were made elsewhere to those of bare payloads by address, once for each source: another time
// it changes nothing and returns false. A source is at most 128 bytes of printable ASCII.
func (s *Store) AddClients(ctx context.Context, source string, counts []schema.ClientCount) (added bool, err error) {
	rows := make([]clientRow, len(counts))
	for i, c := range counts {
		rows[i] = clientRow{IP: c.IP, Count: c.Count}
	}
	slices.SortFunc(rows, func(a, b clientRow) int { return cmp.Compare(a.IP, b.IP) })
	mark := importRow{Source: source, ImportedAt: schema.Micros(s.now())}
	err = s.retried(ctx, func(tx *gorm.DB) error {
		marked := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&mark)
		added = marked.RowsAffected > 0
		if marked.Error != nil || !added || len(rows) == 0 {
			return marked.Error
		}
		return tx.Clauses(s.dialect.countClients()).Create(&rows).Error
	})
	if err != nil {
		return false, fmt.Errorf("add clients: %w", err)
	}
	return added, nil
}
