-- Access keys. The digest is the SHA-256 of the secret in hex; the secret is kept nowhere. Observer is empty for keys that
-- are not an observer's.

-- +goose Up
CREATE TABLE IF NOT EXISTS access_keys (
  id          TEXT NOT NULL CHECK (length(id) <= 64),
  digest      TEXT NOT NULL CHECK (length(digest) = 64),
  scope       TEXT NOT NULL CHECK (length(scope) <= 16),
  observer    TEXT NOT NULL CHECK (length(observer) <= 64),
  label       TEXT NOT NULL CHECK (length(label) <= 255),
  created_at  INTEGER NOT NULL,
  revoked_at  INTEGER NULL,
  PRIMARY KEY (id)
) STRICT, WITHOUT ROWID;
