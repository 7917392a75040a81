-- What observers said besides blocks, as the JSON of their S frames, until the judge has taken it in.

-- +goose Up
CREATE TABLE IF NOT EXISTS reports (
  id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  observer     TEXT NOT NULL CHECK (length(observer) <= 64),
  report       BLOB NOT NULL,
  received_at  INTEGER NOT NULL
) STRICT;
