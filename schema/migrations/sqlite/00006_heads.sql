-- The latest report of each observer about each chain, and its head in the report before.

-- +goose Up
CREATE TABLE IF NOT EXISTS heads (
  chain             INTEGER NOT NULL,
  observer          TEXT NOT NULL CHECK (length(observer) <= 64),
  node              TEXT NOT NULL CHECK (length(node) <= 64),
  head_key          TEXT NOT NULL CHECK (length(head_key) = 64),
  head_number       INTEGER NOT NULL,
  before_key        TEXT NULL CHECK (length(before_key) = 64),
  before_number     INTEGER NULL,
  safe_key          TEXT NULL CHECK (length(safe_key) = 64),
  safe_number       INTEGER NULL,
  finalized_key     TEXT NULL CHECK (length(finalized_key) = 64),
  finalized_number  INTEGER NULL,
  reported_at       INTEGER NOT NULL,
  PRIMARY KEY (chain, observer)
) STRICT, WITHOUT ROWID;
