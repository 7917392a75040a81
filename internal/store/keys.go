package store

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/firstseen/firstseen/schema"
)

// keyRow is one row of access_keys.
type keyRow struct {
	ID        string `gorm:"primaryKey"`
	Digest    string // hex without 0x
	Scope     string
	Observer  string
	Label     string
	CreatedAt int64 `gorm:"autoCreateTime:false"`
	RevokedAt *int64
}

// TableName implements gorm's schema.Tabler.
func (keyRow) TableName() string { return "access_keys" }

func (r keyRow) key() (schema.AccessKey, error) {
	digest, err := schema.ParseHash(r.Digest)
	if err != nil {
		return schema.AccessKey{}, fmt.Errorf("digest of access key %s: %w", r.ID, err)
	}
	k := schema.AccessKey{
		ID: r.ID, Scope: schema.KeyScope(r.Scope), Observer: r.Observer, Label: r.Label,
		CreatedAt: schema.FromMicros(r.CreatedAt), Digest: digest,
	}
	if r.RevokedAt != nil {
		at := schema.FromMicros(*r.RevokedAt)
		k.RevokedAt = &at
	}
	return k, nil
}

// CreateKey stores a key and returns it with the time of its creation. It fails if there is one of that id.
func (s *Store) CreateKey(ctx context.Context, k schema.AccessKey) (schema.AccessKey, error) {
	k.CreatedAt = schema.FromMicros(schema.Micros(s.now()))
	row := keyRow{
		ID: k.ID, Digest: string(k.Digest.Key()), Scope: string(k.Scope), Observer: k.Observer, Label: k.Label,
		CreatedAt: schema.Micros(k.CreatedAt),
	}
	err := s.retried(ctx, func(tx *gorm.DB) error { return tx.Create(&row).Error })
	if err != nil {
		return schema.AccessKey{}, fmt.Errorf("create access key: %w", err)
	}
	return k, nil
}

// Keys returns all access keys, revoked ones included, by the time of their creation.
func (s *Store) Keys(ctx context.Context) ([]schema.AccessKey, error) {
	var rows []keyRow
	if err := s.db.WithContext(ctx).Order("created_at, id").Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read access keys: %w", err)
	}
	return keysOf(rows)
}

// RevokeKey revokes a key for good and returns it, as it is from now on. Revoking it again changes nothing. found is
// false if there is none of that id.
func (s *Store) RevokeKey(ctx context.Context, id string) (k schema.AccessKey, found bool, err error) {
	now := schema.Micros(s.now())
	err = s.retried(ctx, func(tx *gorm.DB) error {
		return tx.Model(&keyRow{}).Where("id = ? AND revoked_at IS NULL", id).Update("revoked_at", now).Error
	})
	if err != nil {
		return schema.AccessKey{}, false, fmt.Errorf("revoke access key: %w", err)
	}
	return s.LookupKey(ctx, id)
}

// LookupKey returns the key of that id, revoked or not; found is false if there is none.
func (s *Store) LookupKey(ctx context.Context, id string) (k schema.AccessKey, found bool, err error) {
	all, err := s.LookupKeys(ctx, []string{id})
	if err != nil || len(all) == 0 {
		return schema.AccessKey{}, false, err
	}
	return all[0], true, nil
}

// LookupKeys returns those of the given keys that exist, revoked or not, in any order. At most some hundred are asked for
// at once.
func (s *Store) LookupKeys(ctx context.Context, ids []string) ([]schema.AccessKey, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupWithin)
	defer cancel()
	var rows []keyRow
	if err := s.db.WithContext(ctx).Where("id IN ?", ids).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("look up access keys: %w", err)
	}
	return keysOf(rows)
}

func keysOf(rows []keyRow) ([]schema.AccessKey, error) {
	out := make([]schema.AccessKey, len(rows))
	for i, r := range rows {
		var err error
		if out[i], err = r.key(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// lookupWithin bounds one look-up, so that a database that hangs is known in time to be unable to vouch for anybody.
const lookupWithin = 3 * time.Second
