-- What operators did to this database by hand. Detail is JSON.

-- +goose Up
CREATE TABLE IF NOT EXISTS audit (
  id      INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  at      INTEGER NOT NULL,
  actor   TEXT NOT NULL CHECK (length(actor) <= 255),
  action  TEXT NOT NULL CHECK (length(action) <= 32),
  detail  BLOB NOT NULL
) STRICT;
