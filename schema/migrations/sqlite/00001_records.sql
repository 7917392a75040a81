-- One row for each thing first seen. Times are microseconds since 1970 UTC; hashes and addresses are lower-case hex
-- without 0x; a bare payload has chain 0 and its SHA-256 as key. Status is NULL for bare payloads. The token is the
-- random mark of the offer that inserted the row: it tells the writer whether it was first.

-- +goose Up
CREATE TABLE IF NOT EXISTS records (
  id            INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
  chain         INTEGER NOT NULL,
  "key"         TEXT NOT NULL CHECK (length("key") = 64),
  number        INTEGER NULL,
  parent        TEXT NULL CHECK (length(parent) = 64),
  status        TEXT NULL CHECK (length(status) <= 16),
  block_time    INTEGER NULL,
  observed_at   INTEGER NULL,
  received_at   INTEGER NOT NULL,
  content_type  TEXT NOT NULL CHECK (length(content_type) <= 128),
  payload       BLOB NOT NULL,
  observer      TEXT NULL CHECK (length(observer) <= 64),
  node          TEXT NULL CHECK (length(node) <= 64),
  origin        TEXT NULL CHECK (length(origin) <= 16),
  server        TEXT NOT NULL CHECK (length(server) <= 64),
  remote        TEXT NOT NULL CHECK (length(remote) <= 64),
  token         BLOB NOT NULL CHECK (length(token) = 16)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS records_chain_key ON records (chain, "key");
CREATE INDEX IF NOT EXISTS records_chain_number ON records (chain, number, id);
CREATE INDEX IF NOT EXISTS records_chain_parent ON records (chain, parent);
CREATE INDEX IF NOT EXISTS records_received ON records (received_at, id);
