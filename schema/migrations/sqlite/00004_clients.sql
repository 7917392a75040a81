-- How many bare payloads came from each address.

-- +goose Up
CREATE TABLE IF NOT EXISTS clients (
  ip     TEXT NOT NULL CHECK (length(ip) <= 64),
  count  INTEGER NOT NULL,
  PRIMARY KEY (ip)
) STRICT, WITHOUT ROWID;
