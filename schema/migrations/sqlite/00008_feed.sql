-- The log of state changes, append only. Seq starts at 1 and has no gaps: it is the one cursor to follow, not an id.

-- +goose Up
CREATE TABLE IF NOT EXISTS feed (
  seq        INTEGER NOT NULL,
  kind       TEXT NOT NULL CHECK (length(kind) <= 16),
  chain      INTEGER NOT NULL,
  "key"      TEXT NULL CHECK (length("key") = 64),
  number     INTEGER NULL,
  to_number  INTEGER NULL,
  status     TEXT NULL CHECK (length(status) <= 16),
  was        TEXT NULL CHECK (length(was) <= 16),
  note       TEXT NULL CHECK (length(note) <= 255),
  at         INTEGER NOT NULL,
  PRIMARY KEY (seq)
) STRICT;
