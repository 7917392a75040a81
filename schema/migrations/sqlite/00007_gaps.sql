-- Ranges of heights, both ends included, that an observer will not deliver.

-- +goose Up
CREATE TABLE IF NOT EXISTS gaps (
  chain        INTEGER NOT NULL,
  observer     TEXT NOT NULL CHECK (length(observer) <= 64),
  from_number  INTEGER NOT NULL,
  to_number    INTEGER NOT NULL,
  reason       TEXT NOT NULL CHECK (length(reason) <= 255),
  reported_at  INTEGER NOT NULL,
  PRIMARY KEY (chain, observer, from_number, to_number)
) STRICT, WITHOUT ROWID;
