-- Who saw a record, and when: the first arrival of each observer.

-- +goose Up
CREATE TABLE IF NOT EXISTS observations (
  record       INTEGER NOT NULL,
  observer     TEXT NOT NULL CHECK (length(observer) <= 64),
  node         TEXT NOT NULL CHECK (length(node) <= 64),
  server       TEXT NOT NULL CHECK (length(server) <= 64),
  origin       TEXT NOT NULL CHECK (length(origin) <= 16),
  observed_at  INTEGER NOT NULL,
  received_at  INTEGER NOT NULL,
  PRIMARY KEY (record, observer)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS observations_observer ON observations (observer, received_at);
