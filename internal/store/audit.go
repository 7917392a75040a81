package store

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json"
	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// auditRow is one thing that an operator did by hand.
type auditRow struct {
	ID     uint64 `gorm:"primaryKey"`
	At     int64
	Actor  string
	Action string
	Detail []byte
}

func (auditRow) TableName() string { return "audit" }

// maxActor is what the table holds of an actor, in characters.
const maxActor = 255

// noteAudit adds an entry to the audit, in the transaction of what it tells of.
func noteAudit(tx *gorm.DB, e schema.AuditEntry) error {
	actor := []rune(e.Actor)
	row := auditRow{
		At: schema.Micros(e.At), Actor: string(actor[:min(len(actor), maxActor)]), Action: e.Action, Detail: []byte(e.Detail),
	}
	if err := tx.Create(&row).Error; err != nil {
		return fmt.Errorf("write audit: %w", err)
	}
	return nil
}

// Audit returns what operators did to this database by hand, the latest first.
func (s *Store) Audit(ctx context.Context, limit int) ([]schema.AuditEntry, error) {
	var rows []auditRow
	if err := s.db.WithContext(ctx).Order("id DESC").Limit(limit).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read audit: %w", err)
	}
	out := make([]schema.AuditEntry, len(rows))
	for i, r := range rows {
		out[i] = schema.AuditEntry{At: schema.FromMicros(r.At), Actor: r.Actor, Action: r.Action, Detail: string(r.Detail)}
	}
	return out, nil
}

// auditDetail is a detail's JSON.
func auditDetail(detail any) (string, error) {
	text, err := json.Marshal(detail)
	if err != nil {
		return "", fmt.Errorf("write audit: %w", err)
	}
	return string(text), nil
}
