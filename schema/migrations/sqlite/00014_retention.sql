-- Up to which record, by id, each kind of pruning has been done.

-- +goose Up
CREATE TABLE IF NOT EXISTS retention (
  name   TEXT NOT NULL CHECK (length(name) <= 32),
  up_to  INTEGER NOT NULL,
  PRIMARY KEY (name)
) STRICT, WITHOUT ROWID;
